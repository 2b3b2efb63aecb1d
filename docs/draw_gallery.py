"""Draws the gallery: `python docs/draw_gallery.py` writes `gallery.md` and its pictures.

The prompts are in `gallery_prompts.json`: captions that the shipped model was trained on and held-out ones, both chosen
by a hash of their file's name, and invented ones, chosen before the model was trained. Everything drawn is shown.
"""

import argparse
import json
from pathlib import Path

from trencadis import DALLE
from trencadis.data.contact_sheet import contact_sheet
from trencadis.progress import progress
from trencadis.storage import write_picture, write_whole

DOCS = Path(__file__).parent
SEED, CANDIDATES, COLUMNS, AT_ONCE = 7, 8, 8, 8

SECTIONS = {
    "seen": "Captions that the model was trained on.",
    "colour cells": "Things that it has seen, in colours that it has never seen them in.",
    "role cells": "Roles that it has seen, with a gender and skin tone that it has never seen them with.",
    "style cells": "Things that it has seen, in a style that it has never seen them in.",
    "concepts never seen": "Things that it has never seen in any style: here it can only guess.",
    "invented": "Prompts that somebody might try. No drawing of the dataset has these captions.",
}


def main() -> None:
    """Draw every section."""
    parser = argparse.ArgumentParser(description="Draws the gallery of the shipped model.")
    parser.add_argument("--model", default="emoji", help="shipped model or directory (emoji)")
    model = DALLE.from_pretrained(parser.parse_args().model)
    prompts: dict[str, list[str]] = json.loads((DOCS / "gallery_prompts.json").read_text("utf-8"))
    sections = []
    with progress("drawing", sum(map(len, prompts.values()))) as advance:
        for section, texts in prompts.items():
            images = []
            for start in range(0, len(texts), AT_ONCE):
                some = texts[start : start + AT_ONCE]
                drawn = model.generate(some, candidates=CANDIDATES, keep=1, seed=SEED)
                images += [each.images[0] for each in drawn]
                advance(len(some))
            name = f"images/gallery-{section.replace(' ', '-')}.png"
            write_picture(DOCS / name, contact_sheet(images, texts, COLUMNS, tile_size=112, label_lines=3))
            sections.append(f"## {section.capitalize()}\n\n{SECTIONS[section]}\n\n![{section}]({name})\n")
    write_whole(DOCS / "gallery.md", head() + "\n".join(sections))


def head() -> str:
    """Return what stands above the pictures."""
    seeds = f"{SEED} to {SEED + CANDIDATES - 1}"
    return (
        "# Gallery\n\n"
        "What the shipped model draws, failures too. `python docs/draw_gallery.py` draws this page: the best of\n"
        f"{CANDIDATES} candidates by the model's own ranking, with its own settings and the seeds {seeds}. Nothing is\n"
        "chosen by hand: of the prompts, the first five groups were chosen by a hash of the dataset's file names, and\n"
        "the invented ones before the model was trained.\n\n"
    )


if __name__ == "__main__":
    main()
