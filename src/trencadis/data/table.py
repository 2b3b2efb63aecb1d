"""Pairs listed in a table: JSON lines, CSV or parquet, with a column of paths and one of captions.

Paths are relative to the table and stay below it. A column `weight` is optional.
"""

import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trencadis.config.data import ReadingConfig
from trencadis.data.files import (
    FilesSource,
    PictureFile,
    caption_columns,
    captions_in,
    column_name,
    joined_files,
    unreadable,
)
from trencadis.data.folders import Listing
from trencadis.data.pairs import BROKEN_ROW, UNLISTED, Omitted
from trencadis.data.table_rows import Row, read_rows
from trencadis.errors import DataError

FILE_COLUMNS = (
    *("file_name", "file", "image", "filename", "filepath", "file_path", "path"),
    *("image_path", "image_file", "image_name", "img", "picture"),
)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_SHOWN_COLUMNS = 30


def open_table(path: Path, reading: ReadingConfig, listing: Listing | None = None) -> FilesSource:
    """Return the pairs of a table. Rows that name the same picture are one pair with all their captions.

    Args:
        listing: Of the table's folder, to tell which pictures in it are not listed.

    Raises:
        DataError: The table cannot be read, has no column of paths or none of captions, or no row is whole.
    """
    table = _Table.of(path, reading)
    try:
        table.read(read_rows(path, table.file_columns, {*table.file_columns, *table.caption_columns, "weight"}))
    except OSError as error:
        raise unreadable(path, error, expected="a table of pictures", remedy="check the file") from error
    except UnicodeError as error:
        remedy = "save it as UTF-8"
        raise DataError(f"{path} is not text ({error})", expected="a table of pictures", remedy=remedy) from error
    if not table.files:
        given = f"{path}, {table.broken[0].name}: {table.broken[0].detail}" if table.broken else f"{path} has no row"
        remedy = "correct the rows" if table.broken else "list the pictures in it"
        raise DataError(given, expected="rows with the path of a picture and its caption", remedy=remedy)
    check_captions(path, table.columns, table.caption_columns)
    broken = [Omitted(f"{path.name}, {one.name}", one.reason, one.detail) for one in table.broken]
    others = listing.omitted({*table.named, path.name}, unlisted=UNLISTED) if listing else []
    return FilesSource(path.parent, joined_files(table.files), broken + others)


def check_captions(path: Path, names: Iterable[str], columns: Sequence[str]) -> None:
    """Refuse a table that has no column of captions; the columns are named."""
    if not set(names) & set(columns):
        given = f"{path} has the columns {', '.join(names)[:200]}"
        remedy = "rename one, or name it as caption_column"
        raise DataError(given, expected=f"captions in one of {', '.join(columns)}", remedy=remedy)


@dataclass
class _Table:
    """What has been read of a table."""

    folder: "_Folder"
    file_columns: tuple[str, ...]
    caption_columns: tuple[str, ...]
    files: list[PictureFile] = field(default_factory=list)
    broken: list[Omitted] = field(default_factory=list)
    named: set[str] = field(default_factory=set)  # every picture that is there, also those of broken rows
    columns: dict[str, None] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, reading: ReadingConfig) -> "_Table":
        files = FILE_COLUMNS if reading.file_column is None else (column_name(reading.file_column),)
        return cls(_Folder(path.parent), files, caption_columns(reading))

    def read(self, rows: Iterator[Row]) -> None:
        for row in rows:
            for name in row.cells:
                if len(self.columns) < _SHOWN_COLUMNS or name in self.caption_columns:
                    self.columns[name] = None
            try:
                self.files.append(self._picture(row))
            except ValueError as error:
                self.broken.append(Omitted(row.place, BROKEN_ROW, str(error)))

    def _picture(self, row: Row) -> PictureFile:
        """Return the picture of a row. Raises a ValueError that says what is wrong with the row."""
        given = next((row.cells[column] for column in self.file_columns if row.cells.get(column)), None)
        name = self.folder.find(given) if isinstance(given, str) else None
        if name is not None:
            self.named.add(name)
        if row.fault:
            raise ValueError(row.fault)
        if not isinstance(given, str):
            found = f" (it has {', '.join(row.cells)[:100]})" if given is None else ""
            raise ValueError(f"no {' or '.join(self.file_columns[:3])} that is a path{found}")
        try:
            captions = captions_in(row.cells, self.caption_columns)
        except ValueError:
            raise ValueError("a caption that is not text") from None
        weight = _weight(row.cells.get("weight"))
        return PictureFile(name or self.folder.missing(given), captions, weight=weight)


def _weight(given: Any) -> float:
    if given in (None, ""):
        return 1.0
    try:
        weight = float(given)
    except (TypeError, ValueError, OverflowError):
        weight = math.nan
    if not 0 < weight <= 1:
        raise ValueError(f"weight {str(given)[:50]!r}, which is not a number above 0 and up to 1")
    return weight


class _Folder:
    """Finds the files that a table names, however it spells them. None outside of its own folder is found."""

    def __init__(self, root: Path) -> None:
        self._roots = tuple(dict.fromkeys((os.path.abspath(root), os.path.realpath(root))))  # noqa: PTH100
        self._entries: dict[str, dict[str, str]] = {}

    def find(self, given: str) -> str | None:
        """Return the path of a file that is there, relative to the folder."""
        for name in self._spellings(given):
            if name is None:
                continue
            if _is_file(f"{self._roots[0]}/{name}"):
                return name
            found = self._alike(name)
            if found is not None:
                return found
        return None

    def missing(self, given: str) -> str:
        """Return the path of a file that is not there. Raises a ValueError if it is none in the folder."""
        spellings = self._spellings(given)
        if not spellings or None in spellings:
            raise ValueError(f"the path {given[:200]!r}, which is not in the table's folder")
        return str(spellings[-1])

    def _spellings(self, given: str) -> list[str | None]:
        """Return what a cell may mean, relative to the folder; None is for a path that leads out of it."""
        plain = given.strip()
        quoted = len(plain) > 2 and plain[0] == plain[-1] and plain[0] in "\"'"
        plain = plain[1:-1] if quoted else plain
        return [self._relative(name) for name in dict.fromkeys((given, plain, plain.replace("\\", "/")))]

    def _relative(self, name: str) -> str | None:
        is_text = "\0" not in name and name.encode("utf-8", "replace").decode() == name
        if not is_text or _ADDRESS.match(name) or (_DRIVE.match(name) and os.sep == "/"):
            return None
        name = os.path.expanduser(name)  # noqa: PTH111
        for root in self._roots:
            path = os.path.normpath(name if os.path.isabs(name) else f"{root}/{name}")  # noqa: PTH117
            if path.startswith(root.rstrip(os.sep) + os.sep):
                return os.path.relpath(path, root).replace(os.sep, "/")
        return None

    def _alike(self, name: str) -> str | None:
        """Return the one file whose name differs only in how characters are composed, or in upper and lower case."""
        place = self._roots[0]
        parts = []
        for part in name.split("/"):
            if place not in self._entries:
                self._entries[place] = _entries(place)
            plain = unicodedata.normalize("NFC", part)
            found = self._entries[place].get(plain) or self._entries[place].get(plain.casefold())
            if found is None:
                return None
            parts.append(found)
            place = f"{place}/{found}"
        return "/".join(parts) if _is_file(place) else None


def _is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  # pathlib's raises where a name is too long


def _entries(folder: str) -> dict[str, str]:
    """Return the names in a folder by their composed form, and by that in lower case where it is of one only."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return {}
    composed = {unicodedata.normalize("NFC", name): name for name in names}
    lower: dict[str, list[str]] = {}
    for name in composed:
        lower.setdefault(name.casefold(), []).append(composed[name])
    return {key: found[0] for key, found in lower.items() if len(found) == 1} | composed
