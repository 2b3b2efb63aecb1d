"""JPEG files with what cameras, printers and editors leave in them."""

import struct

import numpy as np
from PIL import Image

from tests.corpus.drawing import (
    INK_RED,
    P3,
    PRINTER,
    SIZE,
    WHITE,
    Odd,
    encoded,
    exif,
    from_p3,
    greys,
    jpeg_with,
    lying,
    quarters,
    segment,
)
from tests.support.icc import P3_PRIMARIES, rgb_profile, srgb_linear

_LOSSY = 6


def files() -> dict[str, Odd]:
    return {f"jpeg, {name}": odd for name, odd in (_pixels() | _beside() | _faults()).items()}


def _pixels() -> dict[str, Odd]:
    inks = Image.new("CMYK", SIZE, (0, 255, 255, 0))
    sharp = {"quality": 95, "subsampling": 0}
    return {
        "greys": Odd(encoded(quarters("L"), "JPEG", quality=95), greys(), _LOSSY),
        "progressive": Odd(encoded(quarters(), "JPEG", progressive=True, **sharp), within=_LOSSY),
        "RGB, not YCbCr": Odd(encoded(quarters(), "JPEG", keep_rgb=True, quality=95), within=_LOSSY),
        "inks": Odd(encoded(inks, "JPEG", **sharp), {(8, 8): (255, 0, 0)}, _LOSSY),
        "inks with a profile": Odd(encoded(inks, "JPEG", icc_profile=PRINTER, **sharp), {(8, 8): INK_RED}, _LOSSY),
        "inks with a damaged profile": Odd(
            encoded(inks, "JPEG", icc_profile=PRINTER[:200], **sharp), {(8, 8): (255, 0, 0)}, _LOSSY
        ),
        "Display P3": Odd(encoded(quarters(), "JPEG", icc_profile=P3, **sharp), from_p3(), _LOSSY),
        "greys with a profile of colours": Odd(
            encoded(quarters("L"), "JPEG", icc_profile=P3, quality=95), greys(), _LOSSY
        ),
        "several pictures": Odd(
            encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", SIZE, WHITE)], **sharp),
            within=_LOSSY,
        ),
        "lying on its side": Odd(encoded(lying(), "JPEG", exif=exif(), **sharp), within=_LOSSY),
    }


def _beside() -> dict[str, Odd]:
    large = rgb_profile(P3_PRIMARIES, srgb_linear, padding=500_000)
    tiff = exif().tobytes().removeprefix(b"Exif\0\0")
    pieces = [large[at : at + 60_000] for at in range(0, len(large), 60_000)]
    parts = [segment(0xE2, b"ICC_PROFILE\0" + bytes((n + 1, len(pieces))) + part) for n, part in enumerate(pieces)]
    return {
        "a large profile in parts": Odd(jpeg_with(*parts), from_p3(), _LOSSY),
        "a profile in parts out of order": Odd(jpeg_with(*reversed(parts)), from_p3(), _LOSSY),
        "a profile with a part missing": Odd(jpeg_with(*parts[1:]), within=_LOSSY),
        "40 long comments": Odd(jpeg_with(segment(0xFE, bytes(65_000)) * 40), within=_LOSSY),
        "a JFIF header that is cut": Odd(jpeg_with(segment(0xE0, b"JFIF\0")), within=_LOSSY),
        "an Adobe header that is cut": Odd(jpeg_with(segment(0xEE, b"Adobe")), within=_LOSSY),
        "damaged resources of Photoshop": Odd(
            jpeg_with(segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\x00\x00\xff\xff\xff\xff")), within=_LOSSY
        ),
        "damaged EXIF": Odd(jpeg_with(segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")), within=_LOSSY),
        "EXIF with values that are elsewhere": Odd(
            jpeg_with(
                segment(
                    0xE1, b"Exif\0\0" + tiff[:8] + b"\0\2" + struct.pack(">HHII", 0x10F, 2, 2**31, 2**31) + bytes(9)
                )
            ),
            within=_LOSSY,
        ),
        "an orientation that does not exist": Odd(encoded(quarters(), "JPEG", exif=exif(99), quality=95), within=40),
        "a wrong list of pictures": Odd(jpeg_with(segment(0xE2, b"MPF\0" + bytes(30))), within=_LOSSY),
        "a film behind it": Odd(
            jpeg_with() + b"\0\0\0\x18ftypmp42" + np.random.default_rng(0).bytes(200_000), within=_LOSSY
        ),
    }


def _faults() -> dict[str, Odd]:
    noise = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)), "JPEG")
    scans = encoded(quarters(), "JPEG", progressive=True)
    first = scans.index(b"\xff\xda")
    scan = scans[first : scans.index(b"\xff", first + 2)]
    # Each of these scans would cost a pass over the whole picture.
    many = scans[:first] + scan * 2000 + scans[first:]
    header = noise.index(b"\xff\xc0")
    huge = noise[: header + 5] + struct.pack(">HH", 65_000, 65_000) + noise[header + 9 :]
    return {
        "cut": Odd(noise[: len(noise) // 2], fault="cut short"),
        "2,000 scans": Odd(many, fault="more than 500 scans"),
        "65,000 pixels wide and high": Odd(huge, fault="65,000 × 65,000 pixels; expected at most"),
        "the beginning alone": Odd(noise[:20], fault="cut short|damaged"),
    }
