"""The pictures that a command is given: files, and those in folders at any depth."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trencadis.console import tell
from trencadis.errors import PictureError

if TYPE_CHECKING:
    from PIL import Image

MOST_NAMED = 5  # of what is left out for one reason


@dataclass(frozen=True)
class LeftOut:
    path: Path
    reason: str


class Pictures:
    """Pictures that are read one after the other.

    A file that is named itself has to be a picture. What is in a folder and is none is left out, and hidden files are
    passed over.

    Args:
        given: Files and folders.
        output: What the command writes to; in a folder it is passed over.

    Attributes:
        left_out: What was left out so far, and why.

    Raises:
        PictureError: A folder cannot be read or holds no picture, or the output is named as a picture.
    """

    def __init__(self, given: Sequence[Path], *, output: Path | None = None) -> None:
        self.left_out: list[LeftOut] = []
        self._paths: list[tuple[Path, bool]] = []
        for path in given:
            is_output = output is not None and output.exists() and path.exists() and path.samefile(output)
            if is_output:
                given_twice = f"{path} is among the pictures and is --out too"
                raise PictureError(given_twice, expected="another file", remedy="choose another --out")
            if path.is_dir():
                self._paths += [(found, True) for found in self._in_folder(path, output)]
            else:
                self._paths.append((path, False))

    def __len__(self) -> int:
        return len(self._paths)

    def fitted(self, image_size: tuple[int, int]) -> "Iterator[tuple[Path, Image.Image]]":
        """Yield each path and its picture, cut to a height and width. One original is held at a time.

        Raises:
            PictureError: A file that is named is no picture, or no file in the folders is one.
        """
        from PIL import Image, ImageOps

        from trencadis.data import read_picture

        height, width = image_size
        count, last = 0, None
        for path, is_found in self._paths:
            try:
                picture = ImageOps.fit(read_picture(path), (width, height), Image.Resampling.LANCZOS)
            except PictureError as error:
                if not is_found:
                    raise
                last = error
                self.left_out.append(LeftOut(path, error.given.removeprefix(f"{path}: ")))
                continue
            count += 1
            yield path, picture
        if last is not None and not count:
            raise last

    def tell_left_out(self) -> None:
        """Name what was left out, a line for each reason, on stderr."""
        by_reason: dict[str, list[Path]] = {}
        for each in self.left_out:
            by_reason.setdefault(each.reason, []).append(each.path)
        for reason, paths in by_reason.items():
            more = f" and {len(paths) - MOST_NAMED:,} more" if len(paths) > MOST_NAMED else ""
            tell(f"trencadis: left out, {reason}: {', '.join(map(str, paths[:MOST_NAMED]))}{more}")

    def _in_folder(self, folder: Path, output: Path | None) -> list[Path]:
        from trencadis.data.files import PICTURE_SUFFIXES

        pictures: list[Path] = []
        for path in _files(folder):
            if path.suffix.lower() not in PICTURE_SUFFIXES:
                self.left_out.append(LeftOut(path, "no picture"))
            elif output is None or not (output.exists() and path.samefile(output)):
                pictures.append(path)
        if not pictures:
            none = f"no picture ({', '.join(PICTURE_SUFFIXES)}) in {folder}"
            raise PictureError(none, expected="one or more, at any depth", remedy="check the path")
        return pictures


def _files(folder: Path) -> list[Path]:
    """Return the files in a folder at any depth, sorted by path; a link to a folder is not followed."""

    def refuse(error: OSError) -> None:
        given = f"cannot read {error.filename}: {(error.strerror or str(error)).lower()}"
        raise PictureError(given, expected="a folder", remedy="check the path") from error

    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(parent, name) for name in names if not name.startswith("."))
        found += [path for path in paths if path.is_file()]
    return sorted(found)
