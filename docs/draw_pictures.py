"""Draws the pictures of the README and the documentation: `python docs/draw_pictures.py`."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw

from trencadis import DALLE
from trencadis.data.contact_sheet import contact_sheet
from trencadis.storage import write_picture
from trencadis.stream import Stream
from trencadis.transformer.masks import Pattern, image_to_image

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

IMAGES = Path(__file__).parent / "images"
PATTERNS: tuple[Pattern, ...] = ("row", "column", "convolutional", "full")
GRID, QUERY, KERNEL_SIZE, TILE = 16, 8 * 16 + 6, 11, 14
UNSEEN, SEEN, ITSELF = "#e8e6e1", "#4c78a8", "#e45756"


def main() -> None:
    """Write all of them."""
    write_picture(IMAGES / "patterns.png", patterns())
    draw_prompts()


def patterns() -> Image.Image:
    """Show which image tokens the red one sees in each kind of layer, from the masks' definition."""
    stream, side = Stream(1, 1, (GRID, GRID), 1), GRID * TILE
    picture = Image.new("RGB", (len(PATTERNS) * (side + TILE) - TILE, side + 2 * TILE), "white")
    pen = ImageDraw.Draw(picture)
    for number, pattern in enumerate(PATTERNS):
        left = number * (side + TILE)
        seen = image_to_image(pattern, stream, kernel_size=KERNEL_SIZE)[QUERY]
        for index in torch.arange(stream.image_len).tolist():
            row, column = divmod(index, GRID)
            corner = left + column * TILE, row * TILE
            colour = ITSELF if index == QUERY else SEEN if seen[index] else UNSEEN
            pen.rectangle((*corner, corner[0] + TILE - 2, corner[1] + TILE - 2), fill=colour)
        pen.text((left + side / 2, side + TILE), pattern, fill="black", anchor="mm", font_size=TILE + 2)
    return picture


def draw_prompts() -> None:
    """Write `drawn.png`: for each prompt, CLIP's best of 32 candidates; nothing is chosen by hand."""
    model = DALLE.from_pretrained("emoji")
    best = [model.generate(prompt, candidates=32, keep=1, seed=7).images[0] for prompt in PROMPTS]
    sheet = contact_sheet(best, PROMPTS, COLUMNS, tile_size=112, label_lines=3)
    write_picture(IMAGES / "drawn.png", sheet)


if __name__ == "__main__":
    main()
