"""Crops of pictures, for training and for looking at."""

import threading
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from trencadis.config import FilterConfig
from trencadis.data.image_files import decode_picture
from trencadis.data.pairs import KeptPair
from trencadis.errors import ConfigError, DataError, PictureError
from trencadis.protocols import PairSource
from trencadis.randomness import Key, derive_uniform

Box = tuple[float, float, float, float]


class Pictures:
    """The pictures of the kept pairs, each decoded and shrunk once where memory allows; used by several threads.

    A crop is the same whether its picture was in memory or not.

    Args:
        source: Where the pictures are.
        pairs: The kept pairs; a pair's place among them is its `position`.
        image_size: Height and width of a crop in pixels.
        headroom: Largest crop of a shrunk picture, over `image_size`: 1.25 leaves enough pixels for crops from 0.8 on.
        memory_bytes: Most that the shrunk pictures take together; those that come first stay.
        max_image_pixels: Larger pictures are refused.

    Raises:
        ConfigError: An argument is out of its range.
    """

    def __init__(
        self,
        source: PairSource,
        pairs: Sequence[KeptPair],
        image_size: tuple[int, int],
        *,
        headroom: float = 1.25,
        memory_bytes: int = 2**31,
        max_image_pixels: int = FilterConfig.max_image_pixels,
    ) -> None:
        if min(image_size) < 1:
            raise ConfigError(f"image_size {image_size}", expected="two sides of 1 or more", remedy="raise it")
        if headroom < 1:
            raise ConfigError(f"headroom {headroom}", expected="1 or more", remedy="raise it")
        self.pairs, self.image_size = tuple(pairs), image_size
        self._source, self._headroom, self._max_image_pixels = source, headroom, max_image_pixels
        self._free_bytes = memory_bytes
        self._shrunk: dict[int, UInt8[np.ndarray, "height width 3"]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.pairs)

    def crop(
        self, position: int, *, min_crop: float = 1.0, flip: bool = False, key: tuple[Key, ...] | None = None
    ) -> Float[Tensor, "3 height width"]:
        """Return one crop as RGB in [0, 1], of `image_size`, resized without aliasing.

        Args:
            position: Which of the pairs.
            min_crop: Shortest side of a random crop, as a share of the largest that fits in this aspect; in (0, 1].
            flip: Mirror half of the random crops.
            key: What the random crop is a pure function of, such as (seed, epoch, sample id). None takes the largest
                crop, from the middle, as it is.

        Raises:
            ConfigError: `min_crop` is out of its range.
            DataError: The picture can no longer be read.
        Source: Ramesh et al. 2021, appendix A.2.
        """
        pixels = np.array(self.crop_image(position, min_crop=min_crop, flip=flip, key=key), np.float32)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(255))

    def crop_image(
        self, position: int, *, min_crop: float = 1.0, flip: bool = False, key: tuple[Key, ...] | None = None
    ) -> Image.Image:
        """Return the same crop as a Pillow image."""
        if not 0 < min_crop <= 1:
            raise ConfigError(f"min_crop {min_crop}", expected="above 0 and up to 1", remedy="choose one in between")
        picture = Image.fromarray(self._picture(position))
        height, width = self.image_size
        box = _crop_box((picture.height, picture.width), self.image_size, min_crop, key)
        crop = picture.resize((width, height), Image.Resampling.LANCZOS, box=box)
        mirrored = flip and key is not None and derive_uniform(*key, "flip") < 0.5
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop

    def _picture(self, position: int) -> UInt8[np.ndarray, "height width 3"]:
        known = self._shrunk.get(position)
        if known is not None:
            return known
        shrunk = np.asarray(self._decode(position))
        with self._lock:
            if position not in self._shrunk and shrunk.nbytes <= self._free_bytes:
                self._free_bytes -= shrunk.nbytes
                self._shrunk[position] = shrunk
        return shrunk

    def _decode(self, position: int) -> Image.Image:
        """Read a picture and shrink it so far that its largest crop has `headroom` times the size of a crop."""
        pair = self.pairs[position]
        needed = round(self._headroom * max(self.image_size))
        try:
            raw = self._source.image_bytes(pair.index)
            picture = decode_picture(raw, max_image_pixels=self._max_image_pixels, enough=2 * needed)
        except PictureError as error:
            given = f"the picture of {pair.sample_id} can no longer be read: {error.given}"
            raise DataError(given, expected=error.expected, remedy="run `trencadis data check` on it") from error
        height, width = self.image_size
        scale = self._headroom * max(width / picture.width, height / picture.height)
        if scale >= 1:
            return picture
        size = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
        return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _crop_box(size: tuple[int, int], image_size: tuple[int, int], min_crop: float, key: tuple[Key, ...] | None) -> Box:
    """Return left, top, right and bottom of a crop of `image_size`'s aspect from a picture of `size`, in its pixels."""
    share, across, down = 1.0, 0.5, 0.5
    if key is not None:
        share = min_crop + (1 - min_crop) * derive_uniform(*key, "crop size")
        across, down = derive_uniform(*key, "crop across"), derive_uniform(*key, "crop down")
    scale = share * min(size[0] / image_size[0], size[1] / image_size[1])
    crop_height, crop_width = scale * image_size[0], scale * image_size[1]
    top, left = down * max(size[0] - crop_height, 0), across * max(size[1] - crop_width, 0)
    # Rounding may carry the far edges a hair beyond the picture, which Pillow refuses.
    return left, top, min(left + crop_width, size[1]), min(top + crop_height, size[0])
