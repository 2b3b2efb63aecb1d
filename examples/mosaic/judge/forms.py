"""What an area is: its shape, its size and its texture, or a letter."""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from PIL import Image
from scipy import ndimage

from mosaic.draw import FILLS, LETTER_CELL, RADIUS, SIDE, lighter
from mosaic.judge.areas import Area
from mosaic.scene import LETTERS, SHAPES, Thing
from mosaic.shapes import FINE, GLYPH_COLUMNS, GLYPH_ROWS, glyph, normalised, shape_mask

TEMPLATE = 24
BLURS = 0.01, 0.8, 1.4
"""Standard deviations in pixels with which forms are compared."""
BIG_FROM = RADIUS["small"] + RADIUS["big"]
"""Extent in pixels: halfway between a small thing and a big one."""
LIGHT = 0.16
"""Mean lightness of an area, between its fill and the light of its texture, from which it has one."""
UNEVEN = 2.0
"""How many times as much the rows of stripes differ as their columns; those of spots differ alike."""
LETTER_WIDTHS = 2.2 * LETTER_CELL, 4.2 * LETTER_CELL
LETTER_HEIGHTS = 4.4 * LETTER_CELL, 5.6 * LETTER_CELL
MARGIN = 2


def thing_of(area: Area, pixels: Float[ndarray, "rows columns 3"]) -> Thing:
    """Return what an area shows."""
    left, top, right, bottom = area.box
    size = "big" if max(right - left, bottom - top) >= BIG_FROM else "small"
    texture = _texture_of(area, pixels) if size == "big" else "plain"
    return Thing(_shape_of(area.cover, size), area.colour, size, texture)


def letter_of(area: Area) -> str | None:
    """Return the letter that an area is; None if it has not the size of one."""
    left, top, right, bottom = area.box
    width, height = right - left, bottom - top
    if not (LETTER_WIDTHS[0] <= width <= LETTER_WIDTHS[1] and LETTER_HEIGHTS[0] <= height <= LETTER_HEIGHTS[1]):
        return None
    cut = Image.fromarray(area.share[top:bottom, left:right].astype(np.float32))
    cells = np.asarray(cut.resize((GLYPH_COLUMNS, GLYPH_ROWS), Image.Resampling.BOX))
    return min(LETTERS, key=lambda letter: float(np.square(cells - glyph(letter)).sum()))


def _shape_of(cover: Float[ndarray, "rows columns"], size: str) -> str:
    """Return the shape of that size whose form, sharp or blurred, is most like an area's."""
    own = normalised(cover, TEMPLATE)
    return min(SHAPES, key=lambda shape: min(float(np.square(own - form).sum()) for form in _forms(shape, size)))


@cache
def _forms(shape: str, size: str) -> list[Float[ndarray, "side side"]]:
    centre = SIDE * FINE / 2
    fine = shape_mask(shape, (centre, centre), RADIUS[size] * FINE, SIDE * FINE).astype(np.float32)
    cover = fine.reshape(SIDE, FINE, SIDE, FINE).mean((1, 3))
    return [normalised(ndimage.gaussian_filter(cover, blur), TEMPLATE) for blur in BLURS]


def _texture_of(area: Area, pixels: Float[ndarray, "rows columns 3"]) -> str:
    """Return the texture of a big area, by how light it is and whether that differs between rows or columns."""
    fill = np.array(FILLS[area.colour], np.float32)
    towards = np.array(lighter(FILLS[area.colour]), np.float32) - fill
    lightness = np.clip((pixels - fill) @ towards / (towards @ towards), 0, 1)
    inside = ndimage.binary_erosion(area.own, iterations=MARGIN)
    if not inside.any() or lightness[inside].mean() < LIGHT:
        return "plain"
    across, down = (_spread(lightness, inside, axis) for axis in (1, 0))
    return "striped" if across > UNEVEN * down else "spotted"


def _spread(lightness: Float[ndarray, "rows columns"], inside: Bool[ndarray, "rows columns"], axis: int) -> float:
    """Return how much the means along an axis differ, weighed by the pixels that each is of."""
    counts = inside.sum(axis)
    means = np.where(inside, lightness, 0).sum(axis)[counts > 0] / counts[counts > 0]
    weights = counts[counts > 0] / counts.sum()
    return float(np.sqrt((weights * np.square(means - (weights * means).sum())).sum()))
