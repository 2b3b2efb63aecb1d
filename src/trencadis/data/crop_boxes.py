"""Where a crop lies in a picture: DALL·E's random crops, and crops of drawings that keep the drawing whole.

The paper cuts a square of the full short edge, resizes it, and cuts the crop out of the result. A box here is the same
crop in the picture's own pixels, so that one resize does all three. Crops need not be square: the "square" is then the
largest box of the crop's aspect. Source: Ramesh et al. 2021, appendices A.2 and B.2. A picture that is too small for a
crop is enlarged, where the paper's code fails.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trencadis.randomness import Key, derive_uniform

Size = tuple[int, int]
"""Height and width in pixels."""
Number = float | int
Box = tuple[Number, Number, Number, Number]
"""Left, top, right and bottom in a picture's pixels; negative or beyond its size where the ground is extended."""

_LEAST_ZOOM = 8 / 9
"""Smallest size at which a drawing is shown, over its size in the whole picture."""


@dataclass(frozen=True)
class CropRule:
    """How the random crops of a training stage are drawn. Sizes are shares of the crop's size.

    Args:
        least: Smallest size that the square is resized to. Never above the square's own size.
        most: Largest such size. Never above the square's own size.
        place: Range in which the square lies, as shares of the room along the long edge.
        mirror: Mirror half of the crops.
    """

    least: float
    most: float
    place: tuple[float, float]
    mirror: bool


TOKENIZER_CROPS = CropRule(least=9 / 8, most=12 / 8, place=(0.0, 1.0), mirror=True)
"""Crops that the image tokenizer learns from. Source: Ramesh et al. 2021, listing 1."""
CAPTIONED_CROPS = CropRule(least=1.0, most=9 / 8, place=(3 / 8, 5 / 8), mirror=False)
"""Crops that are seen with a caption, so at most a ninth of an edge is cut off. Source: the same, listing 2."""


def crop_box(size: Size, image_size: Size, subject: Box | None, rule: CropRule | None, key: tuple[Key, ...]) -> Box:
    """Return the box of a crop: a random one of `rule`, or the middle one; with a subject, one that holds it."""
    if subject is None:
        return centre_box(size, image_size) if rule is None else random_box(size, image_size, rule, key)
    return whole_box(size, image_size) if rule is None else random_whole_box(size, image_size, subject, rule, key)


def centre_box(size: Size, image_size: Size) -> Box:
    """Return the largest box of the aspect of `image_size` in the middle of a picture of `size`."""
    scale = _cover(size, image_size)
    return _box(size, scale, image_size, [_half(edge - scale * crop) for edge, crop in _pairs(size, image_size)])


def random_box(size: Size, image_size: Size, rule: CropRule, key: tuple[Key, ...]) -> Box:
    """Return the box of a random crop of `image_size`, a pure function of `key`."""
    scale, side = _cover(size, image_size), min(image_size)
    source = min(edge * side // crop for edge, crop in _pairs(size, image_size))
    least, most = (max(side, min(source, round(share * side))) for share in (rule.least, rule.most))
    resized = _integer(least, most, *key, "size")
    offsets = []
    for axis, (edge, crop) in zip("yx", _pairs(size, image_size), strict=True):
        room = max(edge - scale * crop, 0)
        square = _integer(int(rule.place[0] * room), int(rule.place[1] * room), *key, "square", axis)
        inside = _integer(0, (resized - side) * crop // side, *key, "crop", axis)
        offsets.append(square + inside * scale * side / resized)
    return _box(size, scale * side / resized, image_size, offsets)


def whole_box(size: Size, image_size: Size) -> Box:
    """Return the smallest box of the aspect of `image_size` that holds the whole picture, in the middle."""
    scale = _contain(size, image_size)
    top, left = (-_half(scale * crop - edge) for edge, crop in _pairs(size, image_size))
    return left, top, left + scale * image_size[1], top + scale * image_size[0]


def random_whole_box(size: Size, image_size: Size, subject: Box, rule: CropRule, key: tuple[Key, ...]) -> Box:
    """Return the box of a random crop that holds all of a drawing on a plain ground, a pure function of `key`.

    The whole picture is resized to between 8/9 and `rule.most` of the crop, but never above the source and never so
    large that the subject (all that is not ground) does not fit. It then moves as far as the picture, or where that is
    smaller the crop, allows.
    """
    scale, side = _contain(size, image_size), min(image_size)
    whole = whole_box(size, image_size)
    extent = max((subject[2] - subject[0]) / image_size[1], (subject[3] - subject[1]) / image_size[0])
    fitting = math.inf if extent == 0 else scale / extent
    most = max(1.0, min(rule.most, scale, fitting))
    resized = _integer(math.ceil(_LEAST_ZOOM * side), int(most * side), *key, "size")
    unit = scale * side / resized
    corner = []
    for axis, crop in ((0, image_size[1]), (1, image_size[0])):
        near, far, length = whole[axis], whole[axis + 2], unit * crop
        low = max(min(near, far - length), subject[axis + 2] - length)
        high = min(max(near, far - length), subject[axis])
        corner.append(low + max(high - low, 0) * derive_uniform(*key, "crop", "xy"[axis]))
    return corner[0], corner[1], corner[0] + unit * image_size[1], corner[1] + unit * image_size[0]


def _half(room: float) -> int:
    """Return half of a length in whole pixels. Rounded first, as 78 may be computed as 77.9999."""
    return int(round(room, 6) / 2)


def _pairs(size: Size, image_size: Size) -> list[tuple[int, int]]:
    return list(zip(size, image_size, strict=True))


def _cover(size: Size, image_size: Size) -> float:
    """Return the size of the largest box that fits into the picture, over the crop's."""
    return min(edge / crop for edge, crop in _pairs(size, image_size))


def _contain(size: Size, image_size: Size) -> float:
    """Return the size of the smallest box that the picture fits into, over the crop's."""
    return max(edge / crop for edge, crop in _pairs(size, image_size))


def _box(size: Size, unit: float, image_size: Size, offsets: Sequence[Number]) -> Box:
    """Return a box inside the picture: rounding may carry it a hair beyond the edge, which Pillow refuses."""
    top, left = offsets
    return left, top, min(left + unit * image_size[1], size[1]), min(top + unit * image_size[0], size[0])


def _integer(low: int, high: int, *key: Key) -> int:
    """Return a whole number in low..high, both included."""
    return low + int(derive_uniform(*key) * (high - low + 1))
