"""Pairs listed in a table: `metadata.jsonl`, `metadata.csv` or `metadata.parquet`.

Columns: `file_name` (`file`, `image`); `captions` (or `caption`, `text`), text or a list of texts; optional `weight`.
Paths are relative to the table and stay below it.
"""

import csv
import json
import math
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from trencadis.data.files import FilesSource, PictureFile, captions_of, joined_files, unreadable
from trencadis.errors import DataError

TABLE_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
FILE_COLUMNS = ("file_name", "file", "image")
CAPTION_COLUMNS = ("captions", "caption", "text")
_EXPECTED = "rows with file_name and caption, weight optional"

Row = tuple[str, dict[str, Any]]


def open_table(path: Path) -> FilesSource:
    """Return the pairs of a table. Rows that name the same picture are one pair with all their captions.

    Raises:
        DataError: The table cannot be read or has no row, or a row is broken; its line is named.
    """
    readers = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}
    try:
        files = joined_files(_picture_file(place, row) for place, row in readers[path.suffix.lower()](path))
    except OSError as error:
        raise unreadable(path, error, expected=_EXPECTED, remedy="check the file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8", expected=_EXPECTED, remedy="save it as UTF-8") from error
    if not files:
        raise DataError(f"{path} has no row", expected=_EXPECTED, remedy="list the pictures in it")
    return FilesSource(path.parent, files)


def _broken(place: str, given: str, expected: str = _EXPECTED) -> DataError:
    return DataError(f"{place}: {given}", expected=expected, remedy="correct the row or remove it")


def _picture_file(place: str, row: dict[str, Any]) -> PictureFile:
    name = next((row[column] for column in FILE_COLUMNS if row.get(column) is not None), None)
    if not isinstance(name, str) or not name:
        raise _broken(place, f"no {' or '.join(FILE_COLUMNS)}")
    parts = PurePosixPath(name).parts
    odd = "\0" in name or name.encode("utf-8", "replace").decode() != name
    if odd or not parts or name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise _broken(place, f"the path {name!r}", "a relative path that stays in the table's folder")
    try:
        captions = captions_of(next((row[column] for column in CAPTION_COLUMNS if row.get(column) is not None), ()))
    except ValueError as error:
        raise _broken(place, "a caption that is not text", "text, or a list of texts") from error
    return PictureFile(PurePosixPath(name).as_posix(), captions, _weight(place, row))


def _weight(place: str, row: dict[str, Any]) -> float:
    given = row.get("weight")
    if given in (None, ""):
        return 1.0
    try:
        weight = float(given)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not 0 < weight <= 1:
        raise _broken(place, f"weight {given!r}", "a number above 0 and up to 1")
    return weight


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _broken(place, "no JSON", "one JSON object a line") from error
            if not isinstance(row, dict):
                raise _broken(place, f"a JSON {type(row).__name__}", "one JSON object a line")
            yield place, row


def _csv_rows(path: Path) -> Iterator[Row]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _check_columns(path, reader.fieldnames or ())
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise _broken(place, "a row with more or fewer cells than the heading has columns")
                yield place, dict(row)
        except csv.Error as error:
            # The inner reader has counted the line that it failed at.
            raise _broken(f"{path}, line {reader.reader.line_num}", f"no CSV ({error})") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        remedy = "pip install 'trencadis[parquet]'"
        raise DataError(f"{path} is parquet and pyarrow is not installed", expected="pyarrow", remedy=remedy) from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_columns(path, names)
            wanted = [name for name in names if name in (*FILE_COLUMNS, *CAPTION_COLUMNS, "weight")]
            rows = chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(columns=wanted))
            yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
    except (pyarrow.ArrowException, OSError) as error:
        given = f"{path} cannot be read as parquet ({' '.join(str(error).split())[:100]})"
        raise DataError(given, expected=_EXPECTED, remedy="write it again") from error


def _check_columns(path: Path, names: Any) -> None:
    if not set(names) & set(FILE_COLUMNS):
        given = f"{path} has the columns {', '.join(map(str, names))[:200] or 'of an empty file'}"
        raise DataError(given, expected=_EXPECTED, remedy="name the column of paths file_name")
