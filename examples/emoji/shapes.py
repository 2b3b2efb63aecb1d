"""Coloured pictures: drawings of one colour recoloured, and plain shapes.

Only 62 labels begin with a colour, so without more examples a model learns "red heart" as one word. Here a drawing with
mostly one colour (a car, a fish, a hat) also appears in other colours ("a purple car, flat style"), and so do geometric
shapes. Of some concepts one colour is held out, so that composition can be measured.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from articles import with_article
from captions import styled, subjects
from catalog import COLOURS, Emoji
from numpy.typing import NDArray
from oklab import from_lab, to_lab
from PIL import Image
from split import is_held

Array = NDArray[np.float64]

# The colour that the middle of a recoloured drawing gets.
PALETTE = {
    "red": (222, 44, 44),
    "orange": (246, 134, 31),
    "yellow": (250, 204, 40),
    "green": (58, 166, 66),
    "turquoise": (38, 188, 176),
    "blue": (44, 118, 226),
    "purple": (140, 66, 200),
    "pink": (242, 112, 176),
    "brown": (134, 86, 52),
    "black": (52, 53, 60),
    "grey": (146, 150, 156),
}

# Colours between those of the palette; a drawing nearest to one of them gets no colour name.
UNNAMED = (
    (226, 166, 82),
    (206, 150, 96),
    (238, 208, 164),
    (250, 190, 146),
    (128, 30, 44),
    (32, 52, 104),
    (196, 170, 230),
)

# Each concept appears in this many other colours.
COLOURS_EACH = 3
SHAPE_WEIGHT = 0.3

_HUE_WIDTH = np.deg2rad(40)


@dataclass(frozen=True)
class Coloured:
    """The one colour of a drawing.

    Attributes:
        lightness: In OKLab, as `chroma` and `hue` (radians) are.
        nearest: The palette's nearest colour.
        name: The same, or empty if people would not agree on it.
    """

    lightness: float
    chroma: float
    hue: float
    nearest: str
    name: str


def one_colour(drawing: Image.Image) -> Coloured | None:
    """The colour of a transparent drawing if most of its area has one hue, else None."""
    pixels = np.asarray(drawing, dtype=np.float64) / 255
    lab = to_lab(pixels[pixels[..., 3] > 0.9][:, :3])
    chroma, hue = np.hypot(lab[:, 1], lab[:, 2]), np.arctan2(lab[:, 2], lab[:, 1])
    vivid = chroma > 0.06
    if vivid.sum() < 0.5 * max(1, len(lab)) or len(lab) < 0.1 * pixels[..., 3].size:
        return None
    bins, edges = np.histogram(hue[vivid], bins=72, range=(-np.pi, np.pi), weights=chroma[vivid])
    smooth = sum(np.roll(bins, shift) for shift in range(-3, 4))
    main = edges[int(np.argmax(smooth))] + np.pi / 72
    member = vivid & (np.abs(_turn(hue - main)) < _HUE_WIDTH)
    if member.sum() < 0.72 * vivid.sum() or member.sum() < 0.5 * len(lab):
        return None
    light, strong = float(np.median(lab[member, 0])), float(np.median(chroma[member]))
    mean = main + float(np.median(_turn(hue[member] - main)))
    return Coloured(light, strong, mean, *_names(light, strong, mean))


def _turn(angle: Array) -> Array:
    return (angle + np.pi) % (2 * np.pi) - np.pi


@cache
def _places() -> Array:
    """The palette's colours and then the unnamed ones, in OKLab."""
    return to_lab(np.array([*PALETTE.values(), *UNNAMED]) / 255)


def _names(lightness: float, chroma: float, hue: float) -> tuple[str, str]:
    here = np.array([lightness, chroma * np.cos(hue), chroma * np.sin(hue)])
    apart = np.sqrt((((_places() - here) * np.array([0.6, 1, 1])) ** 2).sum(1))
    names = list(PALETTE)
    nearest = int(np.argmin(apart[: len(names)]))
    second = np.partition(np.delete(apart, nearest), 0)[0]
    is_clear = apart[nearest] < 0.1 and apart[nearest] < 0.7 * second
    return names[nearest], names[nearest] if is_clear else ""


def recolour(drawing: Image.Image, source: Coloured, colour: str) -> Image.Image:
    """Change a drawing's own colour to a palette colour; shading and other colours stay.

    The map of lightness keeps black and white, and moves the drawing's own lightness to the palette's. Highlights stay
    lighter than shadows.
    """
    light, a, b = _places()[list(PALETTE).index(colour)]
    pixels = np.asarray(drawing, dtype=np.float64) / 255
    lab = to_lab(pixels[..., :3])
    chroma, hue = np.hypot(lab[..., 1], lab[..., 2]), np.arctan2(lab[..., 2], lab[..., 1])
    turn = _turn(hue - source.hue)
    share = np.clip((chroma - 0.02) / 0.04, 0, 1) * np.clip((_HUE_WIDTH * 1.5 - np.abs(turn)) / (_HUE_WIDTH / 2), 0, 1)
    below = lab[..., 0] * light / source.lightness
    above = 1 - (1 - lab[..., 0]) * (1 - light) / (1 - source.lightness)
    # Near white there is little room for colour: without this, highlights turn neon.
    room = np.sqrt(np.clip((1 - above) / (1 - light), 0, 1))
    new_chroma = np.minimum(chroma / source.chroma, 1.4) * np.hypot(a, b) * room
    new_hue = np.arctan2(b, a) + 0.4 * turn
    new = np.stack(
        [
            np.where(lab[..., 0] < source.lightness, below, above),
            new_chroma * np.cos(new_hue),
            new_chroma * np.sin(new_hue),
        ],
        axis=-1,
    )
    mixed = from_lab(lab + share[..., None] * (new - lab))
    result = np.concatenate([mixed, pixels[..., 3:]], axis=-1)
    return Image.fromarray(np.round(result * 255).astype(np.uint8))


_COLOUR_WORDS = re.compile(rf"\b({'|'.join(COLOURS)}|golden|polar|rainbow)\b")

# Places, pairs and signs, where a colour means little: "a purple bridge at night".
_SCENE = re.compile(
    r"^(the|two) |\bof (?!glasses)|"
    r"\b(and|at|over|under|behind|night|moon|clock|sky|Mount|Tokyo|chart|city|sun|siren|mailbox|banknote|money|cards|"
    r"bus stop|target|firecracker)\b"
)

# One of each family that CLDR colours itself: its drawing is recoloured to the colours that CLDR lacks.
LENDERS = ("red heart", "red circle", "red square", "large blue diamond")


def can_recolour(emoji: Emoji) -> bool:
    """Whether an emoji can be recoloured: a thing without a colour or a place in its name."""
    if emoji.label in LENDERS:
        return True
    if emoji.tones or emoji.colour or emoji.group not in (3, 4, 5, 6, 7):
        return False
    first = subjects(emoji.label)[0]
    return not _COLOUR_WORDS.search(first) and not _SCENE.search(first)


def colours_for(concept: str, native: set[str], number: int) -> list[str]:
    """The colours that a concept is recoloured to, chosen by a hash; never a colour that it already has."""
    others = [colour for colour in PALETTE if colour not in native]
    return sorted(others, key=lambda colour: hashlib.sha256(f"{colour}|{concept}".encode()).digest())[:number]


def colour_captions(label: str, colour: str, style: str) -> list[str]:
    """Captions of a coloured thing: "a purple car, flat style"."""
    phrases = [with_colour(phrase, colour) for phrase in subjects(label) if not _COLOUR_WORDS.search(phrase)][:2]
    return styled(phrases, style, bare=re.sub(r"^an? ", "", phrases[0]))


def with_colour(phrase: str, colour: str) -> str:
    """Put a colour before the noun: "a pair of glasses" becomes "a pair of red glasses"."""
    pair = re.match(r"^(an? \w+ of )(.+)$", phrase)
    if pair:
        return f"{pair[1]}{colour} {pair[2]}"
    found = re.match(r"^(an?|two|the) (.+)$", phrase)
    if not found:
        return f"{colour} {phrase}"
    return f"two {colour} {found[2]}" if found[1] == "two" else with_article(f"{colour} {found[2]}")


# Outlines in a box of 100, as SVG.
OUTLINES = {
    "triangle": '<polygon points="50,8 95,88 5,88"/>',
    "pentagon": '<polygon points="50,5 97,39 79,94 21,94 3,39"/>',
    "hexagon": '<polygon points="27,8 73,8 97,50 73,92 27,92 3,50"/>',
    "octagon": '<polygon points="31,4 69,4 96,31 96,69 69,96 31,96 4,69 4,31"/>',
    "rectangle": '<rect x="4" y="24" width="92" height="52"/>',
    "oval": '<ellipse cx="50" cy="50" rx="47" ry="30"/>',
    "ring": '<path fill-rule="evenodd" d="M50 4a46 46 0 1 0 .1 0zM50 28a22 22 0 1 1-.1 0z"/>',
    "semicircle": '<path d="M4 72a46 46 0 0 1 92 0z"/>',
    "parallelogram": '<polygon points="26,22 98,22 74,78 2,78"/>',
}
SIZES = {"": 0.7, "small ": 0.38, "large ": 0.92}


@dataclass(frozen=True)
class PlainShape:
    """A generated picture: its file name, SVG, colour, shape and captions."""

    name: str
    svg: str
    colour: str
    shape: str
    captions: Sequence[str]

    @property
    def is_held(self) -> bool:
        """Whether this colour of this shape is held out, in every size."""
        return is_held("colour", f"{self.colour}|{self.shape}", 0.1)


def plain_shapes() -> Iterator[PlainShape]:
    """Every plain shape in every colour and size."""
    for shape, outline in OUTLINES.items():
        for colour, rgb in PALETTE.items():
            for size, scale in SIZES.items():
                shift = 50 * (1 - scale)
                svg = (
                    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 100"><g fill="rgb{rgb}" '
                    f'transform="translate({shift:g} {shift:g}) scale({scale:g})">{outline}</g></svg>'
                )
                phrase = f"{size}{colour} {shape}"
                captions = styled([with_article(phrase)], "flat", bare=phrase)
                yield PlainShape(f"{size.strip() or 'plain'}-{colour}-{shape}", svg, colour, shape, captions)
