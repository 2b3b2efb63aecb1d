"""The first directory of a TIFF structure: a picture's own, or the one that EXIF is."""

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal, NamedTuple

ORIENTATION = 274
_MAX_VALUE_BYTES = 16 * 2**20
_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE_NUMBERS = (1, 3, 4, 16)  # types: of 8, 16, 32 and 64 bits


class _Entry(NamedTuple):
    kind: int
    values: int
    value: bytes
    raw: bytes


@dataclass(frozen=True)
class TiffDirectory:
    """The entries of some tags whose values are in the file."""

    order: Literal["little", "big"]
    is_big: bool  # a BigTIFF: offsets and counts have 8 bytes
    entries: dict[int, _Entry]

    @classmethod
    def of(cls, tiff: bytes, tags: Set[int]) -> "TiffDirectory":
        order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"
        is_big = tiff[2:4] in (b"+\0", b"\0+")
        width, count_bytes = (8, 8) if is_big else (4, 2)

        def number(offset: int, size: int) -> int:
            return int.from_bytes(tiff[offset : offset + size], order)

        start, entry_bytes = number(width, width), 4 + 2 * width
        first, entries = start + count_bytes, dict[int, _Entry]()
        end = min(first + entry_bytes * number(start, count_bytes), len(tiff) + 1 - entry_bytes)
        for at in range(first, end, entry_bytes):
            tag, kind, count = number(at, 2), number(at + 2, 2), number(at + 4, width)
            size = _BYTES_OF_TYPE.get(kind, 0) * count
            if tag not in tags or tag in entries or not 0 < size <= _MAX_VALUE_BYTES:
                continue
            place = at + 4 + width if size <= width else number(at + 4 + width, width)
            value = tiff[place : place + size]
            if len(value) == size:
                entries[tag] = _Entry(kind, count, value, tiff[at : at + entry_bytes])
        return cls(order, is_big, entries)

    def numbers(self, tag: int, default: int) -> list[int]:
        """Return a tag's whole numbers; the default where it is absent or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _WHOLE_NUMBERS:
            return [default]
        size = len(entry.value) // entry.values
        return [int.from_bytes(entry.value[at : at + size], self.order) for at in range(0, len(entry.value), size)]

    def orientation(self) -> int:
        """Return how the picture stands, in 1..8; 1 where that is absent or damaged."""
        orientation = self.numbers(ORIENTATION, 1)[0]
        return orientation if 1 <= orientation <= 8 else 1

    def at_end_of(self, tiff: bytes, tags: Set[int]) -> bytes:
        """Return the file with a directory of these tags in place of its own. Their values stay where they are."""
        width, count_bytes = (8, 8) if self.is_big else (4, 2)
        kept = [entry.raw for tag, entry in sorted(self.entries.items()) if tag in tags]
        padded = tiff + bytes(-len(tiff) % 8)
        head = tiff[:width] + len(padded).to_bytes(width, self.order)
        count = len(kept).to_bytes(count_bytes, self.order)
        return b"".join((head, padded[2 * width :], count, *kept, bytes(width)))
