"""Pairs in parquet files that hold the pictures themselves, as the Hugging Face Hub writes them.

A column of pictures is `{bytes, path}` or plain bytes. Captions are read at once; pictures are read by row groups when
they are asked for, and the last groups are kept.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trencadis.config.data import ReadingConfig
from trencadis.data.files import MAX_PICTURE_BYTES, caption_columns, captions_in, column_name
from trencadis.data.pairs import BROKEN_ROW, DAMAGED_TABLE, Omitted, held_out_names
from trencadis.data.shards import shortest_distinct_names
from trencadis.data.table import FILE_COLUMNS, check_captions
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
    return bool(embedded_files([path], reading))


def embedded_files(paths: Iterable[Path], reading: ReadingConfig | None = None) -> list[Path]:
    """Return the parquet files with pictures in them; and where there are any, those that are too damaged to tell.

    There are none where pyarrow is not installed.
    """
    found = {path: _holds_pictures(path, reading or ReadingConfig()) for path in paths}
    return [path for path, holds in found.items() if holds is not False] if True in found.values() else []


def _holds_pictures(path: Path, reading: ReadingConfig) -> bool | None:
    """Whether a file is parquet with pictures in it. None where it is called so and cannot be read."""
    if not path.name.lower().endswith(".parquet") or find_spec("pyarrow") is None:
        return False
    try:
        with _opened(path) as file:
            return _picture_column(file.schema_arrow, reading) is not None
    except DataError:
        return None


def _picture_column(schema: Any, reading: ReadingConfig) -> str | None:
    """Return the column of a schema that holds pictures."""
    found = [name for name, kind in zip(schema.names, schema.types, strict=True) if _holds_bytes(kind)]
    if reading.file_column is not None:
        return next((name for name in found if column_name(name) == column_name(reading.file_column)), None)
    known = [name for known in PICTURE_COLUMNS for name in found if column_name(name) == known]
    # Bytes beside the path of a picture are a hash of it, or an embedding.
    has_paths = any(column_name(name) in FILE_COLUMNS for name in schema.names if name not in found)
    return known[0] if known else found[0] if len(found) == 1 and not has_paths else None


def _holds_bytes(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        fields = {field.name: field.type for field in kind}
        return "bytes" in fields and _holds_bytes(fields["bytes"])
    return any(is_kind(kind) for is_kind in (types.is_binary, types.is_large_binary, types.is_binary_view))


@dataclass(frozen=True, slots=True)
class _Group:
    """A row group: its file, its number in it, its rows there, and how large it says it is."""

    file: int
    number: int
    first_row: int
    rows: int
    size_bytes: int


class ParquetSource:
    """The pairs of such files; a `PairSource` and a `ListedSource`. A sample id is "file/row", rows counted from 0.

    Raises:
        DataError: No file can be read, or one has no column of captions.
    """

    def __init__(self, paths: Sequence[Path], reading: ReadingConfig | None = None) -> None:
        self._paths, self._reading = tuple(paths), reading or ReadingConfig()
        self._columns = caption_columns(self._reading)
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
            raise faults[0] if faults else _no_row(paths[0], omitted)
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
                metadata = file.metadata.row_group(group)
                count = metadata.num_rows
                self._groups.append(_Group(number, group, row, count, metadata.total_byte_size))
                try:
                    table = _reading(path, partial(file.read_row_group, group, columns=wanted))
                except DataError as error:
                    broken.append(Omitted(f"{self._names[number]}/{row} to {row + count - 1}", BROKEN_ROW, error.given))
                else:
                    for place in range(min(count, len(table))):
                        try:
                            # By their place, as two columns may have one name.
                            cells = {
                                name: table.column(at)[place].as_py() for at, name in enumerate(table.column_names)
                            }
                            self._captions.append(captions_in(cells, self._columns))
                        except ValueError:  # a UnicodeDecodeError is one
                            name = f"{self._names[number]}/{row + place}"
                            broken.append(Omitted(name, BROKEN_ROW, "a caption that is not text"))
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
        """Return the pictures of a row group, read now or kept.

        Threads wait for each other: neighbours are in one group, and two groups at once take twice the memory.
        """
        with self._lock:
            if number not in self._kept:
                group = self._groups[number]
                while self._kept and sum(kept.nbytes for kept in self._kept.values()) + group.size_bytes > KEPT_BYTES:
                    self._kept.popitem(last=False)
                self._kept[number] = self._read_pictures(group)
            self._kept.move_to_end(number)
            return self._kept[number]

    def _read_pictures(self, group: _Group) -> Any:
        path = self._paths[group.file]
        with _opened(path) as file:
            column = _picture_column(file.schema_arrow, self._reading)
            # It had one when the file was found.
            pictures = _reading(path, partial(file.read_row_group, group.number, columns=[column])).column(0)
        if len(pictures) < group.rows:
            given = f"{path} has fewer pictures than captions in row group {group.number}"
            raise DataError(given, expected=_EXPECTED, remedy=_REMEDY)
        return pictures


def _no_row(path: Path, broken: Sequence[Omitted]) -> DataError:
    given = f"{broken[0].name}: {broken[0].detail}" if broken else f"{path} has no row"
    return DataError(given, expected=_EXPECTED, remedy="correct the rows" if broken else "fill it")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from pyarrow.parquet import ParquetFile

    file = _reading(path, partial(ParquetFile, path))
    with file:
        _reading(path, lambda: file.schema_arrow)  # it is read only now, and may be damaged
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
