"""`trencadis import`: published image tokenizers as models of ours. The module cannot be named as its command is."""

import jsonargparse

from trencadis.cli.arguments import MAX_SIDE, any_path, integer, output_directory
from trencadis.console import say, say_json

HELP = "takes over a published image tokenizer; runs nothing that its files hold"

KINDS = ("openai-dvae", "taming-vqgan")


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("kind", choices=KINDS, help="whose files they are")
    about = "the files as they are published: encoder.pkl and decoder.pkl or their folder; or one .ckpt"
    add("paths", nargs="+", metavar="PATH", type=any_path(), help=about)
    add("--out", required=True, type=output_directory(), help="folder for the model; empty, or not there yet")
    about = "height and width of its pictures, in pixels"
    add("--image-size", type=integer(1, MAX_SIDE, example=256), default=256, help=about)
    add("--json", action="store_true", help="prints what was imported as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    from trencadis.importers import import_image_tokenizer

    side: int = arguments.image_size
    imported = import_image_tokenizer(arguments.kind, arguments.paths, arguments.out, (side, side))
    if arguments.json:
        say_json(imported.as_dict())
        return 0
    rows, columns = imported.grid_size
    say(f"{imported.out}   DiscreteVAE, from {imported.kind}")
    say(f"  {'pictures':<12}{side}×{side} pixels")
    say(f"  {'tokens':<12}{rows}×{columns} of {imported.image_vocab_size:,}, {imported.codes}")
    say(f"  {'parameters':<12}{imported.parameters:,}")
    for name, digest in imported.files:
        say(f"  {name:<12}SHA-256 {digest}")
    return 0
