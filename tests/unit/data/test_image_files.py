import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support import icc
from trencadis.data import decode_picture, picture_size, read_picture
from trencadis.errors import PictureError

LIMIT = 1_000_000
KINDS = ("PNG", "JPEG", "WEBP")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    raw = io.BytesIO()
    image.save(raw, kind, **options)
    return raw.getvalue()


def decode(raw: bytes) -> Image.Image:
    return decode_picture(raw, max_image_pixels=LIMIT)


def noise(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def png_header(width: int, height: int) -> bytes:
    """Return a whole PNG that claims a size and holds hardly anything."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", KINDS)
def test_reads_each_kind(kind: str) -> None:
    decoded = decode(encoded(Image.new("RGB", (20, 10), "red"), kind))
    assert (decoded.mode, decoded.size) == ("RGB", (20, 10))
    assert np.abs(np.asarray(decoded).astype(int) - (255, 0, 0)).max() <= 3


def test_lossless_pixels_are_exact() -> None:
    image = noise()
    assert decode(encoded(image)).tobytes() == image.tobytes()
    assert decode(encoded(image, "WEBP", lossless=True)).tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", [*KINDS, "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_applies_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(noise(), kind, exif=exif)
    with Image.open(io.BytesIO(raw)) as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    assert decode(raw).tobytes() == upright.tobytes()
    assert picture_size(raw) == (upright.height, upright.width)


def test_big_endian_exif_is_read() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    assert decode(encoded(noise(), "JPEG", exif=exif)).size == (30, 40)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12"]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_exif_costs_nothing(exif: bytes, kind: str) -> None:
    assert decode(encoded(noise(), kind, exif=exif)).size == (40, 30)


def test_text_chunk_named_exif_is_no_exif() -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("exif", "not at all")
    assert decode(encoded(noise(), pnginfo=info)).size == (40, 30)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 2, 4))
    converted = image.quantize(8) if mode == "PA" else image.convert(mode)
    decoded = np.asarray(decode(encoded(converted)))
    assert (decoded[:, 2:] == 255).all()
    assert (decoded[:, :2] <= 1).all()


def test_half_transparent_is_mixed_with_white() -> None:
    assert decode(encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 128)))).getpixel((0, 0)) == (127, 127, 127)


def test_transparent_colour_of_a_palette_becomes_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    decoded = decode(encoded(image, transparency=0))
    assert (decoded.getpixel((0, 0)), decoded.getpixel((1, 0))) == ((255, 255, 255), (40, 50, 60))


def test_sixteen_bit_greys_are_scaled() -> None:
    greys = np.array([[0, 250, 257, 32896, 65535]], np.uint16)
    decoded = np.asarray(decode(encoded(Image.fromarray(greys))))
    assert decoded[0, :, 0].tolist() == [0, 1, 1, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L"])
def test_greys_become_rgb(mode: str) -> None:
    decoded = decode(encoded(Image.new(mode, (2, 2), 1 if mode == "1" else 255)))
    assert (decoded.mode, decoded.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_cmyk_becomes_rgb() -> None:
    decoded = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = np.asarray(decoded)[4, 4].tolist()
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_refused(kind: str) -> None:
    raw = encoded(noise(), kind)
    # The last bytes of a PNG are an end mark that pixels do not depend on.
    for end in range(0, len(raw) - 16, 97):
        with pytest.raises(PictureError):
            decode(raw[:end])


def test_cut_picture_is_called_so() -> None:
    with pytest.raises(PictureError, match="cut short"):
        decode(encoded(noise(), "JPEG")[:-500])


def test_broken_jpeg_is_refused() -> None:
    with pytest.raises(PictureError, match=r"damaged|cut short"):
        decode(b"\xff\xd8\xff\xe0" + bytes(100))


def test_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(PictureError, match="50,000 × 50,000 pixels; expected at most 1,000,000"):
        decode(png_header(50_000, 50_000))


@pytest.mark.parametrize(
    "chunk",
    [
        b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16382).to_bytes(3, "little") * 2,
        b"VP8L" + struct.pack("<I", 10) + b"\x2f" + (16382 | 16382 << 14).to_bytes(4, "little"),
        b"VP8 " + struct.pack("<I", 10) + b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383),
    ],
)
def test_webp_bomb_is_refused_by_its_header(chunk: bytes) -> None:
    raw = b"RIFF" + struct.pack("<I", 100) + b"WEBP" + chunk + bytes(60)
    with pytest.raises(PictureError, match="16,383 × 16,383 pixels"):
        decode(raw)


def test_limit_on_pixels_is_inclusive() -> None:
    raw = encoded(noise(40, 30))
    assert decode_picture(raw, max_image_pixels=1200).size == (40, 30)
    with pytest.raises(PictureError):
        decode_picture(raw, max_image_pixels=1199)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX"])
def test_other_kinds_are_refused(kind: str) -> None:
    with pytest.raises(PictureError, match="not a picture in a format that is read"):
        decode(encoded(noise(), kind))


def test_empty_file_is_called_so() -> None:
    with pytest.raises(PictureError, match="empty"):
        decode(b"")


def test_enough_decodes_large_jpegs_smaller_and_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encoded(noise(640, 480), "JPEG", exif=exif)
    assert decode_picture(raw, max_image_pixels=LIMIT, enough=100).size == (120, 160)
    assert decode_picture(raw, max_image_pixels=LIMIT, enough=1000).size == (480, 640)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_enough_shrinks_other_kinds_by_a_whole_factor(mode: str) -> None:
    raw = encoded(Image.new(mode, (640, 480)))
    assert decode_picture(raw, max_image_pixels=LIMIT, enough=100).size == (160, 120)
    assert decode_picture(raw, max_image_pixels=LIMIT, enough=241).size == (640, 480)


def test_shrinking_is_a_mean_of_what_is_seen() -> None:
    stripes = Image.new("RGBA", (40, 40), (250, 20, 20, 255))
    for x in range(0, 40, 2):
        stripes.paste((0, 0, 0, 0), (x, 0, x + 1, 40))  # black, and not seen
    shrunk = decode_picture(encoded(stripes), max_image_pixels=LIMIT, enough=10)
    assert shrunk.size == (10, 10)
    half = np.asarray(shrunk).astype(int) - (252, 137, 137)  # half of it on white
    assert np.abs(half).max() <= 1


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB"])
def test_profiles_agree_with_their_definition(space: str) -> None:
    primaries, linear = {
        "Display P3": (icc.P3_PRIMARIES, icc.srgb_linear),
        "Adobe RGB": (icc.ADOBE_PRIMARIES, icc.gamma(2.2)),
    }[space]
    colours = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    raw = encoded(Image.fromarray(colours), icc_profile=icc.rgb_profile(primaries, linear))
    right = [[icc.in_srgb(colour, primaries, linear) for colour in row] for row in colours.tolist()]
    assert np.abs(np.asarray(decode(raw)).astype(int) - right).max() <= 2


def test_a_profile_of_srgb_changes_no_pixel() -> None:
    profile = icc.rgb_profile(icc.SRGB_PRIMARIES, icc.srgb_linear)
    assert decode(encoded(noise(), icc_profile=profile)).tobytes() == noise().tobytes()


def test_texts_of_a_png_are_kept_but_for_the_names_of_pillow(tmp_path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, text in (("Description", "красное сердце"), ("transparency", "0"), ("icc_profile", "x")):
        info.add_itxt(name, text)
    info.add_text("Software", "a program")
    noise().save(tmp_path / "a.png", pnginfo=info)
    assert read_picture(tmp_path / "a.png").info == {"Description": "красное сердце", "Software": "a program"}


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_never_crash(kind: str) -> None:
    chance, raw = random.Random(0), encoded(noise(), kind)
    for _ in range(150):
        damaged = bytearray(raw)
        for _ in range(chance.choice((1, 3, 10))):
            damaged[chance.randrange(chance.choice((60, len(raw))))] = chance.randrange(256)
        with contextlib.suppress(PictureError):
            assert decode(bytes(damaged)).mode == "RGB"


def test_content_counts_and_not_the_extension(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(encoded(noise(), "JPEG"))
    assert read_picture(path).size == (40, 30)


def test_read_picture_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    with pytest.raises(PictureError, match=r"cannot read .*picture\.png: no such file"):
        read_picture(path)
    path.write_bytes(b"text")
    with pytest.raises(PictureError, match=r"picture\.png: the content is not a picture"):
        read_picture(path)
    with pytest.raises(PictureError, match="not a regular file"):
        read_picture(tmp_path)
