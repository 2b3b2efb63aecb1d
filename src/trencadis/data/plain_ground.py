"""Drawings on a plain ground, such as icons, logos and emoji, told from photographs by their borders."""

import math

import numpy as np
from jaxtyping import UInt8

from trencadis.data.crop_boxes import Box

Pixels = UInt8[np.ndarray, "height width 3"]
Colour = tuple[int, int, int]

# Differences from the ground in levels of 256. Noise of JPEG around a drawing is a large one at a few pixels; a texture
# is one at most pixels; a sky that grows lighter is one at a corner.
_AT_A_PIXEL, _AT_MOST_PIXELS, _AT_A_CORNER = 32, 4, 4
# Least share of each side that is ground. A drawing may touch a side. A film's black bars cover two sides only.
_GROUND_SHARE = 0.75
_CORNER_SHARE = 1 / 8  # of a side
# Levels from which a pixel belongs to the drawing. Noise makes its box larger, never smaller than the drawing.
_OF_THE_DRAWING = 4


def border_colour(pixels: Pixels) -> Colour:
    """Return the median colour of the outermost pixels."""
    red, green, blue = np.median(np.concatenate(_sides(pixels)), 0).round().astype(int).tolist()
    return red, green, blue


def is_plain_ground(pixels: Pixels) -> bool:
    """Say whether the border is one colour but for noise, and for places where a drawing touches it.

    Each corner must be ground, each side mostly so, and the ground's colour the same all along.
    """
    ground = np.array(border_colour(pixels), np.int16)
    return all(_is_ground(side.astype(np.int16) - ground) for side in _sides(pixels))


def subject_box(pixels: Pixels, ground: Colour) -> Box:
    """Return the box of all that differs from the ground, with one pixel around it; a point where nothing does."""
    height, width = pixels.shape[:2]
    differs = np.abs(pixels.astype(np.int16) - np.array(ground, np.int16)).max(-1) > _OF_THE_DRAWING
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return width / 2, height / 2, width / 2, height / 2
    left, top = max(int(columns[0]) - 1, 0), max(int(rows[0]) - 1, 0)
    return left, top, min(int(columns[-1]) + 2, width), min(int(rows[-1]) + 2, height)


def _sides(pixels: Pixels) -> tuple[np.ndarray, ...]:
    return pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]


def _is_ground(difference: np.ndarray) -> bool:
    """Judge one side by its pixels' difference from the ground."""
    levels = np.abs(difference).max(-1)
    corner = math.ceil(_CORNER_SHARE * len(difference))
    corners = [np.median(part, 0) for part in (difference[:corner], difference[-corner:])]
    return bool(
        (levels <= _AT_A_PIXEL).mean() >= _GROUND_SHARE
        and np.median(levels) <= _AT_MOST_PIXELS
        and np.abs(corners).max() <= _AT_A_CORNER
    )
