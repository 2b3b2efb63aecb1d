"""The ground of a picture, and the areas of one colour on it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from PIL import Image
from scipy import ndimage

from mosaic.draw import FILLS, SIDE, STYLES, lighter
from mosaic.shapes import box_of

NEAR = 48.0
"""Distance in RGB up to which a pixel belongs to a ground, of 441."""
LEAST_AREA = 20
BRIGHT = 620
"""Sum of red, green and blue, of 765, from which a colour is near the way from fills to white."""
DOUBT = 15.0
"""Distance in RGB by which a fill must explain a pixel better than the grounds do."""
RGB = tuple[int, int, int]
AROUND = np.ones((3, 3), bool)
LEAST_DEPTH = 2.0
"""Distance of an area's innermost pixel from its edge. Rims, in which two colours mix, have less."""


@dataclass(frozen=True, eq=False)
class Area:
    """A connected area of one colour.

    Attributes:
        own: Its pixels.
        share: How much of each pixel it covers, in [0, 1].
    """

    colour: str
    own: Bool[ndarray, "rows columns"]
    share: Float[ndarray, "rows columns"]

    @property
    def cover(self) -> Float[ndarray, "rows columns"]:
        """How much of each pixel it covers together with its holes, in [0, 1]."""
        filled: Bool[ndarray, "rows columns"] = ndimage.binary_fill_holes(self.own)
        whole: Float[ndarray, "rows columns"] = np.maximum(self.share, filled)
        return whole

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels; right and bottom are the first that are outside."""
        return box_of(self.own)


def pixels_of(picture: Image.Image) -> Float[ndarray, "rows columns 3"]:
    """Return a picture at the world's size, RGB in 0..255."""
    small = picture.convert("RGB")
    if small.size != (SIDE, SIDE):
        small = small.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(small, np.float32)


def decade_of(pixels: Float[ndarray, "rows columns 3"]) -> str:
    """Return the decade to whose ground most pixels belong."""

    def share(decade: str) -> float:
        style = STYLES[decade]
        return float((_distances(pixels, [style.ground, style.second]).min(-1) < NEAR).mean())

    return max(STYLES, key=share)


def areas(pixels: Float[ndarray, "rows columns 3"], decade: str) -> Iterator[Area]:
    """Yield the areas of each colour, as large as something that is drawn on purpose."""
    numbers, shares = _fills(pixels, decade)
    for number, colour in enumerate(FILLS):
        cover = np.where(numbers == number, shares, 0)
        same = cover >= 0.5
        labels, count = ndimage.label(ndimage.binary_opening(same))
        for label in range(1, count + 1):
            near = ndimage.binary_dilation(labels == label, AROUND)
            own = near & same  # with the corners that the opening cut
            if own.sum() >= LEAST_AREA and ndimage.distance_transform_edt(np.pad(own, 1)).max() >= LEAST_DEPTH:
                yield Area(colour, own, np.where(ndimage.binary_dilation(own, AROUND, iterations=2), cover, 0))


@cache
def _mixes(decade: str) -> list[tuple[RGB, RGB, int, float]]:
    """Return the pairs of colours that meet in a decade's pictures, and so mix in the pixels between them.

    Returns:
        First colour, second one, which fill the first is (-1 for none), and the second's share of it, 0 or 1.
    """
    style = STYLES[decade]
    others = list(dict.fromkeys([style.ground, style.second] + ([style.outline] if style.outline else [])))
    mixes: list[tuple[RGB, RGB, int, float]] = [(one, other, -1, 0.0) for one in others for other in others]
    for number, fill in enumerate(FILLS.values()):
        mixes.append((fill, lighter(fill), number, 1.0))
        # On its way to a bright colour, a fill passes its own light.
        mixes += [(fill, other, number, 0.0) for other in others if sum(other) < BRIGHT]
        beside_light = [other for other in others if sum(other) >= BRIGHT or other == style.outline]
        mixes += [(lighter(fill), other, number, 0.0) for other in beside_light]
    return mixes


def _fills(
    pixels: Float[ndarray, "rows columns 3"], decade: str
) -> tuple[Int[ndarray, "rows columns"], Float[ndarray, "rows columns"]]:
    """Return the fill that each pixel may be of, -1 for none, and the share that it has in the pixel.

    Each pixel is explained by the two colours between which it lies nearest.
    """
    first, second, numbers, shares = (np.array(part, np.float32) for part in zip(*_mixes(decade), strict=True))
    along = second - first
    squared = np.square(along).sum(-1)
    across = pixels @ along.T - (first * along).sum(-1)  # scalar product of what lies between, from the first colour on
    to_second = (across / np.maximum(squared, 1)).clip(0, 1)
    from_first = np.square(pixels).sum(-1)[..., None] - 2 * pixels @ first.T + np.square(first).sum(-1)
    distances = from_first - 2 * to_second * across + to_second**2 * squared
    best = (distances + np.where(numbers >= 0, DOUBT**2, 0)).argmin(-1)
    share = 1 - np.take_along_axis(to_second, best[..., None], -1)[..., 0] * (1 - shares[best])
    return numbers[best].astype(int), share


def _distances(pixels: Float[ndarray, "rows columns 3"], colours: list[RGB]) -> Float[ndarray, "rows columns colours"]:
    found: Float[ndarray, "rows columns colours"] = np.linalg.norm(
        pixels[:, :, None] - np.array(colours, np.float32), axis=-1
    )
    return found
