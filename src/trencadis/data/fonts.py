"""Fonts for labels: Pillow's own, and one of the system where a text has characters that Pillow's lacks."""

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

_MOST_FILES = 400  # so that a machine with thousands of fonts is not searched for minutes
_SUFFIXES = (".ttf", ".otf", ".ttc")
_SPECIAL = re.compile(r"bold|italic|oblique|light|thin|black|mono|condensed|serif|math|heavy|medium", re.IGNORECASE)
_ABSENT = "\U0010fffd"  # for private use; no font has it


def font_for(text: str, size: int) -> Font:
    """Return the font that shows most characters of a text: Pillow's own, or the first of the system that shows more.

    A font is searched for only where Pillow's own lacks a character.
    """
    best, letters = _own(size), {letter for letter in text if _is_inked(letter)}
    most = sum(shows(best, letter) for letter in letters)
    for path in system_fonts() if most < len(letters) else ():
        font = _loaded(path, size)
        count = 0 if font is None else sum(shows(font, letter) for letter in letters)
        if font is not None and count > most:
            best, most = font, count
        if most == len(letters):
            break
    return best


def shows(font: Font, letter: str) -> bool:
    """Return whether a font has a character; marks and spaces count as shown."""
    return not _is_inked(letter) or _drawn(font, letter) not in (_drawn(font, _ABSENT), b"")


@cache
def system_fonts() -> tuple[Path, ...]:
    """Return the font files of the system, plain ones first."""
    found = [path for folder in _folders() for path in _files(folder)]
    return tuple(sorted(found, key=lambda path: (bool(_SPECIAL.search(path.stem)), path.name, path))[:_MOST_FILES])


def _folders() -> list[Path]:
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  # Path.home fails where there is no home
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"), Path(local, "Microsoft/Windows/Fonts")]
    if sys.platform == "darwin":
        return [home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts")]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = [home / ".fonts", Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / "fonts"]
    return own + [Path(folder, "fonts") for folder in shared.split(":")]


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names if name.lower().endswith(_SUFFIXES))


@cache
def _own(size: int) -> Font:
    return ImageFont.load_default(size)


@cache
def _loaded(path: Path, size: int) -> Font | None:
    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError):  # damaged, or of bitmaps in other sizes
        return None


@cache
def _drawn(font: Font, letter: str) -> bytes:
    image = Image.new("1", (48, 48))
    try:
        ImageDraw.Draw(image).text((12, 12), letter, fill=1, font=font)
    except OSError:  # a damaged outline
        return b""
    return image.tobytes()


def _is_inked(letter: str) -> bool:
    return unicodedata.category(letter)[0] not in "MZC"
