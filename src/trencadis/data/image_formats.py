"""The picture formats that are read, each known by its content: the only list of them.

Pillow's `open` is not used: it tries every format that is registered in the process, and its limit on pixels is global.
"""

from collections.abc import Callable
from io import BytesIO

from PIL import AvifImagePlugin, Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from trencadis.data.image_containers import (
    Content,
    bmp_content,
    exif_orientation,
    gif_content,
    iso_content,
    jpeg_content,
    png_content,
    tiff_content,
)
from trencadis.errors import PictureError

EXPECTED = "a complete PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC picture"
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0")
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}

# What is often found in place of a picture, by its first bytes in small letters.
_OTHERS = {
    "a web page": (b"<!doctype html", b"<html", b"<head", b"<body"),
    "SVG, or other XML": (b"<svg", b"<?xml", b"<!doctype svg"),
    "JSON": (b"{", b"["),
    "a pointer of Git LFS": (b"version https://git-lfs",),
    "PDF": (b"%pdf",),
    "a BigTIFF with the high byte first": (b"mm\0+",),
    "JPEG 2000": (b"\0\0\0\x0cjp  ", b"\xff\x4f\xff\x51"),
    "JPEG XL": (b"\0\0\0\x0cjxl ", b"\xff\x0a"),
    "a Photoshop document": (b"8bps",),
    "a zip archive": (b"pk\x03\x04",),
}
_Opened = tuple[ImageFile, Content]


def open_picture(raw: bytes, max_image_pixels: int | None) -> tuple[ImageFile, Content]:
    """Read the header of a picture and what belongs to it beside its pixels; the pixels are not decoded.

    Raises:
        PictureError: It is of another format, or has more pixels than `max_image_pixels`.
        Exception: Any kind, where it is damaged.
    """
    opener = _opener(raw)
    if opener is None:
        raise PictureError(_other_content(raw), expected=EXPECTED, remedy="convert the picture, or fetch it again")
    image, content = opener(raw, max_image_pixels)
    _check_pixels(*image.size, max_image_pixels)
    return image, content


def _opener(raw: bytes) -> Callable[[bytes, int | None], _Opened] | None:
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        return _webp
    if raw[4:8] == b"ftyp":
        box = raw[8 : int.from_bytes(raw[:4], "big")][:4096]
        brands = {box[at : at + 4] for at in range(0, len(box), 4)}
        return _avif if brands & {b"avif", b"avis"} else _heic if brands & _HEIC_BRANDS else None
    return next((opener for start, opener in _OPENERS.items() if raw.startswith(start)), None)


def _other_content(raw: bytes) -> str:
    """Say what is no picture, or one of a format that is not read."""
    if not raw:
        return "the file is empty"
    start = raw[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    name = next((name for name, starts in _OTHERS.items() if start.startswith(starts)), None)
    return "the content is not a picture in a format that is read" if name is None else f"the content is {name}"


def _png(raw: bytes, max_image_pixels: int | None) -> _Opened:
    content = png_content(raw)
    return PngImageFile(BytesIO(content.raw)), content


def _jpeg(raw: bytes, max_image_pixels: int | None) -> _Opened:
    content = jpeg_content(raw)
    return JpegImageFile(BytesIO(content.raw)), content


def _gif(raw: bytes, max_image_pixels: int | None) -> _Opened:
    content = gif_content(raw)
    return GifImageFile(BytesIO(content.raw)), content


def _bmp(raw: bytes, max_image_pixels: int | None) -> _Opened:
    content = bmp_content(raw)
    return BmpImageFile(BytesIO(raw)), content


def _tiff(raw: bytes, max_image_pixels: int | None) -> _Opened:
    content = tiff_content(raw, max_image_pixels)
    try:
        return _Tiff(BytesIO(content.raw)), content
    except SyntaxError as error:  # Pillow names the part of the format that it does not know
        given = f"the picture is a kind of TIFF that is not read ({error})"
        raise PictureError(given, expected=EXPECTED, remedy="save it as PNG") from error


def _webp(raw: bytes, max_image_pixels: int | None) -> _Opened:
    # Pillow allocates the whole picture as soon as it opens a WebP.
    _check_pixels(*_webp_size(raw), max_image_pixels)
    return _with_notes(WebPImageFile(BytesIO(raw)), raw)


def _avif(raw: bytes, max_image_pixels: int | None) -> _Opened:
    if not AvifImagePlugin.SUPPORTED:
        given = "the picture is AVIF, which this build of Pillow does not read"
        raise PictureError(given, expected="Pillow with AVIF", remedy="pip install -U pillow")
    return _with_notes(AvifImagePlugin.AvifImageFile(BytesIO(iso_content(raw).raw)), raw)


def _heic(raw: bytes, max_image_pixels: int | None) -> _Opened:
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        given, remedy = "the picture is HEIC, and pillow-heif is not installed", "pip install 'trencadis[heif]'"
        raise PictureError(given, expected="the extra `heif`", remedy=remedy) from error
    return _with_notes(HeifImageFile(BytesIO(iso_content(raw).raw)), raw)  # type: ignore[no-untyped-call]


_OPENERS: dict[bytes, Callable[[bytes, int | None], _Opened]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"GIF87a": _gif,
    b"GIF89a": _gif,
    b"BM": _bmp,
    **dict.fromkeys(_TIFF_STARTS, _tiff),
}


class _Tiff(TiffImageFile):
    def load_prepare(self) -> None:
        """Allocate the picture, so that Pillow's global limit on pixels is not applied: ours was."""
        if self._im is None:
            self.im = Image.new(self.mode, self.size).im
        super().load_prepare()


def _with_notes(image: ImageFile, raw: bytes) -> _Opened:
    exif, profile = (image.info.get(name) or b"" for name in ("exif", "icc_profile"))
    return image, Content(raw, exif_orientation(exif), profile)


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
