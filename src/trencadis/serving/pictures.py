"""Pictures that are sent, which are not trusted, and pictures that are answered."""

import base64
import binascii
import io

from PIL import Image

from trencadis.data.image_files import decode_picture
from trencadis.drawn import Record, png_with_record
from trencadis.errors import PictureError
from trencadis.serving.faults import ApiError
from trencadis.serving.settings import ServingConfig

SQUARES = (256, 512, 1024)
_MAGIC = {"PNG": (0, b"\x89PNG\r\n\x1a\n"), "JPEG": (0, b"\xff\xd8\xff"), "WEBP": (8, b"WEBP")}
DEFAULT_QUALITY = 95


def read_upload(
    raw: bytes, param: str, config: ServingConfig, *, formats: tuple[str, ...] = tuple(_MAGIC)
) -> Image.Image:
    """Return the picture in bytes, with its transparency. Their content counts, not what they are called.

    Raises:
        ApiError: They are too large, of another format, or damaged.
    """
    if len(raw) > config.max_picture_bytes:
        message = f"{param} has {len(raw):,} bytes; expected at most {config.max_picture_bytes:,}."
        raise ApiError(400, message, "invalid_value", param=param)
    if not any(raw[start : start + len(magic)] == magic for start, magic in (_MAGIC[name] for name in formats)):
        raise ApiError(400, f"{param} is not a picture; expected {' or '.join(formats)}.", "invalid_value", param=param)
    try:
        return decode_picture(raw, max_image_pixels=config.max_pixels, on_white=False)
    except PictureError as error:
        raise ApiError(400, f"{param}: {error}.", "invalid_value", param=param) from error


def from_data_url(url: str, param: str) -> bytes:
    """Return the bytes in a data URL; no other URL is fetched."""
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        message = f"{param} is not a data URL in base64, and no other is fetched; send data:image/png;base64,…"
        raise ApiError(400, message, "invalid_value", param=param)
    return from_base64(data, param)


def from_base64(text: str, param: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        message = f"{param} is not base64; expected the content of a picture's file in it."
        raise ApiError(400, message, "invalid_value", param=param) from error


def output_size(size: str | None, drawn: tuple[int, int]) -> tuple[int, int]:
    """Return width and height of what is answered.

    Args:
        size: `auto` or None for the model's own; also a square of 256, 512 or 1024 pixels, which is resampled.
        drawn: Width and height that the model draws.
    """
    if size in (None, "auto", f"{drawn[0]}x{drawn[1]}"):
        return drawn
    for side in SQUARES:
        if size == f"{side}x{side}" and drawn[0] == drawn[1]:
            return side, side
    squares = [f"{side}x{side}" for side in SQUARES] if drawn[0] == drawn[1] else []
    expected = ", ".join(["auto", f"{drawn[0]}x{drawn[1]}", *squares])
    raise ApiError(
        400, f"size {size} is not drawn by this model; expected one of {expected}.", "invalid_value", param="size"
    )


def encoded(
    image: Image.Image, record: Record | None, output_format: str, quality: int | None, size: tuple[int, int]
) -> bytes:
    """Return a picture as a file.

    Args:
        record: Goes into a PNG; None for a partial picture.
        quality: Of JPEG and WebP, 0..100.
        size: Width and height; another than the picture's is resampled.
    """
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if output_format == "png" and record is not None:
        return png_with_record(image, record)
    buffer = io.BytesIO()
    options = {} if output_format == "png" else {"quality": DEFAULT_QUALITY if quality is None else quality}
    image.save(buffer, output_format, **options)
    return buffer.getvalue()
