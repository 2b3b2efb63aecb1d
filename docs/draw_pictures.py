"""Draws the README's picture with the shipped model: `python docs/draw_pictures.py`."""

from pathlib import Path

from trencadis import DALLE
from trencadis.data.sheet import contact_sheet
from trencadis.storage import write_picture

PROMPTS = (
    "a red heart, 3D style",
    "a yellow face with tears of joy, Twemoji style",
    "a green apple, flat style",
    "a blue square, Noto style",
    "a red car, Noto style",
    "the flag of France",
    "a woman with red hair, 3D style",
    "a crescent moon, Twemoji style",
    "an orange cat, Noto style",
    "a purple heart, flat style",
    "a snowman, 3D style",
    "a slice of pizza, Twemoji style",
    "a sunflower, 3D style",
    "a green circle, flat style",
    "a police officer, Noto style",
    "the flag of Japan",
)
COLUMNS = 8


def main() -> None:
    """Write `docs/images/drawn.png`: of each prompt the best of 32 candidates by CLIP; nothing is chosen by hand."""
    model = DALLE.from_pretrained("emoji")
    best = [model.generate(prompt, candidates=32, keep=1, seed=7).images[0] for prompt in PROMPTS]
    sheet = contact_sheet(best, PROMPTS, COLUMNS, tile_size=112, label_lines=3)
    write_picture(Path(__file__).parent / "images" / "drawn.png", sheet)


if __name__ == "__main__":
    main()
