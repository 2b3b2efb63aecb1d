"""Crops of pictures, for training and for measuring."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from trencadis.config import DataConfig, FilterConfig
from trencadis.config.data import Fit
from trencadis.data.crop_boxes import TOKENIZER_CROPS, Box, CropRule, crop_box
from trencadis.data.image_files import decode_picture
from trencadis.data.pairs import KeptPair
from trencadis.data.pixels import to_tensor
from trencadis.data.plain_ground import Colour, Pixels, border_colour, is_plain_ground, subject_box
from trencadis.errors import ConfigError, DataError, PictureError
from trencadis.memory import in_memory
from trencadis.protocols import PairSource
from trencadis.randomness import Key, derive_uniform

_HEADROOM = TOKENIZER_CROPS.most
"""Size of a picture in memory, over the size of a crop: what the largest resizing of any stage needs."""


@dataclass(frozen=True, slots=True)
class _Shrunk:
    """A picture as it is kept in memory, no larger than crops need.

    `ground` is the colour that it is extended with; crops then hold all of `subject`. None: cropped as in the paper.
    """

    pixels: Pixels
    ground: Colour | None
    subject: Box | None


class Pictures:
    """The pictures of the kept pairs, each decoded and shrunk once where memory allows; used by several threads.

    A crop is the same whether its picture was in memory or not.

    Args:
        pairs: The kept pairs; a pair's place among them is its `position`.
        image_size: Height and width of a crop in pixels.
        fit: How pictures are made to fit, as in `DataConfig`.
        memory_bytes: Most that the shrunk pictures take together; those that come first stay.

    Raises:
        ConfigError: `image_size` is out of its range.
    """

    def __init__(
        self,
        source: PairSource,
        pairs: Sequence[KeptPair],
        image_size: tuple[int, int],
        *,
        fit: Fit = DataConfig.fit,
        memory_bytes: int = 2**31,
        max_image_pixels: int = FilterConfig.max_image_pixels,
    ) -> None:
        if min(image_size) < 1:
            raise ConfigError(f"image_size {image_size}", expected="two sides of 1 or more", remedy="raise it")
        self.pairs, self.image_size = tuple(pairs), image_size
        self._source, self._fit, self._max_image_pixels = source, fit, max_image_pixels
        self._free_bytes = memory_bytes
        self._shrunk: dict[int, _Shrunk] = {}
        self._lock = threading.Lock()

    def crop(
        self, position: int, rule: CropRule | None = None, key: tuple[Key, ...] = ()
    ) -> Float[Tensor, "3 height width"]:
        """Return one crop as RGB in [0, 1], of `image_size`, resized without aliasing.

        Args:
            position: Which of the pairs.
            rule: How a random crop is drawn; None takes the largest centre crop, or the whole of an extended picture.
            key: What a random crop is a pure function of, such as (seed, epoch, sample id).

        Raises:
            DataError: The picture can no longer be read.
        """
        shrunk, (height, width) = self._picture(position), self.image_size
        picture = Image.fromarray(shrunk.pixels)
        box = crop_box((picture.height, picture.width), self.image_size, shrunk.subject, rule, key)
        if shrunk.ground is not None:
            picture, box = _extend(picture, box, shrunk.ground)
        crop = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
        if rule is not None and rule.mirror and derive_uniform(*key, "mirror") < 0.5:
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return to_tensor(crop)

    def _picture(self, position: int) -> _Shrunk:
        known = self._shrunk.get(position)
        if known is not None:
            return known
        pixels = np.asarray(self._decode(position))
        is_extended = self._fit == "pad" or (self._fit == "auto" and is_plain_ground(pixels))
        ground = border_colour(pixels) if is_extended else None
        shrunk = _Shrunk(pixels, ground, None if ground is None else subject_box(pixels, ground))
        with self._lock:
            if position not in self._shrunk and pixels.nbytes <= self._free_bytes:
                self._free_bytes -= pixels.nbytes
                self._shrunk[position] = shrunk
        return shrunk

    def _decode(self, position: int) -> Image.Image:
        """Read a picture and shrink it until its largest crop has `_HEADROOM` times the size of a crop."""
        pair = self.pairs[position]
        needed = round(_HEADROOM * max(self.image_size))
        try:
            with in_memory(f"reading the picture of {pair.sample_id}"):
                raw = self._source.image_bytes(pair.index)
                picture = decode_picture(raw, max_image_pixels=self._max_image_pixels, enough=2 * needed)
        except PictureError as error:
            given = f"the picture of {pair.sample_id} can no longer be read: {error.given}"
            raise DataError(given, expected=error.expected, remedy="run `trencadis data check` on it") from error
        height, width = self.image_size
        scale = _HEADROOM * max(width / picture.width, height / picture.height)
        if scale >= 1:
            return picture
        size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
        return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _extend(picture: Image.Image, box: Box, ground: Colour) -> tuple[Image.Image, Box]:
    """Return a picture with ground around it where a box leaves it, and the box in it."""
    left, top = max(math.ceil(-box[0]), 0), max(math.ceil(-box[1]), 0)
    right, bottom = max(math.ceil(box[2] - picture.width), 0), max(math.ceil(box[3] - picture.height), 0)
    extended = ImageOps.expand(picture, (left, top, right, bottom), ground)
    return extended, (box[0] + left, box[1] + top, box[2] + left, box[3] + top)
