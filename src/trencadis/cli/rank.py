"""`trencadis rank`: orders pictures by how well they fit a prompt."""

import json
from pathlib import Path

import jsonargparse

from trencadis.cli.arguments import add_model, existing_file, integer

HELP = "orders pictures by how well they fit a prompt"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", type=str, help="what the pictures should show")
    add("images", nargs="+", metavar="IMAGE", type=existing_file(), help="PNG, JPEG or WebP")
    add_model(parser)
    add("--keep", type=integer(1), help="print the best ones only (default: all)")
    add("--json", action="store_true", help="print the order as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    import torch
    from PIL import Image, ImageOps

    from trencadis.data import read_picture
    from trencadis.data.pixels import to_tensor
    from trencadis.errors import ModelError
    from trencadis.pipeline import DALLE
    from trencadis.ranking import rank

    paths: list[Path] = arguments.images
    model = DALLE.from_pretrained(arguments.model, revision=arguments.revision)
    if model.ranker is None:
        raise ModelError(f"{arguments.model} has no ranker", expected="a model with one", remedy="name another --model")
    height, width = model.image_tokenizer.image_size
    # One original at a time is held; they may be far larger than what the model sees of them.
    fitted = [to_tensor(ImageOps.fit(read_picture(p), (width, height), Image.Resampling.LANCZOS)) for p in paths]
    keep = len(paths) if arguments.keep is None else arguments.keep
    ranked = rank(torch.stack(fitted), arguments.prompt, ranker=model.ranker, keep=keep)
    rows = [(paths[index], score) for index, score in zip(ranked.order.tolist(), ranked.scores.tolist(), strict=True)]
    if arguments.json:
        order = [{"path": str(path), "score": score} for path, score in rows]
        print(json.dumps({"prompt": arguments.prompt, "order": order}, ensure_ascii=False))
    else:
        for path, score in rows:
            print(f"{score:.3f}   {path}")
    return 0
