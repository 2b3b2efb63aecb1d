"""Draw a contact sheet of a built dataset: the same things in every style, and in other colours.

python examples/emoji/sheet.py emoji/train --out sheet.png
"""

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

# The last two exist in four styles each, and share a row.
THINGS = ("rocket", "octopus", "princess", "hamburger", "woman astronaut: dark skin tone", "flag: Japan")
STYLES = ("3d", "flat", "noto", "twemoji", "emojione", "fxemoji", "noto-v1", "streamline")
COLOURS = ("purple", "blue", "green", "turquoise")
CELL_WIDTH, CELL_HEIGHT, SIDE = 132, 134, 90
COLUMNS = 8


def choose(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose each thing in each style, and the first four pictures of each colour."""
    plain = {(row["label"], row["style"]): row for row in rows if "colour" not in row or row["weight"] == 1}
    chosen = [plain[key] for thing in THINGS for style in STYLES if (key := (thing, style)) in plain]
    for colour in COLOURS:
        recoloured = [
            row for row in rows if row.get("colour") == colour and row["file_name"].endswith(f"-{colour}.webp")
        ]
        by_label = {row["label"]: row for row in recoloured[:: max(1, len(recoloured) // 12)]}
        chosen += list(by_label.values())[:4]
    return chosen[: len(chosen) // COLUMNS * COLUMNS]


def sheet(folder: Path, rows: Sequence[dict[str, Any]], columns: int = COLUMNS) -> Image.Image:
    """Draw pictures and their first captions in a grid."""
    picture = Image.new("RGB", (columns * CELL_WIDTH, -(-len(rows) // columns) * CELL_HEIGHT), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    for number, row in enumerate(rows):
        left, top = number % columns * CELL_WIDTH, number // columns * CELL_HEIGHT
        tile = Image.open(folder / row["file_name"]).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        picture.paste(tile, (left + (CELL_WIDTH - SIDE) // 2, top + 4))
        text = "\n".join(textwrap.wrap(row["captions"][0], 23)[:3])
        pen.multiline_text((left + CELL_WIDTH // 2, top + SIDE + 6), text, "black", font, "ma", 0, align="center")
    return picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Draw a contact sheet of a built dataset.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder with metadata.jsonl")
    parser.add_argument(
        "--out", type=Path, default=Path("sheet.png"), metavar="FILE", help="picture to write (sheet.png)"
    )
    options = parser.parse_args(arguments)
    listing = options.folder / "metadata.jsonl"
    if not listing.is_file():
        print(f"sheet.py: {listing} is not there: give the train/ or heldout/ folder of a build", file=sys.stderr)
        return 2
    rows = [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]
    sheet(options.folder, choose(rows)).save(options.out, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
