"""PNG files with what programs leave in them."""

import struct
import zlib

import numpy as np
from PIL import Image

from tests.corpus.drawing import (
    P3,
    RAMP,
    RED,
    SEEN_THROUGH,
    SIZE,
    WHITE,
    Odd,
    chunk,
    encoded,
    exif,
    from_p3,
    greys,
    lying,
    png,
    png_with,
    quarters,
    ramp,
    see_through,
)
from tests.support.icc import cmyk_profile, gamma, grey_profile, srgb_coded

_LONG = 3_000_000


def _header(bits: int, colours: int) -> bytes:
    return struct.pack(">IIBBBBB", *SIZE, bits, colours, 0, 0, 0)


def _rows(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> bytes:
    return b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)


def _iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"any name\0\0" + zlib.compress(profile))


def _colours_16() -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    return np.asarray(quarters()).astype(np.uint16) * 257


def files() -> dict[str, Odd]:
    return {f"png, {name}": odd for name, odd in (_pixels() | _profiles() | _beside() | _faults()).items()}


def _pixels() -> dict[str, Odd]:
    palette = quarters().quantize(8)
    first = palette.getpixel((0, 0))
    transparent = see_through().quantize(8)
    apng = encoded(quarters(), save_all=True, append_images=[Image.new("RGB", SIZE, WHITE)], duration=100)
    colour_16 = struct.pack(">3H", *(value * 257 for value in RED))
    half = Image.new("RGBA", SIZE, (0, 0, 0, 128))
    return {
        "one bit": Odd(
            encoded(quarters("L").point(lambda v: 255 * (v > 100)).convert("1")), {(8, 8): (0, 0, 0), (40, 24): WHITE}
        ),
        "greys": Odd(encoded(quarters("L")), greys()),
        "greys of 16 bits": Odd(encoded(Image.fromarray(ramp())), RAMP),
        "greys of 16 bits, one transparent": Odd(
            png(_header(16, 0), _rows(ramp()), chunk(b"tRNS", bytes(2))), {**RAMP, (0, 5): WHITE}
        ),
        "greys, one transparent": Odd(
            encoded(Image.fromarray((ramp() >> 8).astype(np.uint8)), transparency=0), {**RAMP, (0, 5): WHITE}, 1
        ),
        "colours of 16 bits": Odd(png(_header(16, 2), _rows(_colours_16()))),
        "colours of 16 bits, one transparent": Odd(
            png(_header(16, 2), _rows(_colours_16()), chunk(b"tRNS", colour_16)), SEEN_THROUGH
        ),
        "a transparent colour": Odd(encoded(quarters(), transparency=RED), SEEN_THROUGH),
        "a palette": Odd(encoded(palette)),
        "a palette with a transparent colour": Odd(encoded(palette, transparency=first), SEEN_THROUGH),
        "a palette with alpha": Odd(encoded(transparent), SEEN_THROUGH, 2),
        "alpha": Odd(encoded(see_through()), SEEN_THROUGH),
        "greys and alpha": Odd(encoded(see_through("LA")), greys(SEEN_THROUGH)),
        "half transparent": Odd(encoded(half), {(0, 0): (127, 127, 127)}),
        "an animation": Odd(apng),
        "one pixel": Odd(encoded(Image.new("RGB", (1, 1), RED)), {(0, 0): RED}, size=(1, 1)),
    }


def _profiles() -> dict[str, Odd]:
    dark = grey_profile(gamma(1.0))
    light = {place: (round(float(srgb_coded(colour[0] / 255)) * 255),) * 3 for place, colour in greys().items()}
    printer = cmyk_profile(lambda c, m, y, k: (50, 0, 0))
    return {
        "Display P3": Odd(encoded(quarters(), icc_profile=P3), from_p3(), 1),
        "Display P3 and alpha": Odd(encoded(see_through(), icc_profile=P3), {**from_p3(), (8, 8): WHITE}, 1),
        "Display P3 and a palette": Odd(encoded(quarters().quantize(8), icc_profile=P3), from_p3(), 1),
        "Display P3 of 16 bits": Odd(png(_header(16, 2), _rows(_colours_16()), _iccp(P3)), from_p3(), 1),
        "a profile of greys": Odd(encoded(quarters("L"), icc_profile=dark), light, 2),
        "a profile of greys for colours": Odd(encoded(quarters(), icc_profile=dark)),
        "a profile of a printer for colours": Odd(encoded(quarters(), icc_profile=printer)),
        "a damaged profile": Odd(encoded(quarters(), icc_profile=P3[:300])),
        "a profile that is none": Odd(png_with(_iccp(b"not at all"))),
        "a profile that does not inflate": Odd(png_with(chunk(b"iCCP", b"name\0\0" + bytes(50)))),
        "a large profile": Odd(png_with(_iccp(P3 + bytes(5_000_000))), from_p3(), 1),
        "a profile of 100 MB": Odd(png_with(_iccp(bytes(100_000_000)))),
    }


def _beside() -> dict[str, Odd]:
    wrong = bytearray(chunk(b"tIME", bytes(7)))
    wrong[-1] ^= 1
    tiff = exif().tobytes().removeprefix(b"Exif\0\0")
    inflated = zlib.compress(bytes(20_000_000))
    return {
        "a long text": Odd(png_with(chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * _LONG))),
        "a long compressed text": Odd(png_with(chunk(b"zTXt", b"Comment\0\0" + inflated))),
        "a long compressed text in UTF-8": Odd(png_with(chunk(b"iTXt", b"Comment\0\1\0\0\0" + inflated))),
        "a long text after the pixels": Odd(png_with(chunk(b"tEXt", b"Comment\0" + b"x" * _LONG), late=True)),
        "70 MB of texts": Odd(png_with(chunk(b"tEXt", b"Comment\0" + b"x" * 700_000) * 100)),
        "texts by names of Pillow": Odd(
            png_with(
                *(chunk(b"tEXt", name + b"\0text") for name in (b"transparency", b"exif", b"icc_profile", b"interlace"))
            )
        ),
        "a text without an end to its name": Odd(
            png_with(chunk(b"tEXt", b"x"), chunk(b"iTXt", b"y"), chunk(b"zTXt", b""))
        ),
        "a wrong checksum of a note": Odd(png_with(bytes(wrong))),
        "notes of the wrong length": Odd(
            png_with(*(chunk(kind, b"") for kind in (b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"acTL", b"fcTL", b"eXIf")))
        ),
        "a wrong checksum of transparency": Odd(png_with(chunk(b"tRNS", bytes(6))[:-4] + bytes(4))),
        "lying on its side": Odd(encoded(lying(), exif=exif())),
        "lying on its side, said after the pixels": Odd(png_with(chunk(b"eXIf", tiff), image=lying(), late=True)),
        "EXIF that is none": Odd(png_with(chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"))),
        "another file behind it": Odd(encoded(quarters()) + encoded(Image.new("RGB", SIZE, WHITE))),
    }


def _faults() -> dict[str, Odd]:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)))
    huge = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return {
        "cut": Odd(whole[: len(whole) // 2], fault="cut short"),
        "cut in a note": Odd(png_with(chunk(b"tEXt", bytes(1000)))[:500], fault="cut short|damaged"),
        "50,000 pixels wide and high": Odd(png(huge, b""), fault="50,000 × 50,000 pixels; expected at most"),
        "no pixels": Odd(png(_header(8, 2), b""), fault="cut short|damaged"),
        "the beginning alone": Odd(whole[:8], fault="cut short|damaged"),
    }
