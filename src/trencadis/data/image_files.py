"""Pictures from untrusted bytes: first the format, then the size, and only then the pixels.

The formats of `image_formats` are read, whatever the file is called; of several frames or pages the first. Pixels mean
what a viewer shows: upright, in sRGB, on white.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from trencadis.config import FilterConfig
from trencadis.data import colours
from trencadis.data.files import MAX_PICTURE_BYTES, read_regular_file, reason
from trencadis.data.image_containers import Content
from trencadis.data.image_formats import EXPECTED, open_picture
from trencadis.errors import PictureError
from trencadis.memory import in_memory

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Texts of a file by these names would be taken for what Pillow keeps there.
_NAMES_OF_PILLOW = {"dpi", "exif", "gamma", "icc_profile", "transparency", "xmp"}
_CLOSE = "close other programs, or shrink the picture"


def read_picture(
    path: str | Path, *, max_image_pixels: int = FilterConfig.max_image_pixels, on_white: bool = True
) -> Image.Image:
    """Return the picture in a file as `decode_picture` does. The texts in a PNG are in its `info`.

    Raises:
        PictureError: There is no such file, or `decode_picture` refuses its content; the path is named.
        FullMemoryError: There is no room for it; the path is named.
    """
    with in_memory(f"reading {path}", remedy=_CLOSE):
        try:
            raw = read_regular_file(Path(path), MAX_PICTURE_BYTES)
        except OSError as error:
            given = f"cannot read {path}: {reason(error)}"
            raise PictureError(given, expected=EXPECTED, remedy="check the path") from error
        try:
            return decode_picture(raw, max_image_pixels=max_image_pixels, on_white=on_white)
        except PictureError as error:
            raise PictureError(f"{path}: {error.given}", expected=error.expected, remedy=error.remedy) from error


def decode_picture(
    raw: bytes, *, max_image_pixels: int, enough: int | None = None, on_white: bool = True
) -> Image.Image:
    """Return a picture as upright 8-bit sRGB, on white where it is transparent.

    Args:
        max_image_pixels: Larger pictures are refused by their header, before memory is allocated for them.
        enough: A short edge in pixels that suffices; larger pictures are shrunk by a whole factor, JPEGs as they are
            decoded.
        on_white: Put the picture on white and return RGB; else it is L, LA, RGB or RGBA.

    Raises:
        PictureError: The content is another format, is cut short or damaged, or has too many pixels.
        FullMemoryError: There is no room for it.
    """
    image, content = _opened(raw, max_image_pixels)
    with in_memory(f"decoding {image.width:,} × {image.height:,} pixels", remedy=_CLOSE):
        try:
            if enough is not None and isinstance(image, JpegImageFile):
                image.draft(None, (enough, enough))  # None keeps the mode
            size = image.size
            image.load()
            if image.size != size:
                raise ValueError("its pixels have another size than its header says")
            picture = _shrunk(_eight_bits(image, content), enough)
            turn = _UPRIGHT.get(content.orientation)
            picture = colours.as_srgb(picture if turn is None else picture.transpose(turn), content.profile)
            picture = colours.on_white(picture) if on_white else picture
        except Exception as error:  # damage makes Pillow raise a dozen kinds, struct.error and IndexError among them
            raise _unreadable(error) from error
    picture.info = {name: text for name, text in content.texts.items() if name not in _NAMES_OF_PILLOW}
    return picture


def picture_size(raw: bytes, *, max_image_pixels: int | None = None) -> tuple[int, int]:
    """Return height and width in pixels, upright, from the header alone.

    Raises:
        PictureError: The content is of a format that is not read, or has more pixels than `max_image_pixels`.
    """
    image, content = _opened(raw, max_image_pixels)
    width, height = image.size
    return (width, height) if content.orientation >= 5 else (height, width)


def _opened(raw: bytes, max_image_pixels: int | None) -> tuple[ImageFile, Content]:
    with in_memory("reading a picture's header", remedy=_CLOSE):
        try:
            return open_picture(raw, max_image_pixels)
        except PictureError:
            raise
        except Exception as error:  # as above
            raise _unreadable(error) from error


def _unreadable(error: Exception) -> PictureError:
    given = f"the picture is damaged ({' '.join(str(error).split())[:100] or type(error).__name__})"
    if "truncated" in str(error).lower() or isinstance(error, (EOFError, IndexError)):
        given = "the picture is cut short"
    return PictureError(given, expected=EXPECTED, remedy="save or download it again")


def _eight_bits(image: Image.Image, content: Content) -> Image.Image:
    """Return L, LA, RGB, RGBA, CMYK or LAB; transparent outside the first frame."""
    if image.mode.startswith("I;16"):
        return _scaled_greys(image, content)
    if image.mode in ("CMYK", "LAB"):
        return image
    is_grey = image.mode in ("1", "L", "LA", "La")
    if content.frame is not None and not image.has_transparency_data:
        picture = Image.new("RGBA", image.size)
        picture.paste(image.convert("RGB").crop(content.frame), content.frame)
        return picture
    if image.has_transparency_data:
        return image.convert("LA" if is_grey else "RGBA")
    return image.convert("L" if is_grey else "RGB")


def _scaled_greys(image: Image.Image, content: Content) -> Image.Image:
    """Scale greys of up to 16 bits to 8, as Pillow's own conversion clips them."""
    coded = np.asarray(image).astype(np.float32)
    scaled = (coded - content.black) * (255 / (content.white - content.black))
    greys = Image.fromarray((scaled.clip(0, 255) + 0.5).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return greys
    return Image.merge("LA", (greys, Image.fromarray(np.where(coded == transparent, 0, 255).astype(np.uint8))))


def _shrunk(picture: Image.Image, enough: int | None) -> Image.Image:
    factor = 1 if enough is None else min(picture.size) // enough
    return picture.reduce(factor) if factor > 1 else picture
