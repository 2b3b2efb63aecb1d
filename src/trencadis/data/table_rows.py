"""The rows of a table, one after the other: JSON lines, CSV with any usual delimiter, or parquet.

A row that is broken is yielded with its fault, and those after it are read.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from trencadis.data.files import column_name, plain_cells
from trencadis.errors import DataError

_DELIMITERS = ",;\t|"
_MAX_LINE_CHARS = 10_000_000
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# What `surrogateescape` makes of bytes that are not UTF-8.
_NOT_TEXT = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; `fault` says what is wrong with it.

    Args:
        place: Where in the table it is.
        cells: By the name of the column, in lower case.
    """

    place: str
    cells: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def read_rows(path: Path, columns: Collection[str], wanted: Collection[str]) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        columns: Names of which a heading has at least one.
        wanted: Columns that are read, where they can be read alone.

    Raises:
        DataError: The table cannot be read, or its heading has none of `columns`.
        OSError: The file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_rows(path, columns, wanted)
    return _jsonl_rows(path) if suffix == ".jsonl" else _csv_rows(path, columns)


def _open_text(path: Path) -> TextIO:
    with open(path, "rb") as file:
        encoding = "utf-16" if file.read(2) in _UTF_16 else "utf-8-sig"
    # A broken character breaks its own row only.
    return open(path, encoding=encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "replace", newline="")


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with _open_text(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE_CHARS), ""), 1):
            if line.strip():
                yield _json_row(f"line {number}", line)


def _json_row(place: str, line: str) -> Row:
    if _NOT_TEXT.search(line):
        return Row(place, fault="not UTF-8")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return Row(place, fault="no JSON")
    if not isinstance(row, dict):
        return Row(place, fault=f"a JSON {type(row).__name__} in place of an object")
    return Row(place, plain_cells(row))


class _Lines(Iterator[str]):
    """The lines of a file; those of a broken record can be read again without its first."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._again = file, deque[str]()
        self._record: list[str] = []
        self.number = 0

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else self._file.readline(_MAX_LINE_CHARS)
        if not line:
            raise StopIteration
        self.number += 1
        self._record.append(line)
        return line

    def begin(self) -> None:
        self._record = []

    def skip_first(self) -> None:
        self._again.extendleft(reversed(self._record[1:]))
        self.number -= len(self._record) - 1


def _csv_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    with _open_text(path) as file:
        lines = _Lines(file)
        names, delimiter = _heading(lines, columns)
        check_columns(path, names, columns)
        # A space after a delimiter is no part of a cell; strict, as a quote in the wrong place shifts all cells.
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
        while True:
            lines.begin()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                lines.skip_first()  # the others may be whole, as after a quote that nothing closes
                yield Row(f"line {lines.number}", fault=f"no CSV ({error})")
                continue
            if cells is None:
                return
            if any(map(str.strip, cells)):
                yield _csv_row(f"line {lines.number}", names, cells)


def _csv_row(place: str, names: Sequence[str], cells: Sequence[str]) -> Row:
    row = dict(zip(names, cells, strict=False))
    if len(cells) != len(names):
        return Row(place, row, f"{len(cells)} cells under a heading of {len(names)} columns")
    return Row(place, row, "not UTF-8" if any(map(_NOT_TEXT.search, cells)) else "")


def _heading(lines: _Lines, columns: Collection[str]) -> tuple[list[str], str]:
    """Return the columns' names and the delimiter: the one that yields known columns, then most of them."""
    line = next((line for line in lines if line.strip() and not line.startswith("sep=")), "")
    choices = []
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            names = []
        choices.append(([column_name(name) for name in names], delimiter))
    return max(choices, key=lambda choice: (bool(set(choice[0]) & set(columns)), len(choice[0])))


def _parquet_rows(path: Path, columns: Collection[str], wanted: Collection[str]) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        remedy = "pip install 'trencadis[parquet]'"
        raise DataError(f"{path} is parquet and pyarrow is not installed", expected="pyarrow", remedy=remedy) from error
    damage = (pyarrow.ArrowException, OSError, UnicodeError)
    try:
        file = pyarrow.parquet.ParquetFile(path)
    except damage as error:
        given = f"{path} cannot be read as parquet ({_short(error)})"
        raise DataError(given, expected="a parquet table", remedy="write it again") from error
    with file:
        names, first = file.schema_arrow.names, 1
        check_columns(path, [column_name(name) for name in names], columns)
        some = [name for name in names if column_name(name) in wanted]
        for group in range(file.num_row_groups):
            number = first
            try:
                for batch in file.iter_batches(row_groups=[group], columns=some):
                    for row in batch.to_pylist():
                        yield Row(f"row {number}", plain_cells(row))
                        number += 1
            except damage as error:
                last = first + file.metadata.row_group(group).num_rows - 1
                yield Row(f"rows {number} to {last}", fault=f"damaged parquet ({_short(error)})")
            first += file.metadata.row_group(group).num_rows


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:100]


def check_columns(path: Path, names: Sequence[str], columns: Collection[str]) -> None:
    """Refuse a table that has none of some columns; both are named."""
    if not set(names) & set(columns):
        given = f"{path} has the columns {', '.join(names)[:200] or 'of an empty file'}"
        raise DataError(given, expected=f"one of {', '.join(columns)}", remedy="rename one, or name it as file_column")
