"""TIFF files as scanners, microscopes and printers write them."""

import struct
from typing import Any

import numpy as np
from PIL import Image

from tests.corpus.drawing import (
    INK_RED,
    P3,
    PRINTER,
    RAMP,
    SEEN_THROUGH,
    SIZE,
    WHITE,
    Odd,
    encoded,
    exif,
    from_p3,
    greys,
    lying,
    quarters,
    ramp,
    see_through,
    tiff_tags,
)

_SHORT, _LONG = 3, 4


def files() -> dict[str, Odd]:
    return {f"tiff, {name}": odd for name, odd in (_pixels() | _beside() | _faults()).items()}


def _tiff(image: Image.Image, **options: Any) -> bytes:
    return encoded(image, "TIFF", **options)


def _pixels() -> dict[str, Odd]:
    compressed = ("tiff_lzw", "tiff_adobe_deflate", "packbits")
    bits = quarters("L").point(lambda level: 255 * (level > 100)).convert("1")
    black_and_white = {(8, 8): (0, 0, 0), (40, 24): WHITE}
    grey_16 = Image.fromarray(ramp())
    swapped = Image.frombytes("I;16B", SIZE, ramp().astype(">u2").tobytes())
    inverted = tiff_tags(_tiff(Image.fromarray(65_535 - ramp())), {262: (_SHORT, 1, struct.pack("<H", 0))})
    inks = Image.new("CMYK", SIZE, (0, 255, 255, 0))
    return {
        **{f"compressed by {name}": Odd(_tiff(quarters(), compression=name)) for name in compressed},
        "compressed as JPEG": Odd(_tiff(quarters(), compression="jpeg", quality=95), within=8),
        "a fax": Odd(_tiff(bits, compression="group4"), black_and_white),
        "one bit": Odd(_tiff(bits), black_and_white),
        "greys": Odd(_tiff(quarters("L")), greys()),
        "greys of 16 bits": Odd(_tiff(grey_16), RAMP),
        "greys of 16 bits, compressed": Odd(_tiff(grey_16, compression="tiff_lzw"), RAMP),
        "greys of 16 bits, the other byte first": Odd(_tiff(swapped), RAMP),
        "greys of 16 bits, white is zero": Odd(inverted, RAMP),
        "a palette": Odd(_tiff(quarters().quantize(8))),
        "alpha": Odd(_tiff(see_through()), SEEN_THROUGH),
        "inks": Odd(_tiff(inks), {(8, 8): (255, 0, 0)}),
        "inks with a profile": Odd(_tiff(inks, icc_profile=PRINTER), {(8, 8): INK_RED}, 3),
        "Display P3": Odd(_tiff(quarters(), icc_profile=P3), from_p3(), 1),
        "Lab": Odd(_tiff(Image.new("LAB", SIZE, (102, 50 + 128, 40 + 128))), {(8, 8): INK_RED}, 3),
        "YCbCr": Odd(_tiff(quarters("YCbCr")), within=3),
        "several pages": Odd(_tiff(quarters(), save_all=True, append_images=[Image.new("RGB", (9, 9), WHITE)])),
        "BigTIFF": Odd(_tiff(quarters(), big_tiff=True)),
        "BigTIFF, compressed": Odd(_tiff(quarters(), big_tiff=True, compression="tiff_lzw")),
        "lying on its side": Odd(_tiff(lying(), exif=exif())),
        "lying on its side, compressed": Odd(_tiff(lying(), exif=exif(), compression="tiff_lzw")),
    }


def _beside() -> dict[str, Odd]:
    plain = _tiff(quarters())
    elsewhere = struct.pack("<I", 2**31)
    return {
        "notes whose values are elsewhere": Odd(
            tiff_tags(plain, {270: (2, 2**30, elsewhere), 305: (2, 10**6, elsewhere), 33_723: (_LONG, 99, elsewhere)})
        ),
        "directories within that are elsewhere": Odd(
            tiff_tags(plain, {34_665: (_LONG, 1, elsewhere), 34_853: (_LONG, 1, elsewhere)})
        ),
        "a note of an unknown type": Odd(tiff_tags(plain, {65_000: (99, 4, b"abcd")})),
        "a resolution of zero over zero": Odd(tiff_tags(plain, {282: (5, 1, struct.pack("<I", len(plain) + 400))})),
        "a damaged profile": Odd(_tiff(quarters(), icc_profile=P3[:300])),
        "a loop of pages": Odd(plain[:-4] + plain[4:8]),
    }


def _faults() -> dict[str, Odd]:
    plain = _tiff(quarters())
    packed = _tiff(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)), compression="tiff_lzw"
    )
    tile = {322: (_LONG, 1, struct.pack("<I", 40_000)), 323: (_LONG, 1, struct.pack("<I", 40_000))}
    large = {256: (_LONG, 1, struct.pack("<I", 70_000)), 257: (_LONG, 1, struct.pack("<I", 70_000))}
    return {
        "fractions": Odd(_tiff(Image.fromarray(ramp().astype(np.float32))), fault="whole numbers of up to 16 bits"),
        "numbers of 32 bits": Odd(_tiff(Image.fromarray(ramp().astype(np.int32))), fault="32-bit numbers"),
        "of a kind that is not read": Odd(
            tiff_tags(plain, {259: (_SHORT, 1, struct.pack("<H", 34_712))}), fault="a kind of TIFF that is not read"
        ),
        "several widths": Odd(tiff_tags(plain, {256: (_SHORT, 2, b"\x30\0\x30\0")}), fault="several values"),
        "40,000 pixels in a tile": Odd(tiff_tags(packed, tile), fault="tiles of 1,600,000,000 pixels"),
        "70,000 pixels wide and high": Odd(tiff_tags(plain, large), fault="70,000 × 70,000 pixels"),
        "cut": Odd(plain[:1000], fault="cut short"),
        "without a directory": Odd(b"II*\0\xff\xff\xff\x7f", fault="cut short"),
        "22,172 channels": Odd(
            tiff_tags(plain, {277: (_SHORT, 1, struct.pack("<H", 22_172))}), fault="a TIFF of 22,172 channels"
        ),
        "a BigTIFF with the high byte first": Odd(b"MM\0+\0\x08\0\0" + bytes(50), fault="high byte first"),
    }
