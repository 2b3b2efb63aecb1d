"""Draws the picture of `preprocessing.md`: `python docs/draw_preprocessing.py`."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from trencadis.config import DataConfig
from trencadis.data import KeptPair
from trencadis.data.training_sheet import training_sheet
from trencadis.storage import write_whole

TARGET = Path(__file__).parent / "images" / "preprocessing.webp"
SEED = 4


class Drawn:
    """A source of pictures that are drawn here; a `PairSource`."""

    def __init__(self, pictures: dict[str, Image.Image]) -> None:
        self._pictures = list(pictures.items())

    def __len__(self) -> int:
        return len(self._pictures)

    def sample_id(self, index: int) -> str:
        return self._pictures[index][0]

    def captions(self, index: int) -> tuple[str, ...]:
        return (self.sample_id(index),)

    def weight(self, index: int) -> float:
        return 1.0

    def image_bytes(self, index: int) -> bytes:
        raw = BytesIO()
        self._pictures[index][1].save(raw, "PNG")
        return raw.getvalue()


def landscape() -> Image.Image:
    """Return something like a photograph: a sky that grows lighter, a sun, and hills with grain."""
    width, height = 320, 200
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    sky = np.stack([90 + 0.5 * down, 140 + 0.4 * down, 205 + 0.2 * down], -1)
    picture = Image.fromarray(sky.clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(picture).ellipse((222, 30, 258, 66), fill="#fff2c0")
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(2))).astype(float)
    grain = np.random.default_rng(SEED).normal(0, 1, (height, width, 1))
    for top, wave, colour in ((110, 47, (88, 112, 92)), (140, 71, (66, 92, 54)), (165, 33, (46, 66, 36))):
        hill = down > top + 18 * np.sin(across / wave)
        pixels = np.where(hill[..., None], np.array(colour) + 9 * grain, pixels + 0.4 * grain)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def cup() -> Image.Image:
    """Return an icon on white."""
    icon = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(icon)
    draw.ellipse((78, 40, 122, 90), outline="#b4532a", width=10)
    draw.rounded_rectangle((14, 28, 98, 112), radius=18, fill="#d9703c")
    draw.rectangle((14, 28, 98, 46), fill="#8a3b1c")
    for left in (36, 56, 76):
        draw.line((left, 20, left + 6, 4), fill="#9aa5b1", width=5)
    return icon


def logo() -> Image.Image:
    """Return a wide logo on a dark ground."""
    drawn = Image.new("RGB", (260, 130), "#17324d")
    draw = ImageDraw.Draw(drawn)
    for number, colour in enumerate(("#e0a03a", "#c9502e", "#3d8f6b", "#4c9fc4")):
        draw.polygon([(12 + 60 * number, 110), (42 + 60 * number, 18), (72 + 60 * number, 110)], fill=colour)
    return drawn


def main() -> None:
    source = Drawn({"a landscape": landscape(), "a cup": cup(), "a logo": logo()})
    pairs = [KeptPair(index, source.sample_id(index), source.captions(index), 1.0, (1, 1)) for index in range(3)]
    raw = BytesIO()
    training_sheet(source, pairs, (64, 64), DataConfig(), seed=SEED).save(raw, "WEBP", quality=90)
    write_whole(TARGET, raw.getvalue())


if __name__ == "__main__":
    main()
