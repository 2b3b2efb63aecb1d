"""`trencadis label`: says which of some captions fits a picture."""

from typing import Any

import jsonargparse

from trencadis.cli.arguments import add_model, existing_file, output_sheet, text
from trencadis.console import say, say_json

HELP = "says which of some captions fits a picture, by the model that draws"


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("image", type=existing_file(), help="a picture of any size")
    about = "what it may show; with a single one, see what the caption adds"
    add("captions", nargs="+", metavar="CAPTION", type=text(), help=about)
    add_model(parser)
    about = "write how surprising each token is, with the best caption and without; only a sheet is replaced"
    add("--heat-map", type=output_sheet(), metavar="FILE", help=about)
    add("--json", action="store_true", help="print the captions as JSON")


def run(arguments: jsonargparse.Namespace) -> int:
    """Print the captions, best first; each share is of these captions alone."""
    from trencadis.data import read_picture
    from trencadis.pipeline import DALLE
    from trencadis.report.heat_map import surprise_sheet
    from trencadis.storage import write_sheet

    picture = read_picture(arguments.image)
    model = DALLE.from_pretrained(arguments.model, revision=arguments.revision)
    scores = model.score([picture], arguments.captions)
    alone, order = float(scores.without_caption[0]), scores.shares[0].argsort(descending=True, stable=True).tolist()
    rows = [
        {
            "caption": arguments.captions[index],
            "share": float(scores.shares[0, index]),
            "log_probability": float(scores.log_probabilities[0, index]),
            "added": float(scores.added[0, index]),
        }
        for index in order
    ]
    if arguments.heat_map is not None:
        best = arguments.captions[order[0]]
        write_sheet(arguments.heat_map, surprise_sheet(picture, model.surprise(picture, best), best))
    if arguments.json:
        heat_map = None if arguments.heat_map is None else str(arguments.heat_map)
        image = {"image": str(arguments.image), "log_probability_without_caption": alone}
        say_json(image | {"captions": rows, "heat_map": heat_map})
    else:
        _print(rows, alone)
    return 0


def _print(rows: list[dict[str, Any]], alone: float) -> None:
    say("  share       ln p      added   caption")
    for row in rows:
        share, added = f"{row['share']:.1%}".replace("%", " %"), f"{row['added']:+.2f}"
        say(f"{share:>7}   {row['log_probability']:8.2f}   {added:>8}   {row['caption'] or '(none)'}")
    say(f"          {alone:8.2f}              without a caption")
