"""An image prompt: a picture's tokens, and which of them are kept."""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float, Int
from PIL import Image, ImageOps
from torch import Tensor

from trencadis.data.colours import on_white
from trencadis.data.pixels import to_tensor
from trencadis.errors import ConfigError, PictureError
from trencadis.protocols import ImageTokenizer
from trencadis.sampling.options import ImagePrompt
from trencadis.stream import Stream

_MASKED = 128  # of 255
Grid = Int[Tensor, "rows columns"] | Sequence[Sequence[int]]
"""Image tokens of one picture, as a tensor or as a list of rows."""


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
    tokens = picture_tokens(tokenizer, image, device=device)
    if keep_rows is not None:
        kept = (torch.arange(rows) < keep_rows)[:, None].expand(rows, columns)
    else:
        assert mask is not None
        kept = ~_anew(mask, tokenizer)
    _warn_of_extremes(kept, f"keep_rows {keep_rows}" if mask is None else "the mask")
    return ImagePrompt(tokens, kept)


def picture_tokens(
    tokenizer: ImageTokenizer, image: Image.Image, *, device: torch.device
) -> Int[Tensor, "rows columns"]:
    """Return the tokens of a picture, which is cropped in the middle to the model's aspect and resized; on the CPU."""
    return tokenizer.encode(_fitted(image, tokenizer)[None].to(device))[0].cpu()


def token_prefix(image_tokens: Grid | None, kept_tokens: int | None, stream: Stream) -> ImagePrompt | None:
    """Return the first tokens of a grid, in raster order, as those that stay; None where none does.

    Raises:
        ConfigError: One is given without the other, or `kept_tokens` is out of its range.
        PictureError: The grid is not one of the model.
    """
    if image_tokens is None or kept_tokens is None:
        if image_tokens is not None or kept_tokens is not None:
            given = "image_tokens without kept_tokens" if kept_tokens is None else "kept_tokens without image_tokens"
            raise ConfigError(given, expected="both, or neither", remedy="give the other one too")
        return None
    grid = token_grid(image_tokens, stream)
    if not 0 <= kept_tokens <= stream.image_len:
        expected = f"0..{stream.image_len}, the image tokens of this model"
        raise ConfigError(f"kept_tokens {kept_tokens}", expected=expected, remedy="choose one in between")
    kept = torch.arange(stream.image_len) < kept_tokens
    return ImagePrompt(grid, kept.view_as(grid)) if kept_tokens else None


def token_grid(image_tokens: Grid, stream: Stream, *, name: str = "image_tokens") -> Int[Tensor, "rows columns"]:
    """Return the image tokens of a picture as a tensor on the CPU. A message calls them `name`.

    Raises:
        PictureError: They have other rows or columns than the model's, or one is outside its vocabulary.
    """
    rows = image_tokens.tolist() if isinstance(image_tokens, Tensor) else [list(row) for row in image_tokens]
    (height, width), remedy = stream.grid_size, "take those of a picture that this model drew or read"
    if [len(row) for row in rows] != [width] * height:
        given = f"{name} in {len(rows)} rows of {' or '.join(map(str, sorted({len(row) for row in rows}))) or 0}"
        raise PictureError(given, expected=f"{height} rows of {width}", remedy=remedy)
    strange = [token for row in rows for token in row if not 0 <= token < stream.image_vocab_size]
    if strange:
        given, expected = f"{name} with the token {strange[0]}", f"tokens in 0..{stream.image_vocab_size - 1}"
        raise PictureError(given, expected=expected, remedy=remedy)
    return torch.tensor(rows, dtype=torch.long)


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
