"""The forms of shapes and letters: the world draws them, and the judge compares with them."""

import math
from functools import cache

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

FINE = 4
"""Sub-pixels along each side of a pixel."""

GLYPH_ROWS, GLYPH_COLUMNS = 5, 3
GLYPHS = {
    "A": "111 101 111 101 101",
    "C": "111 100 100 100 111",
    "E": "111 100 110 100 111",
    "F": "111 100 110 100 100",
    "H": "101 101 111 101 101",
    "I": "111 010 010 010 111",
    "L": "100 100 100 100 111",
    "O": "111 101 101 101 111",
    "P": "111 101 111 100 100",
    "S": "111 100 111 001 111",
    "T": "111 010 010 010 010",
    "U": "101 101 101 101 111",
}
"""Five rows of three cells. A letter reaches all four sides, so its box alone gives the cells, and is in one piece."""


def glyph(letter: str) -> Bool[ndarray, "rows columns"]:
    """Return the cells of a letter that are filled."""
    return np.array([[cell == "1" for cell in row] for row in GLYPHS[letter].split()])


def _circle() -> list[tuple[float, float]]:
    return [(math.cos(turn), math.sin(turn)) for turn in np.linspace(0, 2 * math.pi, 64, endpoint=False)]


def _star() -> list[tuple[float, float]]:
    points = []
    for corner in range(10):
        radius, turn = (1.08, 0.52)[corner % 2], math.pi * corner / 5
        points.append((radius * math.sin(turn), 0.1 - radius * math.cos(turn)))
    return points


def _heart() -> list[tuple[float, float]]:
    turns = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    across = np.sin(turns) ** 3
    down = -(13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)) / 15
    return list(zip(across.tolist(), (down - 0.16).tolist(), strict=True))


_ARM = 0.36
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "circle": _circle(),
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -0.95), (1, 0.9), (-1, 0.9)],
    "star": _star(),
    "heart": _heart(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip
"""Corners in [−1, 1], x to the right and y down."""


@cache
def shape_mask(shape: str, centre: tuple[float, float], radius: float, side: int) -> Bool[ndarray, "rows columns"]:
    """Return what a shape covers of a square picture.

    Args:
        centre: X and y in sub-pixels.
        radius: Half of the shape's extent in sub-pixels.
        side: Of the picture in sub-pixels.
    """
    points = [(centre[0] + radius * x - 0.5, centre[1] + radius * y - 0.5) for x, y in _OUTLINES[shape]]
    picture = Image.new("1", (side, side))
    ImageDraw.Draw(picture).polygon(points, fill=1)
    return np.asarray(picture)


@cache
def grown_mask(
    shape: str, centre: tuple[float, float], radius: float, side: int, width: int
) -> Bool[ndarray, "rows columns"]:
    """Return what a shape and an outline of `width` sub-pixels around it cover."""
    mask = shape_mask(shape, centre, radius, side)
    grown = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * width + 1))
    return np.asarray(grown) > 0


def box_of(mask: Bool[ndarray, "rows columns"]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is set; right and bottom are the first that are not."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def normalised(cover: Float[ndarray, "rows columns"], side: int) -> Float[ndarray, "side side"]:
    """Return a form moved and scaled so that its centre of mass and its area are alike for all, in [0, 1].

    The square of `side` samples has 1.2 times the extent of a disc of the same area.

    Args:
        cover: How much of each pixel the form covers, in [0, 1].
    """
    area = cover.sum()
    rows, columns = np.indices(cover.shape)
    half = 1.2 * np.sqrt(area / np.pi)
    steps = np.linspace(-half, half, side)
    centre = [(cover * index).sum() / area for index in (rows, columns)]
    at = np.meshgrid(centre[0] + steps, centre[1] + steps, indexing="ij")
    sampled: Float[ndarray, "side side"] = ndimage.map_coordinates(cover, at, order=1)
    return sampled
