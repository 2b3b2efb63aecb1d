"""Pictures from bytes that nobody vouches for: what the content is, how large it is, and only then its pixels.

PNG, JPEG and WebP are read, whatever the file is called; the first frame where there are several.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from trencadis.config import FilterConfig
from trencadis.data.files import MAX_PICTURE_BYTES, read_regular_file
from trencadis.errors import PictureError

_EXPECTED = "a whole PNG, JPEG or WebP picture"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(path: str | Path, *, max_image_pixels: int = FilterConfig.max_image_pixels) -> Image.Image:
    """Return the picture in a file as upright RGB, laid on white where it is transparent.

    Raises:
        PictureError: There is no such file, or `decode_picture` refuses its content; the path is named.
    """
    try:
        raw = read_regular_file(Path(path), MAX_PICTURE_BYTES)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise PictureError(f"cannot read {path}: {reason}", expected=_EXPECTED, remedy="check the path") from error
    try:
        return decode_picture(raw, max_image_pixels=max_image_pixels)
    except PictureError as error:
        raise PictureError(f"{path}: {error.given}", expected=error.expected, remedy=error.remedy) from error


def decode_picture(raw: bytes, *, max_image_pixels: int, enough: int | None = None) -> Image.Image:
    """Return a picture as upright RGB, laid on white where it is transparent.

    Args:
        raw: The content of a PNG, JPEG or WebP file.
        max_image_pixels: Larger pictures are refused by their header, before any memory is taken for them.
        enough: A shortest side in pixels that suffices; large JPEGs are then decoded at a half, a quarter or an eighth.

    Raises:
        PictureError: The content is something else, is cut short or damaged, or has too many pixels.
    """
    image = _open(raw, max_image_pixels)
    try:
        if enough is not None:
            image.draft(None, (enough, enough))  # None keeps the mode
        image.load()
        return _on_white(_eight_bits(_upright(image)))
    except Exception as error:  # Pillow meets damage with a dozen kinds, struct.error and IndexError among them
        raise _unreadable(error) from error


def picture_size(raw: bytes, *, max_image_pixels: int | None = None) -> tuple[int, int]:
    """Return height and width in pixels, upright, from the header alone.

    Raises:
        PictureError: The content is no PNG, JPEG or WebP, or has more pixels than `max_image_pixels`.
    """
    image = _open(raw, max_image_pixels)
    width, height = image.size
    return (width, height) if _orientation(image) in (5, 6, 7, 8) else (height, width)


def _open(raw: bytes, max_image_pixels: int | None) -> ImageFile:
    """Read the header. Pillow's `open` is not used: its limit on pixels is one for the whole process."""
    try:
        if raw.startswith(b"\x89PNG\r\n\x1a\n"):
            image: ImageFile = PngImageFile(BytesIO(raw))
        elif raw.startswith(b"\xff\xd8\xff"):
            image = JpegImageFile(BytesIO(raw))
        elif raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
            # Pillow takes memory for the whole picture as soon as it opens a WebP.
            _check_pixels(*_webp_size(raw), max_image_pixels)
            image = WebPImageFile(BytesIO(raw))
        else:
            given = "the content is no PNG, JPEG or WebP" if raw else "the file is empty"
            raise PictureError(given, expected=_EXPECTED, remedy="convert the picture")
    except PictureError:
        raise
    except Exception as error:  # as above
        raise _unreadable(error) from error
    _check_pixels(*image.size, max_image_pixels)
    return image


def _unreadable(error: Exception) -> PictureError:
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        given = "the picture is cut short"
    else:
        given = f"the picture is damaged ({' '.join(str(error).split())[:100] or type(error).__name__})"
    return PictureError(given, expected=_EXPECTED, remedy="save or download it again")


def _check_pixels(width: int, height: int, max_image_pixels: int | None) -> None:
    if max_image_pixels is not None and width * height > max_image_pixels:
        raise PictureError(
            f"the picture has {width:,} × {height:,} pixels",
            expected=f"at most {max_image_pixels:,} in all",
            remedy="shrink it, or raise max_image_pixels",
        )


def _webp_size(raw: bytes) -> tuple[int, int]:
    """Return width and height as the first chunk of a WebP file states them."""
    kind = raw[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(raw[24:27], "little"), 1 + int.from_bytes(raw[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(raw[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(raw[26:28], "little") & 0x3FFF, int.from_bytes(raw[28:30], "little") & 0x3FFF


def _orientation(image: Image.Image) -> int:
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF is no reason to lose the picture
        return 1
    return orientation if isinstance(orientation, int) else 1


def _upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys to 8 bits; Pillow's own conversion would clip them."""
    if not image.mode.startswith("I"):
        return image
    greys = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((greys.clip(0, 65535) + 128) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    drawn = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
