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
)
KEPT = 2


def main() -> None:
    """Write `docs/images/drawn.png`: each prompt's best pictures, one under the other."""
    model = DALLE.from_pretrained("emoji")
    drawn = [model.generate(prompt, candidates=32, keep=KEPT, seed=7) for prompt in PROMPTS]
    images = [each.images[rank] for rank in range(KEPT) for each in drawn]
    labels = [prompt if rank == KEPT - 1 else "" for rank in range(KEPT) for prompt in PROMPTS]
    sheet = contact_sheet(images, labels, len(PROMPTS), tile_size=112, label_lines=3)
    write_picture(Path(__file__).parent / "images" / "drawn.png", sheet)


if __name__ == "__main__":
    main()
