"""Pairs whose pictures are files: in a folder with captions beside them, or listed in a table."""

import errno
import json
import math
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trencadis.config.data import ReadingConfig
from trencadis.data.pairs import Omitted
from trencadis.errors import DataError

_HEIF_SUFFIXES = (".heic", ".heif")
_CAN_READ_HEIF = find_spec("pillow_heif") is not None
PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(_HEIF_SUFFIXES if _CAN_READ_HEIF else ()),
)
OTHER_PICTURE_SUFFIXES = (
    *(() if _CAN_READ_HEIF else _HEIF_SUFFIXES),
    *(".svg", ".svgz", ".ai", ".eps", ".emf", ".wmf"),
    *(".psd", ".psb", ".xcf", ".kra", ".ora", ".clip"),
    *(".jxl", ".jp2", ".j2k", ".jpx", ".jpf", ".hif", ".avifs", ".apng", ".mng", ".qoi", ".flif", ".bpg", ".jxr"),
    *(".tga", ".ico", ".cur", ".icns", ".pcx", ".dds", ".sgi", ".xbm", ".xpm", ".ktx"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".exr", ".hdr", ".dib"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".raw", ".pef", ".srw", ".x3f"),
)
"""Of pictures in formats that are not read: they are left out and counted."""
# A caption file is read whole. A larger one is not a caption file.
MAX_CAPTIONS_BYTES = 1_000_000
MAX_PICTURE_BYTES = 2**30
CAPTION_COLUMNS = (
    *("captions", "caption", "text", "prompt", "title", "description", "alt_text", "alt"),
    *("sentences", "sentence", "comment"),
)
"""Columns of a table, or keys of a JSON, that hold captions. The first filled one counts."""


def caption_columns(reading: ReadingConfig) -> tuple[str, ...]:
    """Return the columns or keys that captions are looked for in: the one that is given, or the known ones."""
    return CAPTION_COLUMNS if reading.caption_column is None else (column_name(reading.caption_column),)


@runtime_checkable
class SizedSource(Protocol):
    """A source that knows the size of its picture files without reading them. All sources of this package do."""

    def image_size_bytes(self, index: int) -> int:
        """Return the size of the picture's file content, or -1 where there is none."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture and its captions.

    Args:
        name: Path relative to the source's root, with forward slashes.
        captions: The captions that are known; none where they are in files.
        caption_files: Where they are; the first one that is not blank counts.
        weight: Share of epochs in which it appears, in (0, 1].
    """

    name: str
    captions: tuple[str, ...] = ()
    caption_files: tuple[Path, ...] = ()
    weight: float = 1.0


class FilesSource:
    """Pairs whose pictures are files below a root; a `PairSource`. Caption files are read when they are asked for."""

    def __init__(
        self,
        root: Path,
        files: Sequence[PictureFile],
        omitted: Sequence[Omitted] = (),
        held_out: Collection[int] = frozenset(),
        columns: Sequence[str] = CAPTION_COLUMNS,
    ) -> None:
        self._root, self._files, self._columns = root, files, columns
        self._ids = _distinct_ids([file.name for file in files])
        self.omitted, self.held_out = tuple(omitted), frozenset(held_out)

    def __len__(self) -> int:
        return len(self._files)

    def sample_id(self, index: int) -> str:
        return self._ids[index]

    def captions(self, index: int) -> tuple[str, ...]:
        file = self._files[index]
        read = (_read_captions(path, self._columns) for path in file.caption_files)
        return file.captions or next(filter(None, read), ())

    def weight(self, index: int) -> float:
        return self._files[index].weight

    def image_size_bytes(self, index: int) -> int:
        try:
            return (self._root / self._files[index].name).stat().st_size
        except OSError:
            return -1

    def image_bytes(self, index: int) -> bytes:
        path = self._root / self._files[index].name
        try:
            return read_regular_file(path, MAX_PICTURE_BYTES)
        except OSError as error:
            raise unreadable(path, error, expected="a picture", remedy="put it there, or take the row out") from error


def unreadable(path: str | Path, error: OSError, *, expected: str, remedy: str = "check the path") -> DataError:
    return DataError(f"cannot read {path}: {reason(error)}", expected=expected, remedy=remedy)


def reason(error: OSError) -> str:
    """Return why the system refused, without the path: `permission denied`."""
    return (error.strerror or str(error)).lower()


def read_regular_file(path: Path, most_bytes: int) -> bytes:
    """Return a file's content.

    Raises:
        OSError: It does not exist, is larger than `most_bytes`, or is a pipe or a device, which might never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > most_bytes:
        raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, more than {most_bytes:,}")
    return path.read_bytes()


def plain_name(name: str) -> str:
    """Return a file name as text, the same however the file system composes its characters."""
    # A file name may be any bytes.
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def _distinct_ids(names: Sequence[str]) -> list[str]:
    """Return the plain names; where two are the same, one of them keeps its own characters."""
    plain = [plain_name(name) for name in names]
    count = Counter(plain)
    return [name if count[text] > 1 else text for name, text in zip(names, plain, strict=True)]


def joined_files(files: Iterable[PictureFile]) -> list[PictureFile]:
    """Merge entries of the same picture: all their captions, the largest weight."""
    by_name: dict[str, PictureFile] = {}
    for file in files:
        known = by_name.get(file.name)
        if known is not None:
            weight = max(known.weight, file.weight)
            file = PictureFile(file.name, known.captions + file.captions, weight=weight)
        by_name[file.name] = file
    return list(by_name.values())


def _read_captions(path: Path, columns: Sequence[str]) -> tuple[str, ...]:
    is_json = path.suffix.lower() == ".json"
    expected = 'JSON such as {"caption": "a dog"}' if is_json else "UTF-8 text, one caption a line"
    try:
        raw = read_regular_file(path, MAX_CAPTIONS_BYTES)
        return captions_of_json(raw, columns) if is_json else caption_lines(raw)
    except UnicodeDecodeError as error:
        given = f"{path.name} is not UTF-8 at byte {error.start}"
        raise DataError(given, expected=expected, remedy="save the file as UTF-8") from error
    except OSError as error:
        raise unreadable(path, error, expected=expected, remedy="check the file") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} has no readable caption", expected=expected, remedy="check the file") from error


def caption_lines(raw: bytes) -> tuple[str, ...]:
    """Return the non-blank lines of UTF-8 text, with or without a byte-order mark."""
    return tidy_captions(raw.decode("utf-8-sig").splitlines())


def tidy_captions(captions: Iterable[str]) -> tuple[str, ...]:
    """Strip captions and leave out blank ones; each is text that UTF-8 can encode."""
    # JSON may hold halves of surrogate pairs, which no file can be written with.
    stripped = (caption.encode("utf-8", "replace").decode("utf-8").strip() for caption in captions)
    return tuple(caption for caption in stripped if caption)


def captions_of(value: Any) -> tuple[str, ...]:
    """Return the captions in a table's cell: one text, or a list of texts.

    Raises:
        ValueError: It is neither.
    """
    captions = (value,) if isinstance(value, str) else value
    if not isinstance(captions, list | tuple) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError("a caption is not text")
    return tidy_captions(captions)


def captions_in(cells: Mapping[str, Any], columns: Sequence[str] = CAPTION_COLUMNS) -> tuple[str, ...]:
    """Return the captions in the first of some columns that is filled; none where all are blank.

    Raises:
        ValueError: What it holds is not text.
    """
    by_name = plain_cells(cells)
    return captions_of(next((by_name[column] for column in columns if _is_filled(by_name.get(column))), ()))


def plain_cells(cells: Mapping[str, Any]) -> dict[str, Any]:
    """Return cells by the names of their columns in lower case, without spaces around them."""
    return {column_name(name): value for name, value in cells.items()}


def column_name(name: str) -> str:
    return name.strip().lower()


def _is_filled(value: Any) -> bool:
    if isinstance(value, float) and math.isnan(value):
        return False  # how pandas writes an empty cell
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != []


def captions_of_json(raw: bytes, columns: Sequence[str] = CAPTION_COLUMNS) -> tuple[str, ...]:
    """Return the captions in a JSON object, under the first of some keys that is filled.

    Raises:
        ValueError: It is no JSON object, or its caption is not text.
    """
    content = json.loads(raw.decode("utf-8-sig"))
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return captions_in(content, columns)
