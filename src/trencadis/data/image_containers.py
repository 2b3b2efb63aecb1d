"""What pixels depend on in a picture file, without the rest: texts, thumbnails, notes of cameras and editors.

Pillow refuses a whole picture where one of these is long or damaged, and warns of flaws in them.
"""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from trencadis.data.tiff import ORIENTATION, TiffDirectory
from trencadis.errors import PictureError

MAX_PROFILE_BYTES = 16 * 2**20
MAX_TEXT_BYTES = 2**20  # of all texts in a picture
_ANCILLARY = 0x20  # bit in the first letter of a PNG chunk's kind
_JFIF = b"\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
_ADOBE_BYTES = 12
# A viewer may be made to work for hours by a small JPEG with very many scans.
_MAX_JPEG_SCANS = 500
_TIFF_BITS, _TIFF_PHOTOMETRIC, _TIFF_PROFILE, _TIFF_SAMPLE_FORMAT = 258, 262, 34_675, 339
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_SAMPLES, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 256, 257, 277, 322, 323
_TIFF_WHITE_IS_ZERO, _TIFF_UNSIGNED = 0, 1
_MAX_TIFF_SAMPLES = 6
# What decoding depends on: tags with one value, the others, and those of JPEG and of YCbCr.
_TIFF_SINGLE = {_TIFF_WIDTH, _TIFF_HEIGHT, 259, _TIFF_PHOTOMETRIC, 266, _TIFF_SAMPLES, 278, 284, 317}
_TIFF_SINGLE |= {_TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT}
_TIFF_NEEDED = _TIFF_SINGLE | {_TIFF_BITS, 273, 279, 292, 293, 320, 324, 325, 332, 338, _TIFF_SAMPLE_FORMAT}
_TIFF_NEEDED |= {347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 532}
# An entry of an item in the `iinf` box of an ISO media file: version, flags, id, protection, kind.
_ISO_EXIF_ITEM = re.compile(rb"(infe(?:\x02...|\x03.....)....)Exif", re.DOTALL)


@dataclass(frozen=True)
class Content:
    """A picture file that holds only what its pixels depend on, and what was in it beside.

    Args:
        orientation: How the picture stands, as EXIF numbers it: 1..8.
        profile: The embedded ICC profile, not checked.
        texts: By keyword.
        black: Value of a black pixel where greys have more than 8 bits; `white` likewise.
        frame: What the first frame covers where that is not the whole: left, top, right and bottom.
    """

    raw: bytes
    orientation: int = 1
    profile: bytes = b""
    texts: dict[str, str] = field(default_factory=dict)
    black: int = 0
    white: int = 65_535
    frame: tuple[int, int, int, int] | None = None


def exif_orientation(exif: bytes) -> int:
    return TiffDirectory.of(exif.removeprefix(b"Exif\0\0"), {ORIENTATION}).orientation()


def png_content(raw: bytes) -> Content:
    exif, profile, texts = b"", b"", dict[str, str]()
    parts, text_bytes = [raw[:8]], 0
    for kind, body, chunk in _png_chunks(raw):
        if not kind[0] & _ANCILLARY:
            parts.append(chunk)
        elif chunk[-4:] != zlib.crc32(kind + body).to_bytes(4, "big"):
            continue
        elif kind == b"tRNS":
            parts.append(chunk)
        elif kind == b"eXIf":
            exif = body
        elif kind == b"iCCP":
            profile = _inflated(body.partition(b"\0")[2][1:])
        elif kind in (b"tEXt", b"iTXt") and text_bytes + len(body) <= MAX_TEXT_BYTES:
            text_bytes += len(body)
            texts |= _png_text(kind, body)
    return Content(b"".join(parts), exif_orientation(exif), profile, texts)


def _png_chunks(raw: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield kind, body and the whole of each chunk. The last is shorter than it says where the file is cut."""
    position = 8
    while position < len(raw):
        body_bytes = int.from_bytes(raw[position : position + 4], "big")
        chunk = raw[position : position + 12 + body_bytes]
        kind = chunk[4:8]
        yield kind or b"\0", chunk[8:-4], chunk
        position += 12 + body_bytes
        if kind == b"IEND":
            return


def _png_text(kind: bytes, body: bytes) -> dict[str, str]:
    """Return the text of an uncompressed chunk by its keyword."""
    keyword, _, text = body.partition(b"\0")
    encoding = "latin-1"
    if kind == b"iTXt":
        if text[:1] != b"\0":  # compressed
            return {}
        text, encoding = text[2:].split(b"\0", 2)[-1], "utf-8"
    return {keyword.decode("latin-1"): text.decode(encoding, "replace")}


def _inflated(compressed: bytes) -> bytes:
    """Return an ICC profile, or nothing where it is damaged or too large."""
    try:
        profile = zlib.decompressobj().decompress(compressed, MAX_PROFILE_BYTES + 1)
    except zlib.error:
        return b""
    return profile if len(profile) <= MAX_PROFILE_BYTES else b""


def jpeg_content(raw: bytes) -> Content:
    """Keep the segments of coding, whether colours are Adobe's or JFIF's, and all from the first scan on."""
    parts, exif, profile, position = [raw[:2]], b"", dict[int, bytes](), 2
    for marker, body, end in _jpeg_segments(raw):
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            parts.append(_JFIF)
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = exif or body[6:]
        elif marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
            profile.setdefault(body[12] if len(body) > 12 else 0, body[14:])
        elif _is_coding(marker, body):
            parts.append(raw[position:end])
        position = end
    if raw.count(b"\xff\xda", position, max(raw.find(b"\xff\xd9", position), position)) > _MAX_JPEG_SCANS:
        raise ValueError(f"more than {_MAX_JPEG_SCANS} scans")
    parts.append(raw[position:])
    joined = b"".join(body for _, body in sorted(profile.items()))
    return Content(b"".join(parts), exif_orientation(exif), joined)


def _is_coding(marker: int, body: bytes) -> bool:
    if marker == 0xEE:
        return body.startswith(b"Adobe") and len(body) >= _ADOBE_BYTES
    return not (0xE0 <= marker <= 0xEF or marker == 0xFE)


def _jpeg_segments(raw: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, body and end of each segment before the first scan, up to what is no whole segment."""
    position = 2
    while raw[position : position + 1] == b"\xff":
        start = position
        while raw[position + 1 : position + 2] == b"\xff":  # padding
            position += 1
        marker = int.from_bytes(raw[position + 1 : position + 2], "big")
        body_bytes = int.from_bytes(raw[position + 2 : position + 4], "big")
        end = position + 2 + body_bytes
        if marker == 0xDA or marker < 0xC0 or 0xD0 <= marker <= 0xD9 or body_bytes < 2 or end > len(raw):
            return
        yield marker, raw[position + 4 : end], end
        assert end > start
        position = end


def gif_content(raw: bytes) -> Content:
    """Keep the first frame, on a canvas that holds it."""
    position = 13 + _gif_table_bytes(raw[10])
    header, control = raw[:position], b""
    while raw[position] == 0x21:
        if raw[position + 1] == 0xF9:
            # Transparency; what follows the frame is of no matter.
            control = b"\x21\xf9\x04" + bytes((raw[position + 3] & 1, 0, 0, raw[position + 6], 0))
        position = _after_gif_blocks(raw, position + 2)
    if raw[position] != 0x2C:
        raise ValueError("no frame")
    left, top, width, height = (int.from_bytes(raw[position + at : position + at + 2], "little") for at in (1, 3, 5, 7))
    end = _after_gif_blocks(raw, position + 11 + _gif_table_bytes(raw[position + 9]))
    canvas = [int.from_bytes(header[at : at + 2], "little") for at in (6, 8)]
    canvas = [max(canvas[0], left + width), max(canvas[1], top + height)]
    if max(canvas) > 0xFFFF:
        raise ValueError("a frame outside its canvas")
    size = b"".join(side.to_bytes(2, "little") for side in canvas)
    frame = None if [width, height] == canvas else (left, top, left + width, top + height)
    return Content(header[:6] + size + header[10:] + control + raw[position:end] + b";", frame=frame)


def _gif_table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_gif_blocks(raw: bytes, position: int) -> int:
    """Return where a chain of data blocks has ended, or where the file has."""
    while position < len(raw) and raw[position]:
        position += 1 + raw[position]
    return min(position + 1, len(raw))


def bmp_content(raw: bytes) -> Content:
    """Keep the whole: there is hardly anything beside. The newest header may embed a profile."""
    if int.from_bytes(raw[14:18], "little") < 124 or raw[70:74] != b"DEBM":
        return Content(raw)
    start, size = (int.from_bytes(raw[at : at + 4], "little") for at in (126, 130))
    return Content(raw, profile=raw[14 + start : 14 + start + size])


def tiff_content(raw: bytes, max_image_pixels: int | None) -> Content:
    """Keep the first page.

    Raises:
        PictureError: Its pixels are not whole numbers of 16 bits or less, or its tiles are too large.
    """
    found = TiffDirectory.of(raw, _TIFF_NEEDED | {ORIENTATION, _TIFF_PROFILE})
    repeated = [tag for tag in _TIFF_SINGLE & found.entries.keys() if found.entries[tag].values != 1]
    if repeated:
        raise ValueError(f"several values of TIFF tag {repeated[0]}")
    tile = found.numbers(_TIFF_TILE_WIDTH, 1)[0] * found.numbers(_TIFF_TILE_HEIGHT, 1)[0]
    if max_image_pixels is not None and tile > max_image_pixels:
        given, expected = f"the picture has tiles of {tile:,} pixels", f"at most {max_image_pixels:,}"
        raise PictureError(given, expected=expected, remedy="save it with smaller tiles")
    samples = found.numbers(_TIFF_SAMPLES, 1)[0]
    if not {_TIFF_WIDTH, _TIFF_HEIGHT} <= found.entries.keys():
        raise EOFError
    if samples > _MAX_TIFF_SAMPLES:
        given = f"the picture is a TIFF of {samples:,} channels"
        raise PictureError(given, expected=f"at most {_MAX_TIFF_SAMPLES}", remedy="convert the picture")
    bits = max(found.numbers(_TIFF_BITS, 1))
    if bits > 16 or set(found.numbers(_TIFF_SAMPLE_FORMAT, _TIFF_UNSIGNED)) != {_TIFF_UNSIGNED}:
        given = f"the picture is a TIFF of {bits}-bit numbers, or of numbers with a sign or a fraction"
        raise PictureError(given, expected="whole numbers of up to 16 bits", remedy="convert the picture")
    black, white = 0, 2**bits - 1
    if found.numbers(_TIFF_PHOTOMETRIC, _TIFF_WHITE_IS_ZERO)[0] == _TIFF_WHITE_IS_ZERO:
        black, white = white, black
    profile = found.entries[_TIFF_PROFILE].value if _TIFF_PROFILE in found.entries else b""
    return Content(found.at_end_of(raw, _TIFF_NEEDED), found.orientation(), profile, {}, black, white)


def iso_content(raw: bytes) -> Content:
    """Hide the EXIF of a HEIC or AVIF: how the picture stands is said elsewhere in it."""
    return Content(_ISO_EXIF_ITEM.sub(rb"\1hide", raw))
