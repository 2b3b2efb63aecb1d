"""`trencadis rank`: orders pictures by how well they fit a prompt."""

from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from trencadis.cli.arguments import add_model, existing_path, integer, text
from trencadis.cli.pictures import Pictures
from trencadis.console import say, say_json

if TYPE_CHECKING:
    from torch import Tensor

HELP = "orders pictures by how well they fit a prompt"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("prompt", type=text(), help="what the pictures should show")
    existing = existing_path("a picture or a folder that exists")
    add("images", nargs="+", metavar="IMAGE", type=existing, help="pictures, and folders of them at any depth")
    add_model(parser)
    about = "CLIP, the likelihood that the caption adds, or both; scores of both hold for these pictures only"
    add("--by", choices=["clip", "likelihood", "both"], default="clip", help=about)
    add("--keep", type=integer(1), help="print the best ones only (default: all)")
    add("--json", action="store_true", help="print the order as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    from trencadis.errors import ModelError, PromptError
    from trencadis.pipeline import DALLE
    from trencadis.ranking import rank

    if not arguments.prompt.strip():
        raise PromptError("an empty prompt", expected="words", remedy="say what the pictures should show")
    pictures = Pictures(arguments.images)
    model = DALLE.from_pretrained(arguments.model, revision=arguments.revision)
    if model.ranker is None and arguments.by != "likelihood":
        expected = "a model with one, or --by likelihood"
        raise ModelError(f"{arguments.model} has no ranker", expected=expected, remedy="name another --model")
    paths, images = _read(pictures, model.image_tokenizer.drawn_size)
    keep = len(paths) if arguments.keep is None else arguments.keep
    ranked = rank(images, arguments.prompt, ranker=model.ranker_by(arguments.by), keep=keep)
    rows = [(paths[index], score) for index, score in zip(ranked.order.tolist(), ranked.scores.tolist(), strict=True)]
    pictures.tell_left_out()
    if arguments.json:
        order = [{"path": str(path), "score": score} for path, score in rows]
        left_out = [{"path": str(each.path), "reason": each.reason} for each in pictures.left_out]
        say_json({"prompt": arguments.prompt, "order": order, "left_out": left_out})
    else:
        say(*(f"{score:.3f}   {path}" for path, score in rows))
    return 0


def _read(pictures: Pictures, image_size: tuple[int, int]) -> "tuple[list[Path], Tensor]":
    """Return the paths, and the pictures cut to a size."""
    import torch

    from trencadis.data.pixels import to_tensor
    from trencadis.progress import track

    paths, images = [], []
    for path, picture in track(pictures.fitted(image_size), "reading pictures", len(pictures)):
        paths.append(path)
        images.append(to_tensor(picture))
    return paths, torch.stack(images)
