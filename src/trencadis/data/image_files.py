"""Pictures from untrusted bytes: first the format, then the size, and only then the pixels.

PNG, JPEG and WebP are read, whatever the file is called; of several frames the first.
"""

import re
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from trencadis.config import FilterConfig
from trencadis.data.files import MAX_PICTURE_BYTES, read_regular_file, reason
from trencadis.errors import PictureError

_EXPECTED = "a complete PNG, JPEG or WebP picture"
_ORIENTATION = 0x0112
# Coded pixels cannot contain a marker: 0xFF is always escaped there.
_JPEG_EXIF = re.compile(rb"(\xff\xe1..)(Exif\0\0)", re.DOTALL)
_MAX_EXIF_BYTES = 65_535
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_picture(
    path: str | Path, *, max_image_pixels: int = FilterConfig.max_image_pixels, on_white: bool = True
) -> Image.Image:
    """Return the picture in a file as upright RGB, on white where it is transparent, or in its own mode for a mask.

    Raises:
        PictureError: There is no such file, or `decode_picture` refuses its content; the path is named.
    """
    try:
        raw = read_regular_file(Path(path), MAX_PICTURE_BYTES)
    except OSError as error:
        given = f"cannot read {path}: {reason(error)}"
        raise PictureError(given, expected=_EXPECTED, remedy="check the path") from error
    try:
        return decode_picture(raw, max_image_pixels=max_image_pixels, on_white=on_white)
    except PictureError as error:
        raise PictureError(f"{path}: {error.given}", expected=error.expected, remedy=error.remedy) from error


def decode_picture(
    raw: bytes, *, max_image_pixels: int, enough: int | None = None, on_white: bool = True
) -> Image.Image:
    """Return a picture as upright RGB, on white where it is transparent.

    Args:
        max_image_pixels: Larger pictures are refused by their header, before memory is allocated for them.
        enough: A short edge in pixels that suffices; large JPEGs are then decoded at a half, a quarter or an eighth.
        on_white: Put the picture on white and return RGB; else it keeps its own mode.

    Raises:
        PictureError: The content is another format, is cut short or damaged, or has too many pixels.
    """
    image, exif = _open(raw, max_image_pixels)
    try:
        if enough is not None:
            image.draft(None, (enough, enough))  # None keeps the mode
        image.load()
        # A PNG may have its EXIF after the pixels.
        turn = _UPRIGHT.get(_orientation(exif or _exif_of(image)))
        picture = _eight_bits(image if turn is None else image.transpose(turn))
        return _on_white(picture) if on_white else picture
    except Exception as error:  # damage makes Pillow raise a dozen kinds, struct.error and IndexError among them
        raise _unreadable(error) from error


def picture_size(raw: bytes, *, max_image_pixels: int | None = None) -> tuple[int, int]:
    """Return height and width in pixels, upright, from the header alone.

    Raises:
        PictureError: The content is not PNG, JPEG or WebP, or has more pixels than `max_image_pixels`.
    """
    image, exif = _open(raw, max_image_pixels)
    width, height = image.size
    return (width, height) if _orientation(exif) in (5, 6, 7, 8) else (height, width)


def _open(raw: bytes, max_image_pixels: int | None) -> tuple[ImageFile, bytes]:
    """Read the header and EXIF. Pillow's `open` is not used: its limit on pixels is global to the process."""
    exif = b""
    try:
        if raw.startswith(b"\x89PNG\r\n\x1a\n"):
            image: ImageFile = PngImageFile(BytesIO(raw))
        elif raw.startswith(b"\xff\xd8\xff"):
            raw, exif = _without_exif(raw)
            image = JpegImageFile(BytesIO(raw))
        elif raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
            # Pillow allocates the whole picture as soon as it opens a WebP.
            _check_pixels(*_webp_size(raw), max_image_pixels)
            image = WebPImageFile(BytesIO(raw))
        else:
            given = "the content is not PNG, JPEG or WebP" if raw else "the file is empty"
            raise PictureError(given, expected=_EXPECTED, remedy="convert the picture")
    except PictureError:
        raise
    except Exception as error:  # as above
        raise _unreadable(error) from error
    _check_pixels(*image.size, max_image_pixels)
    return image, exif or _exif_of(image)


def _exif_of(image: ImageFile) -> bytes:
    # A PNG's text chunk may have the same name.
    exif = image.info.get("exif")
    return exif if isinstance(exif, bytes) else b""


def _without_exif(jpeg: bytes) -> tuple[bytes, bytes]:
    """Return a JPEG with its EXIF hidden, and the EXIF. Pillow would parse it and warn of each flaw in it."""
    found = _JPEG_EXIF.search(jpeg)
    if found is None:
        return jpeg, b""
    return jpeg[: found.start(2)] + b"hidden" + jpeg[found.end(2) :], jpeg[found.end(2) :][:_MAX_EXIF_BYTES]


def _unreadable(error: Exception) -> PictureError:
    given = f"the picture is damaged ({' '.join(str(error).split())[:100] or type(error).__name__})"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        given = "the picture is cut short"
    return PictureError(given, expected=_EXPECTED, remedy="save or download it again")


def _check_pixels(width: int, height: int, max_image_pixels: int | None) -> None:
    if max_image_pixels is not None and width * height > max_image_pixels:
        given, expected = f"the picture has {width:,} × {height:,} pixels", f"at most {max_image_pixels:,} in all"
        raise PictureError(given, expected=expected, remedy="shrink it, or raise max_image_pixels")


def _webp_size(raw: bytes) -> tuple[int, int]:
    """Return width and height as the first chunk of a WebP file states them."""
    kind = raw[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(raw[24:27], "little"), 1 + int.from_bytes(raw[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(raw[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(raw[26:28], "little") & 0x3FFF, int.from_bytes(raw[28:30], "little") & 0x3FFF


def _orientation(exif: bytes) -> int:
    """Return EXIF's orientation in 1..8; 1 where it is absent or damaged."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(offset: int, size: int) -> int:
        return int.from_bytes(tiff[offset : offset + size], order)

    directory = number(4, 4)
    for entry in range(directory + 2, min(directory + 2 + 12 * number(directory, 2), len(tiff)), 12):
        if number(entry, 2) == _ORIENTATION:
            return number(entry + 8, 2)
    return 1


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greys to 8 bits, as Pillow's own conversion clips them."""
    if not image.mode.startswith("I"):
        return image
    greys = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((greys.clip(0, 65535) + 128) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    drawn = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
