"""Portraits of codes: what each of the most used ones draws, alone and among others."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from trencadis.data.pixels import to_pillow
from trencadis.errors import ConfigError
from trencadis.image.metrics import count_codes
from trencadis.protocols import ImageTokenizer

MOST_CODES = 32
MOST_PLACES = 4
MOST_SEARCHED = 4096  # pictures that places are looked for in, evenly spread over all
AROUND = 3  # tokens that a portrait shows along each side
ALONE = 7  # tokens along each side of the grid that a code fills alone; the middle of it is shown
DECODED_AT_ONCE = 16

_COLUMNS = 2
_TILE = 64  # longer side of a portrait, in pixels
_GAP, _MARGIN, _LABEL_WIDTH, _FONT_SIZE = 4, 20, 70, 13
_APART = 6  # between what a code draws alone and its places
_HEADING_HEIGHT = 20
_INK, _MUTED, _PAPER, _ABSENT, _RULE = "#222222", "#666666", "#ffffff", "#f0efec", "#dddddd"
_OUTLINES = "#ffffff", "#000000"  # around the token, and around that: one of them stands out from any picture


@dataclass(frozen=True)
class Place:
    """Where a code occurs."""

    picture: int
    row: int
    column: int


def code_portraits(
    tokenizer: ImageTokenizer,
    image_tokens: Int[Tensor, "pictures rows columns"],
    *,
    most: int = MOST_CODES,
    device: torch.device | None = None,
) -> Image.Image:
    """Return a sheet of what the most used codes draw.

    Of each code, the most used first: its number, its share of all tokens, what it draws where a grid holds nothing
    else, and up to four places where pictures have it, as they are decoded, its own square outlined. All show three by
    three tokens, or the whole grid where it is smaller. The same tokens give the same sheet.

    Args:
        tokenizer: What drew the tokens; it decodes grids of any size.
        image_tokens: Of pictures, such as those of the training set.
        most: Codes shown at most; those that do not occur are left out.
        device: Where the tokenizer's weights are; None is the CPU.

    Raises:
        ConfigError: There is no token, or no code is to be shown.
    """
    if not image_tokens.numel() or most < 1:
        given = f"{image_tokens.numel()} tokens and {most} codes to show"
        raise ConfigError(given, expected="1 or more of each", remedy="give the tokens of some pictures")
    counts = count_codes(image_tokens, image_vocab_size=tokenizer.image_vocab_size)
    codes = most_used(counts, most)
    searched = _spread(len(image_tokens), min(len(image_tokens), MOST_SEARCHED))
    grids = image_tokens[searched].long().cpu()
    places = {code: places_of(code, grids) for code in codes}
    seen = _seen(tokenizer, grids, [place for found in places.values() for place in found], device)
    alone = _alone(tokenizer, codes, image_tokens.shape[1:], device)
    rows = [[alone[code], *(seen[place] for place in places[code])] for code in codes]
    shares = (counts[codes].double() / counts.sum()).tolist()
    return _sheet(rows, [(f"code {code}", _percent(share)) for code, share in zip(codes, shares, strict=True)])


def most_used(counts: Int[Tensor, " image_vocab_size"], most: int) -> list[int]:
    """Return the codes that occur most often, the most used first, equally used ones in their own order."""
    order = counts.sort(descending=True, stable=True).indices[:most].tolist()
    return [code for code in order if counts[code] > 0]


def places_of(code: int, grids: Int[Tensor, "pictures rows columns"], most: int = MOST_PLACES) -> list[Place]:
    """Return some of a code's places, evenly spread over the pictures that have it, in as many of them as there are."""
    there = (grids == code).nonzero()
    if not len(there):
        return []
    pictures, in_each = there[:, 0].unique_consecutive(return_counts=True)  # type: ignore[no-untyped-call]
    if len(pictures) >= most:
        # Of each of these pictures the middle one: the first would always be near the upper edge.
        chosen = _spread(len(pictures), most)
        starts = in_each.cumsum(0) - in_each
        there = there[starts[chosen] + in_each[chosen] // 2]
    else:
        there = there[_spread(len(there), min(most, len(there)))]
    return [Place(*place) for place in there.tolist()]


def _spread(count: int, most: int) -> Int[Tensor, " most"]:
    """Return `most` of the numbers below `count`, the middles of as many equal parts."""
    return (2 * torch.arange(most) + 1) * count // (2 * most)


def _seen(
    tokenizer: ImageTokenizer,
    grids: Int[Tensor, "pictures rows columns"],
    places: list[Place],
    device: torch.device | None,
) -> dict[Place, Image.Image]:
    """Return what pictures show around each place, with the token's own square outlined."""
    numbers = sorted({place.picture for place in places})
    shown = {}
    for start in range(0, len(numbers), DECODED_AT_ONCE):
        batch = numbers[start : start + DECODED_AT_ONCE]
        pictures = dict(zip(batch, _decoded(tokenizer, grids[batch], device), strict=True))
        for place in places:
            if place.picture in pictures:
                shown[place] = _cut(pictures[place.picture], place, grids.shape[1:])
    return shown


def _alone(
    tokenizer: ImageTokenizer, codes: list[int], grid_size: tuple[int, ...], device: torch.device | None
) -> dict[int, Image.Image]:
    """Return what the middle of a grid shows that holds one code alone."""
    sides = [min(AROUND, side) for side in grid_size]
    middle = [(ALONE - side) // 2 for side in sides]
    shown = {}
    for start in range(0, len(codes), DECODED_AT_ONCE):
        batch = codes[start : start + DECODED_AT_ONCE]
        grids = torch.tensor(batch)[:, None, None].expand(-1, ALONE, ALONE)
        for code, picture in zip(batch, _decoded(tokenizer, grids, device), strict=True):
            shown[code] = _enlarged(picture, middle, sides, (ALONE, ALONE))
    return shown


def _decoded(
    tokenizer: ImageTokenizer, grids: Int[Tensor, "pictures rows columns"], device: torch.device | None
) -> list[Image.Image]:
    with torch.no_grad():
        return to_pillow(tokenizer.decode(grids.to(device or "cpu")))


def _cut(picture: Image.Image, place: Place, grid_size: tuple[int, ...]) -> Image.Image:
    """Return what lies around a place; near an edge the place is not in the middle."""
    sides = [min(AROUND, side) for side in grid_size]
    corner = [
        min(max(at - AROUND // 2, 0), whole - side)
        for at, whole, side in zip((place.row, place.column), grid_size, sides, strict=True)
    ]
    shown = _enlarged(picture, corner, sides, grid_size)
    height, width = shown.height / sides[0], shown.width / sides[1]
    top, left = round((place.row - corner[0]) * height), round((place.column - corner[1]) * width)
    bottom, right = round((place.row - corner[0] + 1) * height) - 1, round((place.column - corner[1] + 1) * width) - 1
    draw = ImageDraw.Draw(shown)
    for distance, colour in enumerate(_OUTLINES):
        start = max(left - distance, 0), max(top - distance, 0)
        end = min(right + distance, shown.width - 1), min(bottom + distance, shown.height - 1)
        draw.rectangle((*start, *end), outline=colour)
    return shown


def _enlarged(picture: Image.Image, corner: list[int], sides: list[int], grid_size: tuple[int, ...]) -> Image.Image:
    """Return `sides` tokens of a picture from `corner` on, pixels enlarged as squares to the size of a tile."""
    height, width = picture.height // grid_size[0], picture.width // grid_size[1]  # of a token, in pixels
    top, left = corner[0] * height, corner[1] * width
    part = picture.crop((left, top, left + sides[1] * width, top + sides[0] * height))
    scale = _TILE / max(part.size)
    size = max(round(part.width * scale), 1), max(round(part.height * scale), 1)
    return part.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _sheet(rows: list[list[Image.Image]], labels: list[tuple[str, str]]) -> Image.Image:
    """Return portraits in rows, each behind its label, in columns from the top down."""
    columns = min(_COLUMNS, len(rows))
    deep = -(-len(rows) // columns)
    row_width = _LABEL_WIDTH + _APART + (1 + MOST_PLACES) * (_TILE + _GAP)
    size = columns * (row_width + _MARGIN) - _MARGIN + _GAP, _HEADING_HEIGHT + deep * (_TILE + _GAP) + _GAP
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for column in range(columns):
        left = _GAP + column * (row_width + _MARGIN)
        draw.text((_slot(left, 0), _GAP), "alone", fill=_MUTED, font=font)
        draw.text((_slot(left, 1), _GAP), "in pictures", fill=_MUTED, font=font)
    for number, (row, (name, share)) in enumerate(zip(rows, labels, strict=True)):
        left = _GAP + number // deep * (row_width + _MARGIN)
        top = _HEADING_HEIGHT + _GAP + number % deep * (_TILE + _GAP)
        draw.text((left, top + _TILE // 2 - _FONT_SIZE - 2), name, fill=_INK, font=font)
        draw.text((left, top + _TILE // 2 + 2), share, fill=_MUTED, font=font)
        for slot in range(1 + MOST_PLACES):
            _hang(sheet, row[slot] if slot < len(row) else None, _slot(left, slot), top)
    return sheet


def _slot(left: int, number: int) -> int:
    """Return where a portrait begins in a row that begins at `left`; the first stands a little apart."""
    return left + _LABEL_WIDTH + number * (_TILE + _GAP) + (_APART if number else 0)


def _hang(sheet: Image.Image, portrait: Image.Image | None, left: int, top: int) -> None:
    """Put a portrait into the middle of its tile, with a faint line around it; a tile without one is grey."""
    if portrait is None:
        sheet.paste(_ABSENT, (left, top, left + _TILE, top + _TILE))
        return
    left, top = left + (_TILE - portrait.width) // 2, top + (_TILE - portrait.height) // 2
    sheet.paste(portrait, (left, top))
    box = left - 1, top - 1, left + portrait.width, top + portrait.height
    ImageDraw.Draw(sheet).rectangle(box, outline=_RULE)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
