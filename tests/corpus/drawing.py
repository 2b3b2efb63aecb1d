"""The picture that most files of the corpus hold, and how such a file is described."""

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from tests.support.icc import P3_PRIMARIES, cmyk_profile, in_srgb, lab_in_srgb, rgb_profile, srgb_linear

Pixels = Mapping[tuple[int, int], tuple[int, ...]]

SIZE = 48, 32
RED, GREEN, BLUE, YELLOW, WHITE = (200, 40, 30), (30, 160, 60), (40, 60, 190), (240, 220, 90), (255, 255, 255)
QUARTERS: Pixels = {(8, 8): RED, (40, 8): GREEN, (8, 24): BLUE, (40, 24): YELLOW}
P3 = rgb_profile(P3_PRIMARIES, srgb_linear)
# A printer whose magenta on yellow is a red that no viewer shows without its profile.
_PRINTED_RED = 40, 50, 40
PRINTER = cmyk_profile(lambda c, m, y, k: (0, 0, 0) if k else _PRINTED_RED if m and y and not c else (90, 0, 0))
INK_RED = lab_in_srgb(*_PRINTED_RED)


@dataclass(frozen=True)
class Odd:
    """A file, and what is right.

    Args:
        pixels: Some of them, of the decoded picture in RGB.
        within: Largest difference of a channel, for files that lose something.
        fault: A regular expression of the message, for files that cannot be read.
    """

    raw: bytes
    pixels: Pixels = field(default_factory=lambda: QUARTERS)
    within: int = 0
    size: tuple[int, int] = SIZE
    fault: str | None = None


def quarters(mode: str = "RGB") -> Image.Image:
    """Return a picture of four colours."""
    image = Image.new("RGB", SIZE, RED)
    for colour, place in ((GREEN, (24, 0)), (BLUE, (0, 16)), (YELLOW, (24, 16))):
        image.paste(colour, (*place, place[0] + 24, place[1] + 16))
    return image.convert(mode)


def see_through(mode: str = "RGBA") -> Image.Image:
    """Return the four colours, of which the first is transparent."""
    image = quarters("RGBA")
    image.paste((10, 20, 30, 0), (0, 0, 24, 16))
    return image.convert(mode)


SEEN_THROUGH: Pixels = {**QUARTERS, (8, 8): WHITE}


def lying(orientation: int = 6) -> Image.Image:
    """Return the four colours as a camera stores them that says `orientation` of them."""
    assert orientation == 6
    return quarters().transpose(Image.Transpose.ROTATE_90)


def exif(orientation: int = 6) -> Image.Exif:
    content = Image.Exif()
    content[0x0112] = orientation
    return content


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    return raw.getvalue()


def grey(colour: tuple[int, ...]) -> tuple[int, ...]:
    level = Image.new("RGB", (1, 1), (colour[0], colour[1], colour[2])).convert("L").getpixel((0, 0))
    assert isinstance(level, int)
    return level, level, level


def greys(pixels: Pixels = QUARTERS) -> Pixels:
    return {place: grey(colour) for place, colour in pixels.items()}


def from_p3(pixels: Pixels = QUARTERS) -> Pixels:
    """Return what a viewer shows where the colours are coded in Display P3."""
    return {place: tuple(in_srgb(colour, P3_PRIMARIES, srgb_linear)) for place, colour in pixels.items()}


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header: bytes, rows: bytes, *before: bytes, after: bytes = b"") -> bytes:
    """Return a PNG from parts: IHDR, filtered rows, and chunks before and after the pixels."""
    pixels = chunk(b"IDAT", zlib.compress(rows))
    end = after + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(before) + pixels + end


def png_with(*chunks: bytes, image: Image.Image | None = None, late: bool = False) -> bytes:
    """Return a PNG with chunks put before its pixels, or after them."""
    raw = encoded(quarters() if image is None else image)
    place = raw.index(b"IEND") - 4 if late else 33
    return raw[:place] + b"".join(chunks) + raw[place:]


def jpeg_with(*segments: bytes, image: Image.Image | None = None, **options: Any) -> bytes:
    """Return a JPEG with segments put before all others."""
    raw = encoded(quarters() if image is None else image, "JPEG", quality=95, subsampling=0, **options)
    return raw[:2] + b"".join(segments) + raw[2:]


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def tiff_tags(raw: bytes, changes: dict[int, tuple[int, int, bytes]]) -> bytes:
    """Return a little-endian TIFF with tags changed or added: type, number of values, and the values or their place."""
    start = struct.unpack_from("<I", raw, 4)[0]
    count = struct.unpack_from("<H", raw, start)[0]
    entries = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from("<HHI", raw, at)
        entries[tag] = kind, number, raw[at + 8 : at + 12]
    entries |= changes
    directory = struct.pack("<H", len(entries))
    for tag, (kind, number, value) in sorted(entries.items()):
        directory += struct.pack("<HHI", tag, kind, number) + value.ljust(4, b"\0")
    padded = raw + bytes(len(raw) % 2)
    return padded[:4] + struct.pack("<I", len(padded)) + padded[8:] + directory + bytes(4)


def ramp() -> np.ndarray[tuple[int, int], np.dtype[np.uint16]]:
    """Return greys of 16 bits, from black at the left to white at the right."""
    row = np.linspace(0, 65_535, SIZE[0]).round().astype(np.uint16)
    return np.tile(row, (SIZE[1], 1))


RAMP: Pixels = {(x, 5): (round(255 * x / 47),) * 3 for x in (0, 10, 24, 40, 47)}
