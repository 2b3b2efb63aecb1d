"""Portraits of codes: what each of the most used codes looks like, alone and in images."""

from functools import partial
from itertools import zip_longest

import torch
from jaxtyping import Int
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from trencadis.data.pixels import to_pillow
from trencadis.errors import ConfigError
from trencadis.image.metrics import count_codes
from trencadis.protocols import ImageTokenizer

MAX_CODES = 32
MAX_PLACES = 4
MAX_SEARCHED = 4096  # images, evenly spread over all
AROUND = 3  # tokens that a portrait shows along each side
ALONE = 7  # tokens along each side of a grid of one code; its middle is shown
BATCH_SIZE = 16

_COLUMNS = 2
_TILE = 64  # longer side of a portrait, in pixels
_STEP = _TILE + 4
_LABEL_WIDTH, _HEADING_HEIGHT = 76, 24
_COLUMN_WIDTH = _LABEL_WIDTH + (1 + MAX_PLACES) * _STEP + 20
_INK, _EMPTY, _RULE = "#222222", "#f0efec", "#dddddd"

Place = tuple[int, int, int]
"""Image, row and column of a token."""


def code_portraits(
    tokenizer: ImageTokenizer,
    image_tokens: Int[Tensor, "pictures rows columns"],
    *,
    max_codes: int = MAX_CODES,
    device: torch.device | None = None,
) -> Image.Image:
    """Return a sheet of the most used codes, deterministically.

    For each code, the most used first: its number, its share of all tokens, what it decodes to in a grid of itself
    alone, and up to four places in decoded images, with its own square outlined. Portraits show three by three tokens,
    or the whole grid where it is smaller. The tokenizer decodes grids of any size; its weights are on `device`.

    Raises:
        ConfigError: There are no tokens, or no codes to show.
    """
    if not image_tokens.numel() or max_codes < 1:
        given = f"{image_tokens.numel()} tokens and {max_codes} codes to show"
        raise ConfigError(given, expected="1 or more of each", remedy="give the tokens of some images")
    counts = count_codes(image_tokens, image_vocab_size=tokenizer.image_vocab_size)
    codes = most_used(counts, max_codes)
    grids = image_tokens[_spread(len(image_tokens), MAX_SEARCHED)].long().cpu()
    decode = partial(_decode, tokenizer, device=device)
    places = {code: places_of(code, grids) for code in codes}
    images = sorted({image for found in places.values() for image, *_ in found})
    decoded = dict(zip(images, decode(grids[images]), strict=True))
    uniform = torch.tensor(codes)[:, None, None].expand(-1, ALONE, ALONE)
    grid_size = list(grids.shape[1:])
    sides = [min(AROUND, side) for side in grid_size]
    corner = [(ALONE - side) // 2 for side in sides]
    rows = []
    for code, alone in zip(codes, decode(uniform), strict=True):
        seen = [_around(decoded[image], place, sides, grid_size) for image, *place in places[code]]
        share = f"{100 * float(counts[code]) / image_tokens.numel():.3g} %"
        rows.append((f"code {code}\n{share}", [_crop(alone, corner, sides, [ALONE, ALONE]), *seen]))
    return _sheet(rows)


def most_used(counts: Int[Tensor, " image_vocab_size"], max_codes: int) -> list[int]:
    """Return the codes that occur most often, the most used first, ties by number."""
    order = counts.sort(descending=True, stable=True).indices[:max_codes].tolist()
    return [code for code in order if counts[code] > 0]


def places_of(code: int, grids: Int[Tensor, "pictures rows columns"]) -> list[Place]:
    """Return up to four places of a code, in as many images as possible, evenly spread over them."""
    places = (grids == code).nonzero()
    images, in_each = places[:, 0].unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
    if len(images) >= MAX_PLACES:
        # The middle place of each of these images: the first would always be near the upper edge.
        places = places[(in_each.cumsum(0) - in_each + in_each // 2)[_spread(len(images), MAX_PLACES)]]
    return [(image, row, column) for image, row, column in places[_spread(len(places), MAX_PLACES)].tolist()]


def _spread(count: int, most: int) -> Int[Tensor, " chosen"]:
    """Return up to `most` of the numbers below `count`, the middles of equal parts."""
    most = min(count, most)
    return (2 * torch.arange(most) + 1) * count // (2 * max(most, 1))


def _decode(
    tokenizer: ImageTokenizer, grids: Int[Tensor, "pictures rows columns"], device: torch.device | None
) -> list[Image.Image]:
    with torch.no_grad():
        parts = (grids[start : start + BATCH_SIZE] for start in range(0, len(grids), BATCH_SIZE))
        return [image for part in parts for image in to_pillow(tokenizer.decode(part.to(device or "cpu")))]


def _around(image: Image.Image, place: list[int], sides: list[int], grid_size: list[int]) -> Image.Image:
    """Return the surroundings of a place, its own square outlined; near an edge it is not in the middle."""
    within = zip(place, sides, grid_size, strict=True)
    corner = [min(max(at - AROUND // 2, 0), whole - side) for at, side, whole in within]
    portrait = _crop(image, corner, sides, grid_size)
    height, width = portrait.height / sides[0], portrait.width / sides[1]
    row, column = place[0] - corner[0], place[1] - corner[1]
    box = round(column * width), round(row * height), round((column + 1) * width) - 1, round((row + 1) * height) - 1
    draw = ImageDraw.Draw(portrait)
    draw.rectangle(box, outline="white", width=2)
    draw.rectangle(box, outline="black")  # white inside black: one of them stands out from any image
    return portrait


def _crop(image: Image.Image, corner: list[int], sides: list[int], grid_size: list[int]) -> Image.Image:
    """Return `sides` tokens of an image from `corner` on, scaled to a tile."""
    height, width = image.height // grid_size[0], image.width // grid_size[1]
    top, left = corner[0] * height, corner[1] * width
    part = image.crop((left, top, left + sides[1] * width, top + sides[0] * height))
    return ImageOps.contain(part, (_TILE, _TILE), Image.Resampling.NEAREST)


def _sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """Return labelled rows of portraits, in two columns from the top down."""
    deep = -(-len(rows) // _COLUMNS)
    size = min(_COLUMNS, len(rows)) * _COLUMN_WIDTH, _HEADING_HEIGHT + deep * _STEP
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (label, portraits) in enumerate(rows):
        left, top = number // deep * _COLUMN_WIDTH, _HEADING_HEIGHT + number % deep * _STEP
        if number % deep == 0:
            draw.text((left + _LABEL_WIDTH, 4), "alone     in images", fill=_INK, font=font)
        draw.text((left + 4, top + 16), label, fill=_INK, font=font)
        for slot, portrait in zip_longest(range(1 + MAX_PLACES), portraits):
            x = left + _LABEL_WIDTH + slot * _STEP
            draw.rectangle((x - 1, top - 1, x + _TILE, top + _TILE), fill=_EMPTY, outline=_RULE)
            if portrait is not None:
                sheet.paste(portrait, (x + (_TILE - portrait.width) // 2, top + (_TILE - portrait.height) // 2))
    return sheet
