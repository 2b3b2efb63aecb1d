"""What training sees of pictures: the originals beside the crops that each stage takes of them."""

from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from trencadis.config import DataConfig
from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.crop_boxes import CAPTIONED_CROPS, TOKENIZER_CROPS, CropRule
from trencadis.data.crops import Pictures
from trencadis.data.image_files import decode_picture
from trencadis.data.pairs import KeptPair
from trencadis.data.pixels import to_pillow
from trencadis.protocols import PairSource

_ROWS, _CROPS, _TILE_SIZE = 6, 7, 96


def evenly(pairs: Sequence[KeptPair], most: int) -> list[KeptPair]:
    """Return at most `most` pairs, evenly spaced."""
    count = min(most, len(pairs))
    return [pairs[number * len(pairs) // count] for number in range(count)]


def training_sections(
    source: PairSource, pairs: Sequence[KeptPair], image_size: tuple[int, int], config: DataConfig, *, seed: int
) -> list[tuple[str, Image.Image]]:
    """Return a titled sheet for each kind of crop: some pictures, evenly over the pairs, each beside crops of it.

    Args:
        pairs: The kept pairs; at least one.
        image_size: Height and width of a crop in pixels.
        seed: Of the crops, which are examples: a run draws others.

    Raises:
        DataError: A picture can no longer be read.
    """
    chosen, limit = evenly(pairs, _ROWS), config.filters.max_image_pixels
    pictures = Pictures(source, chosen, image_size, fit=config.fit, max_image_pixels=limit)
    originals = [
        decode_picture(source.image_bytes(pair.index), max_image_pixels=limit, enough=2 * _TILE_SIZE) for pair in chosen
    ]
    tokenizer_crops = replace(TOKENIZER_CROPS, mirror=config.flip)
    return [
        ("What the image tokenizer sees", _section(pictures, originals, tokenizer_crops, seed)),
        ("What the transformer and CLIP see", _section(pictures, originals, CAPTIONED_CROPS, seed)),
    ]


def _section(pictures: Pictures, originals: Sequence[Image.Image], rule: CropRule, seed: int) -> Image.Image:
    tiles: list[Image.Image] = []
    for position, original in enumerate(originals):
        keys = [(seed, number, pictures.pairs[position].sample_id) for number in range(_CROPS)]
        crops = [pictures.crop(position), *(pictures.crop(position, rule, key) for key in keys)]
        tiles += [original, *(to_pillow(crop[None])[0] for crop in crops)]
    labels = ["original", "validation", *["training"] * _CROPS]
    height, width = pictures.image_size
    tile_size = _TILE_SIZE * height // max(height, width), _TILE_SIZE * width // max(height, width)
    return contact_sheet(tiles, labels * len(originals), len(labels), tile_size=tile_size, label_lines=1, outlined=True)
