"""WebP, GIF, BMP, AVIF and HEIC files, and what is no picture."""

import io
import struct
from importlib.util import find_spec

import numpy as np
from PIL import Image

from tests.corpus.drawing import (
    P3,
    QUARTERS,
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
    see_through,
)

_LOSSY = 8
_WHITE = Image.new("RGB", SIZE, WHITE)


def files() -> dict[str, Odd]:
    return _webp() | _gif() | _bmp() | _avif() | _heic() | _no_pictures()


def _webp() -> dict[str, Odd]:
    exact = {"lossless": True, "exact": True}
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)), "WEBP")
    return {
        "webp, lossy": Odd(encoded(quarters(), "WEBP", quality=95), within=_LOSSY),
        "webp, alpha": Odd(encoded(see_through(), "WEBP", **exact), SEEN_THROUGH),
        "webp, an animation": Odd(encoded(quarters(), "WEBP", save_all=True, append_images=[_WHITE], **exact)),
        "webp, Display P3": Odd(encoded(quarters(), "WEBP", icc_profile=P3, **exact), from_p3(), 1),
        "webp, lying on its side": Odd(encoded(lying(), "WEBP", exif=exif(), **exact)),
        "webp, damaged EXIF": Odd(encoded(quarters(), "WEBP", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", **exact)),
        "webp, cut": Odd(whole[: len(whole) // 2], fault="cut short|damaged"),
    }


def _gif() -> dict[str, Odd]:
    plain = encoded(quarters(), "GIF")
    comment = b"\x21\xfe" + (b"\xff" + b"x" * 255) * 20_000 + b"\0"
    start = plain.index(b"\x2c", 13 + 3 * (2 << (plain[10] & 7)))
    small = encoded(Image.new("RGB", (24, 16), (10, 20, 30)), "GIF")
    in_corner = small[:6] + struct.pack("<HH", *SIZE) + small[10:]
    cut = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)), "GIF")
    no_canvas = plain[:6] + bytes(4) + plain[10:]
    disposed = b"\x21\xf9\x04\x08\0\0\0\0"  # the canvas is cleared after the frame
    return {
        "gif, colours": Odd(plain),
        "gif, of the first version": Odd(b"GIF87a" + plain[6:]),
        "gif, greys": Odd(encoded(quarters("L"), "GIF"), greys()),
        "gif, transparent": Odd(encoded(see_through(), "GIF"), SEEN_THROUGH),
        "gif, an animation": Odd(encoded(quarters(), "GIF", save_all=True, append_images=[_WHITE], duration=100)),
        "gif, a frame in a corner": Odd(
            in_corner, {(8, 8): (10, 20, 30), (40, 8): WHITE, (8, 24): WHITE, (40, 24): WHITE}
        ),
        "gif, a canvas without size": Odd(no_canvas),
        "gif, a canvas that is cleared": Odd(plain[:start] + disposed + plain[start:]),
        "gif, a comment of 5 MB": Odd(plain[:start] + comment + plain[start:]),
        "gif, without its end": Odd(plain.removesuffix(b";")),
        "gif, cut": Odd(cut[: len(cut) // 2], fault="cut short|damaged"),
        "gif, without a frame": Odd(plain[:start] + b";", fault="no frame"),
        "gif, the beginning alone": Odd(plain[:8], fault="cut short"),
        "gif, a large frame": Odd(
            plain[: start + 5] + struct.pack("<HH", 60_000, 60_000) + plain[start + 9 :], fault="60,000 × 60,000 pixels"
        ),
        "gif, a frame beyond every canvas": Odd(
            plain[: start + 1] + b"\xff\xff" + plain[start + 3 :], fault="outside its canvas"
        ),
    }


def _bmp() -> dict[str, Odd]:
    plain = encoded(quarters(), "BMP")
    rows = plain[54:]
    row_bytes = len(rows) // SIZE[1]
    upside_down = b"".join(rows[at : at + row_bytes] for at in range(len(rows) - row_bytes, -1, -row_bytes))
    top_down = plain[:22] + struct.pack("<i", -SIZE[1]) + plain[26:54] + upside_down
    palette = encoded(quarters().quantize(4), "BMP")
    colours = np.asarray(quarters().quantize(4))
    runs = b"".join(bytes((24, int(colours[y, x]))) for y in range(31, -1, -1) for x in (0, 24))
    runs = b"".join(runs[at : at + 4] + b"\0\0" for at in range(0, len(runs), 4)) + b"\0\1"
    start = struct.unpack_from("<I", palette, 10)[0]
    packed = palette[:30] + struct.pack("<II", 1, len(runs)) + palette[38:start] + runs
    newest = struct.pack("<IiiHHIIiiII", 124, *SIZE, 1, 24, 0, len(rows), 0, 0, 0, 0)
    newest += bytes(16) + b"DEBM" + bytes(36) + bytes(12) + struct.pack("<IIII", 4, 124 + len(rows), len(P3), 0)
    with_profile = b"BM" + struct.pack("<IHHI", 14 + 124 + len(rows) + len(P3), 0, 0, 138) + newest + rows + P3
    return {
        "bmp, colours": Odd(plain),
        "bmp, rows from the top": Odd(top_down),
        "bmp, a palette": Odd(palette),
        "bmp, runs": Odd(packed),
        # In this version of the format the fourth byte means nothing.
        "bmp, four bytes a pixel": Odd(encoded(see_through(), "BMP"), {**QUARTERS, (8, 8): (10, 20, 30)}),
        "bmp, Display P3": Odd(with_profile, from_p3(), 1),
        "bmp, cut": Odd(plain[: len(plain) // 2], fault="cut short"),
        "bmp, the beginning alone": Odd(plain[:20], fault="cut short|damaged"),
        "bmp, 100,000 pixels wide and high": Odd(
            plain[:18] + struct.pack("<ii", 100_000, 100_000) + plain[26:], fault="100,000 × 100,000 pixels"
        ),
    }


def _avif() -> dict[str, Odd]:
    exact = {"quality": 100, "subsampling": "4:4:4"}
    whole = encoded(quarters(), "AVIF", **exact)
    notes = Image.Exif()
    notes[0x010F] = "somebody's camera"
    noted = encoded(quarters(), "AVIF", exif=notes, **exact)
    start = noted.index(b"somebody") - 30
    noted = noted[:start] + bytes(30) + noted[start + 30 :]
    return {
        "avif, colours": Odd(whole, within=2),
        "avif, greys": Odd(encoded(quarters("L"), "AVIF", quality=100), greys(), 2),
        "avif, alpha": Odd(encoded(see_through(), "AVIF", **exact), SEEN_THROUGH, 2),
        "avif, Display P3": Odd(encoded(quarters(), "AVIF", icc_profile=P3, **exact), from_p3(), 3),
        "avif, lying on its side": Odd(encoded(lying(), "AVIF", exif=exif(), **exact), within=2),
        "avif, damaged EXIF": Odd(noted, within=2),
        "avif, an animation": Odd(
            encoded(quarters(), "AVIF", save_all=True, append_images=[_WHITE], **exact), within=2
        ),
        "avif, cut": Odd(whole[: len(whole) // 2], fault="cut short|damaged"),
    }


def _heic() -> dict[str, Odd]:
    if find_spec("pillow_heif") is None:
        return {"heic, without the extra": Odd(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", fault=r"HEIC.*trencadis\[heif\]")}
    from pillow_heif import from_pillow

    def heic(image: Image.Image, **info: bytes) -> bytes:
        file, raw = from_pillow(image), io.BytesIO()
        file.info.update(info)
        file.save(raw, quality=95, chroma=444)
        return raw.getvalue()

    whole = heic(quarters())
    return {
        "heic, colours": Odd(whole, within=_LOSSY),
        "heic, alpha": Odd(heic(see_through()), SEEN_THROUGH, _LOSSY),
        "heic, Display P3": Odd(heic(quarters(), icc_profile=P3), from_p3(), _LOSSY),
        "heic, lying on its side": Odd(heic(lying(), exif=exif().tobytes()), within=_LOSSY),
        "heic, cut": Odd(whole[: len(whole) // 2], fault="cut short|damaged"),
    }


def _no_pictures() -> dict[str, Odd]:
    return {
        "nothing": Odd(b"", fault="the file is empty"),
        "a web page": Odd(b"\xef\xbb\xbf\n<!DOCTYPE html><title>404</title>", fault="the content is a web page"),
        "drawn lines": Odd(b'<svg xmlns="http://www.w3.org/2000/svg"/>', fault="the content is SVG"),
        "a pointer": Odd(b"version https://git-lfs.github.com/spec/v1\n", fault="a pointer of Git LFS"),
        "JPEG XL": Odd(b"\xff\x0a" + bytes(50), fault="JPEG XL"),
        "Photoshop": Odd(b"8BPS\0\1" + bytes(50), fault="Photoshop"),
        "a film": Odd(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(50), fault="not a picture"),
        "a sound": Odd(b"RIFF\x24\0\0\0WAVEfmt " + bytes(50), fault="not a picture"),
        "zeros": Odd(bytes(1000), fault="not a picture"),
    }
