"""Pairs in parquet files that hold the pictures themselves, as the Hugging Face Hub writes them.

A column of pictures is `{bytes, path}` or plain bytes. Captions are read at once; pictures are read by row groups when
they are asked for, and the last groups are kept.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trencadis.config.data import ReadingConfig
from trencadis.data.files import CAPTION_COLUMNS, MAX_PICTURE_BYTES, captions_in, column_name
from trencadis.data.pairs import BROKEN_ROW, DAMAGED_TABLE, Omitted, held_out_names
from trencadis.data.shards import shortest_distinct_names
from trencadis.data.table import check_captions
from trencadis.errors import DataError
from trencadis.progress import track

PICTURE_COLUMNS = ("image", "picture", "img", "photo", "image_bytes", "bytes", "jpg", "jpeg", "png", "webp", "pixels")
"""Names of columns of pictures, the likeliest first; a single column of bytes may have any name."""
KEPT_BYTES = 2**28
"""Row groups are kept up to so many bytes."""
_EXPECTED = "a parquet file with a column of pictures and one of captions"
_REMEDY = "write or download it again"


def is_embedded(path: Path, reading: ReadingConfig | None = None) -> bool:
    """Whether a file is parquet with pictures in it. False where it cannot be read, or pyarrow is not installed."""
    if not path.name.lower().endswith(".parquet"):
        return False
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return False
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            return _picture_column(file.schema_arrow, reading or ReadingConfig()) is not None
    except (pyarrow.ArrowException, OSError, UnicodeError, ValueError):
        return False


def _picture_column(schema: Any, reading: ReadingConfig) -> str | None:
    """Return the column of a schema that holds pictures."""
    found = [name for name, kind in zip(schema.names, schema.types, strict=True) if _holds_bytes(kind)]
    if reading.file_column is not None:
        return next((name for name in found if column_name(name) == column_name(reading.file_column)), None)
    known = [name for known in PICTURE_COLUMNS for name in found if column_name(name) == known]
    return known[0] if known else found[0] if len(found) == 1 else None


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return "bytes" in fields and _holds_bytes(fields["bytes"])
    return types.is_binary(kind) or types.is_large_binary(kind)


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group: its file, its number in it, and its rows there."""

    file: int
    number: int
    first_row: int
    rows: int


class ParquetSource:
    """The pairs of such files; a `PairSource` and a `ListedSource`. A sample id is "file/row", rows counted from 0.

    Raises:
        DataError: No file can be read, or one has no column of captions.
    """

    def __init__(self, paths: Sequence[Path], reading: ReadingConfig | None = None) -> None:
        self._paths, self._reading = tuple(paths), reading or ReadingConfig()
        given = self._reading.caption_column
        self._columns = CAPTION_COLUMNS if given is None else (column_name(given),)
        self._names = shortest_distinct_names(self._paths)
        self._groups: list[_Group] = []
        self._captions: list[tuple[str, ...]] = []
        self._rows: list[tuple[int, int]] = []  # of each pair: its group and its row in it
        self._lock, self._kept = threading.Lock(), OrderedDict[int, Any]()
        omitted: list[Omitted] = []
        faults: list[DataError] = []
        numbered = enumerate(self._paths)
        for number, path in track(numbered, "reading parquet", len(paths)) if len(paths) > 1 else numbered:
            try:
                omitted += self._scan(number, path)
            except DataError as error:
                faults.append(error)
                omitted.append(Omitted(self._names[number], DAMAGED_TABLE, error.given))
        if not self._rows:
            raise faults[0] if faults else DataError(f"{paths[0]} has no row", expected=_EXPECTED, remedy="fill it")
        held_out = held_out_names(path.name for path in self._paths)
        files = [self._groups[group].file for group, _ in self._rows]
        self.omitted = tuple(omitted)
        self.held_out = frozenset(at for at, file in enumerate(files) if self._paths[file].name in held_out)

    def _scan(self, number: int, path: Path) -> list[Omitted]:
        """Read a file's captions; return the rows of which they cannot be read."""
        broken, row = [], 0
        with _opened(path) as file:
            names = file.schema_arrow.names
            check_captions(path, [column_name(name) for name in names], self._columns)
            wanted = [name for name in names if column_name(name) in self._columns]
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                self._groups.append(_Group(number, group, row, count))
                try:
                    table = _reading(path, partial(file.read_row_group, group, columns=wanted))
                except DataError as error:
                    broken.append(Omitted(f"{self._names[number]}/{row} to {row + count - 1}", BROKEN_ROW, error.given))
                else:
                    for place in range(min(count, len(table))):
                        try:
                            cells = {name: table.column(name)[place].as_py() for name in wanted}
                            self._captions.append(captions_in(cells, self._columns))
                        except ValueError:  # a UnicodeDecodeError is one
                            broken.append(Omitted(f"{self._names[number]}/{row + place}", BROKEN_ROW, "no text"))
                        else:
                            self._rows.append((len(self._groups) - 1, place))
                row += count
        return broken

    def __len__(self) -> int:
        return len(self._rows)

    def sample_id(self, index: int) -> str:
        group, place = self._rows[index]
        return f"{self._names[self._groups[group].file]}/{self._groups[group].first_row + place}"

    def captions(self, index: int) -> tuple[str, ...]:
        return self._captions[index]

    def weight(self, index: int) -> float:
        assert 0 <= index < len(self)
        return 1.0

    def image_size_bytes(self, index: int) -> int:
        try:
            raw = self._picture(index)
        except DataError:
            return -1
        return -1 if raw is None else len(raw)

    def image_bytes(self, index: int) -> bytes:
        raw = self._picture(index)
        if not raw:
            given = f"no picture in row {self.sample_id(index)}"
            raise DataError(given, expected="a picture's bytes", remedy="fill the row, or take it out")
        if len(raw) > MAX_PICTURE_BYTES:
            given = f"the picture of {self.sample_id(index)} has {len(raw):,} bytes"
            raise DataError(given, expected=f"at most {MAX_PICTURE_BYTES:,}", remedy="take it out")
        return raw

    def _picture(self, index: int) -> bytes | None:
        group, place = self._rows[index]
        cell = self._pictures(group)[place].as_py()
        return cell["bytes"] if isinstance(cell, dict) else cell  # type: ignore[no-any-return]

    def _pictures(self, number: int) -> Any:
        """Return the pictures of a row group, read now or kept."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        group = self._groups[number]
        path = self._paths[group.file]
        with _opened(path) as file:
            column = _picture_column(file.schema_arrow, self._reading)
            # It had one when the file was found.
            pictures = _reading(path, partial(file.read_row_group, group.number, columns=[column])).column(0)
        if len(pictures) < group.rows:
            given = f"{path} has fewer pictures than captions in row group {group.number}"
            raise DataError(given, expected=_EXPECTED, remedy=_REMEDY)
        with self._lock:
            self._kept[number] = pictures
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return pictures


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    file = _reading(path, partial(ParquetFile, path))
    with file:
        yield file


def _reading(path: Path, read: Callable[[], Any]) -> Any:
    """Return what is read. Raises a DataError that names the file if it is damaged."""
    import pyarrow

    try:
        return read()
    except pyarrow.ArrowMemoryError as error:
        raise MemoryError(f"reading {path}") from error
    except (pyarrow.ArrowException, OSError, UnicodeError, ValueError) as error:
        given = f"{path} cannot be read as parquet ({' '.join(str(error).split())[:100]})"
        raise DataError(given, expected=_EXPECTED, remedy=_REMEDY) from error
