"""Captioned drawings to train and test on: coloured shapes on coloured grounds, made from a seed."""

import json
import random
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {
    "red": (214, 45, 32), "green": (40, 160, 70), "blue": (40, 90, 200), "yellow": (245, 205, 60),
    "purple": (130, 60, 170), "orange": (240, 130, 30), "black": (25, 25, 25), "white": (245, 245, 245),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "diamond", "ring")
SIZES = {"small": 0.2, "large": 0.38}


def draw_shape(seed: int, side: int = 64) -> tuple[Image.Image, str]:
    """Return one drawing and its caption."""
    chance = random.Random(seed)
    colour, ground = chance.sample(sorted(COLOURS), 2)
    shape, size = chance.choice(SHAPES), chance.choice(sorted(SIZES))
    across = chance.choice(["left", "middle", "right"])
    scale = 4  # drawn larger and shrunk, for smooth edges
    image = Image.new("RGB", (side * scale, side * scale), COLOURS[ground])
    radius = SIZES[size] * side * scale / (1 if across == "middle" else 1.3)
    centre = {"left": 0.32, "middle": 0.5, "right": 0.68}[across] * side * scale
    _draw(ImageDraw.Draw(image), shape, (centre, side * scale / 2), radius, COLOURS[colour], COLOURS[ground])
    caption = f"a {size} {colour} {shape} on the {across} of a {ground} ground"
    return image.resize((side, side), Image.Resampling.LANCZOS), caption


def _draw(
    draw: ImageDraw.ImageDraw,
    shape: str,
    centre: tuple[float, float],
    radius: float,
    colour: tuple[int, int, int],
    ground: tuple[int, int, int],
) -> None:
    x, y = centre
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "square":
        draw.rectangle(box, fill=colour)
    elif shape == "triangle":
        draw.polygon([(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)], fill=colour)
    elif shape == "diamond":
        draw.polygon([(x, y - radius), (x - radius, y), (x, y + radius), (x + radius, y)], fill=colour)
    else:
        draw.ellipse(box, fill=colour)
        if shape == "ring":
            inner = radius * 0.55
            draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=ground)


def write_shapes(folder: Path, count: int, side: int = 64) -> Path:
    """Write `count` drawings, each with its caption in a `.txt` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        image, caption = draw_shape(seed, side)
        image.save(folder / f"{seed:05d}.png")
        (folder / f"{seed:05d}.txt").write_text(caption + "\n", "utf-8")
    return folder


def write_metadata(folder: Path, count: int, side: int = 64) -> Path:
    """Write `count` drawings with one `metadata.jsonl`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for seed in range(count):
        image, caption = draw_shape(seed, side)
        image.save(folder / "images" / f"{seed:05d}.png")
        rows.append(json.dumps({"file_name": f"images/{seed:05d}.png", "caption": caption}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    return folder
