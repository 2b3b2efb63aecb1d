"""Pairs whose pictures are files: in a folder with captions beside them, or listed in a table."""

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

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
        captions: The captions, or a text file with one on each line, or None.
        weight: Share of epochs in which it appears, in (0, 1].
    """

    name: str
    captions: tuple[str, ...] | Path | None
    weight: float = 1.0


class FilesSource:
    """Pairs whose pictures are files below a root; a `PairSource`. Caption files are read when they are asked for."""

    def __init__(
        self,
        root: Path,
        files: Sequence[PictureFile],
        omitted: Sequence[Omitted] = (),
        held_out: Collection[int] = frozenset(),
    ) -> None:
        self._root, self._files = root, files
        self.omitted, self.held_out = tuple(omitted), frozenset(held_out)

    def __len__(self) -> int:
        return len(self._files)

    def sample_id(self, index: int) -> str:
        # A file name may be any bytes; an id is always text.
        return os.fsencode(self._files[index].name).decode("utf-8", "backslashreplace")

    def captions(self, index: int) -> tuple[str, ...]:
        captions = self._files[index].captions
        if isinstance(captions, Path):
            return _read_captions(captions)
        return captions or ()

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


def joined_files(files: Iterable[PictureFile]) -> list[PictureFile]:
    """Merge entries of the same picture: all their captions, the largest weight."""
    by_name: dict[str, PictureFile] = {}
    for file in files:
        known = by_name.get(file.name)
        if known is not None:
            assert isinstance(known.captions, tuple)
            assert isinstance(file.captions, tuple)
            file = PictureFile(file.name, known.captions + file.captions, max(known.weight, file.weight))
        by_name[file.name] = file
    return list(by_name.values())


def _read_captions(path: Path) -> tuple[str, ...]:
    expected, remedy = "UTF-8 text, one caption a line", "save the file as UTF-8"
    try:
        return caption_lines(read_regular_file(path, MAX_CAPTIONS_BYTES))
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 at byte {error.start}", expected=expected, remedy=remedy) from error
    except OSError as error:
        raise unreadable(path, error, expected=expected, remedy="check the file") from error


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


def open_folder(root: Path, captions_root: Path | None = None) -> FilesSource:
    """Return the pictures below a folder, with the captions in the `.txt` of the same stem.

    Args:
        root: Searched recursively; hidden files and folders are skipped.
        captions_root: Where the `.txt` files are, in the same subfolders; None means beside the pictures.

    Raises:
        DataError: There is no picture, or not one caption.
    """
    captions_root = captions_root or root
    files = [PictureFile(name, _caption_file(captions_root, name)) for name in _picture_names(root)]
    if not files:
        given = f"no picture ({', '.join(PICTURE_SUFFIXES)}) in {root}"
        raise DataError(given, expected="captioned pictures", remedy="check the path")
    if all(file.captions is None for file in files):
        given = f"{len(files):,} pictures in {root} without a caption"
        remedy = "put a .txt of the same name beside each picture, or a metadata.jsonl into the folder"
        raise DataError(given, expected="captioned pictures", remedy=remedy)
    return FilesSource(root, files)


def _caption_file(root: Path, name: str) -> Path | None:
    path = (root / name).with_suffix(".txt")
    return path if path.is_file() else None


def _picture_names(root: Path) -> list[str]:
    paths = (Path(folder) / name for folder, names in _folders(root) for name in names)
    return sorted(path.relative_to(root).as_posix() for path in paths if path.suffix.lower() in PICTURE_SUFFIXES)


def _raise(error: OSError) -> None:
    raise error


def _folders(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with its files. Links are followed, but no folder is entered twice."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, onerror=_raise, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield folder, [name for name in names if not name.startswith(".")]
