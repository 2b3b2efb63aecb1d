"""From a scene to its picture. Everything lies on the grid of 8×8 pixels that a token stands for.

A small thing has 2×2 tokens of its own, a big one 4×4, a letter 2×3. So a small model needs few codes, and learns soon.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from PIL import Image

from mosaic.scene import Beside, Group, Scene, Thing, Twice, Word
from mosaic.shapes import FINE, glyph, grown_mask, shape_mask

SIDE = 64
TOKEN = 8
RADIUS = {"small": 6.5, "big": 14.0}
CENTRES = {"small": (8, 32, 56), "big": (16, 32, 48)}
"""Columns, and rows, of the nine places for things of each size, in pixels."""
HALVES = 16, 48
"""Where the middle of two things lies that share a picture."""

Colour = tuple[int, int, int]
FILLS: dict[str, Colour] = {
    "red": (214, 32, 44),
    "orange": (247, 140, 16),
    "yellow": (250, 214, 20),
    "green": (28, 148, 62),
    "blue": (36, 100, 232),
    "purple": (150, 52, 190),
}
LIGHTER = 0.55
"""Share of white in the stripes and spots of a texture."""
OUTLINE = 1.5
"""Width of an outline, in pixels."""
LETTER_CELL = 4
LETTER_PITCH, LETTER_TOP = 16, 20


@dataclass(frozen=True)
class Style:
    """How a decade looks.

    Attributes:
        ground: Colour of the ground.
        second: Of its pattern; that of the ground where there is none.
        pattern: `bands` of a token's height, a `grid` of lines between tokens, or `plain`.
        outline: Colour of the line around things.
    """

    ground: Colour
    second: Colour
    pattern: str
    outline: Colour | None


STYLES = {
    "1920s": Style((242, 229, 200), (242, 229, 200), "plain", (38, 30, 26)),
    "1950s": Style((92, 186, 192), (92, 186, 192), "plain", (255, 255, 255)),
    "1970s": Style((146, 100, 70), (116, 78, 54), "bands", (252, 238, 205)),
    "1980s": Style((22, 20, 50), (66, 44, 96), "grid", (226, 246, 250)),
    "2010s": Style((255, 255, 255), (255, 255, 255), "plain", None),
}


def lighter(colour: Colour) -> Colour:
    """Return the colour of a texture's stripes and spots."""
    red, green, blue = (round(part + (255 - part) * LIGHTER) for part in colour)
    return red, green, blue


def draw(scene: Scene) -> Image.Image:
    """Draw a whole scene, 64×64 pixels, RGB."""
    assert scene.decade is not None, "an unfinished scene"
    style = STYLES[scene.decade]
    canvas = _ground(style)
    match scene.layout:
        case Group(thing, _, cells):
            assert cells is not None, "an unfinished scene"
            assert thing.size is not None, "an unfinished thing"
            columns = CENTRES[thing.size]
            for cell in cells:
                _draw_thing(canvas, thing, (columns[cell % 3], columns[cell // 3]), style)
        case Beside():
            for thing, centre in _placed(scene.layout):
                _draw_thing(canvas, thing, centre, style)
        case Twice(thing=thing):
            for each, height in zip((thing, scene.layout.changed), HALVES, strict=True):
                _draw_thing(canvas, each, (SIDE // 2, height), style)
        case Word(letters, colour):
            assert colour is not None, "an unfinished scene"
            canvas[_word_mask(letters)] = FILLS[colour]
    whole = canvas.reshape(SIDE, FINE, SIDE, FINE, 3).mean((1, 3))
    return Image.fromarray(whole.round().astype(np.uint8))


def _placed(layout: Beside) -> list[tuple[Thing, tuple[int, int]]]:
    """Return two things and their centres, in the order in which they are drawn."""
    assert layout.cell is not None, "an unfinished scene"
    row, column = divmod(layout.cell, 3)
    across, near, far = CENTRES["big"], *HALVES
    first, second = layout.things()
    match layout.relation:
        case "left of":
            return [(first, (near, across[row])), (second, (far, across[row]))]
        case "right of":
            return [(first, (far, across[row])), (second, (near, across[row]))]
        case "above":
            return [(first, (across[column], near)), (second, (across[column], far))]
        case "below":
            return [(first, (across[column], far)), (second, (across[column], near))]
    centre = across[column], across[row]
    return [(second, centre), (first, centre)]


def _ground(style: Style) -> Float[ndarray, "rows columns 3"]:
    canvas = np.empty((SIDE * FINE, SIDE * FINE, 3), np.float32)
    canvas[:] = style.ground
    at = np.arange(SIDE * FINE) // FINE
    if style.pattern == "bands":
        canvas[at // TOKEN % 2 == 1] = style.second
    elif style.pattern == "grid":
        canvas[at % TOKEN == TOKEN - 1] = style.second
        canvas[:, at % TOKEN == TOKEN - 1] = style.second
    return canvas


def _draw_thing(canvas: Float[ndarray, "rows columns 3"], thing: Thing, centre: tuple[int, int], style: Style) -> None:
    """Draw a thing and its outline into a canvas, which is changed."""
    shape, colour, size, texture = (str(each) for each in (thing.shape, thing.colour, thing.size, thing.texture))
    x, y = centre
    where = shape, (x * FINE, y * FINE), RADIUS[size] * FINE, SIDE * FINE
    mask = shape_mask(*where)
    if style.outline is not None:
        canvas[grown_mask(*where, round(OUTLINE * FINE))] = style.outline
    canvas[mask] = FILLS[colour]
    canvas[mask & _texture(texture)] = lighter(FILLS[colour])


def _texture(texture: str) -> Bool[ndarray, "rows columns"]:
    """Return where a texture is light. It goes with the grid, so that each token of it looks the same."""
    inside = (np.arange(SIDE * FINE) + 0.5) / FINE % TOKEN - TOKEN / 2
    if texture == "striped":
        return np.broadcast_to((inside < 0)[:, None], (SIDE * FINE, SIDE * FINE))
    if texture == "spotted":
        radius: Bool[ndarray, "rows columns"] = inside[:, None] ** 2 + inside**2 < (0.36 * TOKEN) ** 2
        return radius
    return np.zeros((SIDE * FINE, SIDE * FINE), bool)


def _word_mask(letters: str) -> Bool[ndarray, "rows columns"]:
    mask = np.zeros((SIDE, SIDE), bool)
    left = (SIDE - LETTER_PITCH * len(letters)) // 2 + (LETTER_PITCH - 3 * LETTER_CELL) // 2
    for number, letter in enumerate(letters):
        cells = np.kron(glyph(letter), np.ones((LETTER_CELL, LETTER_CELL), bool))
        start = left + number * LETTER_PITCH
        mask[LETTER_TOP : LETTER_TOP + cells.shape[0], start : start + cells.shape[1]] = cells
    return np.kron(mask, np.ones((FINE, FINE), bool))
