"""An image prompt: a picture's tokens, and which of them are kept."""

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float
from PIL import Image, ImageOps
from torch import Tensor

from trencadis.data.colours import on_white
from trencadis.data.pixels import to_tensor
from trencadis.errors import ConfigError, PictureError
from trencadis.protocols import ImageTokenizer
from trencadis.sampling.options import ImagePrompt

_MASKED = 128  # of 255


class ImagePromptWarning(UserWarning):
    """All of an image prompt stays, or nothing of it."""


def image_prompt(
    tokenizer: ImageTokenizer,
    image: Image.Image | None,
    *,
    mask: Image.Image | None,
    keep_rows: int | None,
    device: torch.device,
) -> ImagePrompt | None:
    """Return the tokens of a picture and which of them stay; None for no picture.

    The picture is cropped in the middle to the model's aspect and resized. A token is drawn anew where any of its
    pixels is masked. An `ImagePromptWarning` says so if all of them stay, or none.

    Args:
        mask: Of the picture's size; transparent pixels are drawn anew, or white ones where none is transparent.
        keep_rows: Rows of tokens that stay, from the top, in place of a mask.

    Raises:
        ConfigError: Both or neither of `mask` and `keep_rows` are given, one of them is given without a picture, or
            `keep_rows` is out of its range.
        PictureError: The mask has another size than the picture.
    """
    if image is None:
        if mask is not None or keep_rows is not None:
            given = "mask without an image" if mask is not None else "keep_rows without an image"
            raise ConfigError(given, expected="an image that it speaks of", remedy="give the image too")
        return None
    if (mask is None) == (keep_rows is None):
        given = "an image with neither mask nor keep_rows" if mask is None else "both mask and keep_rows"
        raise ConfigError(given, expected="one of the two", remedy="say which part of the image stays")
    rows, columns = tokenizer.grid_size
    if mask is not None and mask.size != image.size:
        given = f"a mask of {mask.width}×{mask.height} pixels for an image of {image.width}×{image.height}"
        raise PictureError(given, expected="a mask of the image's size", remedy="resize the mask")
    if keep_rows is not None and not 0 <= keep_rows <= rows:
        expected = f"0..{rows}, the rows of tokens of this model"
        raise ConfigError(f"keep_rows {keep_rows}", expected=expected, remedy="choose one in between")
    tokens = tokenizer.encode(_fitted(image, tokenizer)[None].to(device))[0].cpu()
    if keep_rows is not None:
        kept = (torch.arange(rows) < keep_rows)[:, None].expand(rows, columns)
    else:
        assert mask is not None
        kept = ~_anew(mask, tokenizer)
    _warn_of_extremes(kept, f"keep_rows {keep_rows}" if mask is None else "the mask")
    return ImagePrompt(tokens, kept)


def _warn_of_extremes(kept: Bool[Tensor, "rows columns"], given: str) -> None:
    if kept.all():
        message = f"{given} keeps all of the image, so nothing is drawn"
    elif not kept.any():
        message = f"{given} keeps nothing of the image, so only the prompt counts"
    else:
        return
    warnings.warn(message, ImagePromptWarning, stacklevel=3)


def _fitted(image: Image.Image, tokenizer: ImageTokenizer) -> Float[Tensor, "3 height width"]:
    height, width = tokenizer.image_size
    return to_tensor(ImageOps.fit(on_white(image), (width, height), Image.Resampling.LANCZOS))


def _anew(mask: Image.Image, tokenizer: ImageTokenizer) -> Bool[Tensor, "rows columns"]:
    """Return which tokens have a masked pixel, after the mask was cropped and resized as the picture is."""
    marked = mask.convert("L")
    if mask.has_transparency_data:
        see_through = mask.convert("RGBA").getchannel("A").point(lambda a: 255 - a)
        # An opaque picture may be saved with an alpha channel; it is not what the mask says then.
        marked = see_through if np.asarray(see_through).max() >= _MASKED else marked
    height, width = tokenizer.image_size
    # Enlarged by the nearest pixel and shrunk by the largest, so that no thin stroke is lost.
    side = max(1, -(-max(marked.size) // max(height, width)))
    fitted = to_tensor(ImageOps.fit(marked, (width * side, height * side), Image.Resampling.NEAREST))[0]
    pixels = F.max_pool2d(fitted[None, None], side)[0, 0]
    factor = tokenizer.down_factor
    return reduce(pixels, "(rows h) (columns w) -> rows columns", "max", h=factor, w=factor) >= _MASKED / 255
