"""Contact sheets: pictures in a grid, each with a label underneath."""

import re
import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw
from PIL.Image import Resampling

from trencadis.data.fonts import Font, font_for, shows
from trencadis.errors import ConfigError

_MARGIN = 8
_FONT_SIZE = 12
_LINE_HEIGHT = 15
_TITLE_SIZE = 16
_TITLE_HEIGHT = 28
_BAND_GAP = 12
_INK, _PAPER, _ABSENT = "#222222", "#ffffff", "#dddddd"
_LONGEST_LABEL = 400
TILE_SIZE = 128
_PLAIN = {"–": "-", "—": "-", "×": "x", "ß": "ss", "æ": "ae", "ø": "o", "ł": "l"}
_TIED = "\N{NO-BREAK SPACE}"
_KEPT = (_TIED, "\u200c", "\u200d")  # the last two join or part the letters beside them
# Where a word that is too long may be broken: after punctuation, or where a number begins or ends.
_SEAM = re.compile(r"(?<=[-_./,;:=+])|(?<=\d)(?=[^\W\d_])|(?<=[^\W\d_])(?=\d)")


def contact_sheet(
    images: Sequence[Image.Image | None],
    labels: Sequence[str],
    columns: int,
    *,
    tile_size: int | tuple[int, int] = TILE_SIZE,
    label_lines: int = 3,
    outlined: bool = False,
) -> Image.Image:
    """Return the pictures in rows, left to right, each scaled to fit a tile and with its label underneath.

    Args:
        images: RGB pictures of any sizes; None leaves a grey tile.
        labels: Broken into lines, ended by an ellipsis if too long. A no-break space keeps number and unit together.
        columns: Tiles in a row.
        tile_size: Height and width of a tile in pixels; one number for a square.
        label_lines: Lines of text kept free under each tile; 0 for none.
        outlined: Draw a faint line around each picture, so that the edges of white ones are seen.

    Raises:
        ConfigError: There is no picture, not as many labels, or no column.
    """
    if not images or len(images) != len(labels) or columns < 1:
        given = f"{len(images)} pictures, {len(labels)} labels and {columns} columns"
        raise ConfigError(given, expected="columns, and a label for each picture", remedy="pass as many labels")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    tile_height, tile_width = (tile_size, tile_size) if isinstance(tile_size, int) else tile_size
    cell_width, cell_height = tile_width + _MARGIN, tile_height + label_lines * _LINE_HEIGHT + _MARGIN
    sheet = Image.new("RGB", (columns * cell_width + _MARGIN, rows * cell_height + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, top = _MARGIN + number % columns * cell_width, _MARGIN + number // columns * cell_height
        box = _place(sheet, image, left, top, (tile_height, tile_width))
        if outlined:
            draw.rectangle((box[0] - 1, box[1] - 1, box[2], box[3]), outline=_ABSENT)
        shown, font = _drawable(label[:_LONGEST_LABEL], _FONT_SIZE)
        for line_number, line in enumerate(_wrapped(shown, font, tile_width, label_lines)):
            draw.text((left, top + tile_height + 1 + line_number * _LINE_HEIGHT), line, fill=_INK, font=font)
    return sheet


def is_shown(label: str) -> bool:
    """Return whether a sheet shows every character of a label, or a plain one for it; else some are boxes."""
    shown, font = _drawable(label[:_LONGEST_LABEL], _FONT_SIZE)
    return all(shows(font, letter) for letter in shown)


def banded_sheet(
    rows: Sequence[Sequence[tuple[Image.Image, str]]],
    columns: int,
    *,
    tile_size: int | tuple[int, int] = TILE_SIZE,
    label_lines: int = 2,
) -> Image.Image:
    """Return rows of pictures, whose columns belong together, in bands of at most `columns` tiles; see `contact_sheet`.

    Raises:
        ConfigError: There is no picture or no column, or rows differ in length.
    """
    if columns < 1 or not rows or not rows[0] or len({len(row) for row in rows}) > 1:
        given = f"rows of {[len(row) for row in rows]} pictures and {columns} columns"
        raise ConfigError(given, expected="columns and rows of equal length", remedy="pass as many pictures in each")
    bands = []
    for start in range(0, len(rows[0]), columns):
        parts = [row[start : start + columns] for row in rows]
        images, labels = zip(*(tile for part in parts for tile in part), strict=True)
        sheet = contact_sheet(
            images, labels, len(parts[0]), tile_size=tile_size, label_lines=label_lines, outlined=True
        )
        bands.append(sheet)
    height = sum(band.height for band in bands) + _BAND_GAP * (len(bands) - 1)
    sheet, top = Image.new("RGB", (max(band.width for band in bands), height), _PAPER), 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height + _BAND_GAP
    return sheet


def titled(sections: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Return sheets below one another, each with its title."""
    width = max(sheet.width for _, sheet in sections)
    height = sum(sheet.height + _TITLE_HEIGHT for _, sheet in sections)
    page = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(page)
    top = 0
    for title, sheet in sections:
        shown, font = _drawable(title, _TITLE_SIZE)
        draw.text((_MARGIN, top + _MARGIN), shown, fill=_INK, font=font)
        page.paste(sheet, (0, top + _TITLE_HEIGHT))
        top += _TITLE_HEIGHT + sheet.height
    return page


def _place(
    sheet: Image.Image, image: Image.Image | None, left: int, top: int, tile_size: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Paste a picture into the middle of a tile, and return the box that it fills."""
    tile_height, tile_width = tile_size
    if image is None:
        box = left, top, left + tile_width, top + tile_height
        sheet.paste(_ABSENT, box)
        return box
    scale = min(tile_width / image.width, tile_height / image.height)
    width, height = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    left, top = left + (tile_width - width) // 2, top + (tile_height - height) // 2
    sheet.paste(image.convert("RGB").resize((width, height), Resampling.LANCZOS, reducing_gap=2.0), (left, top))
    return left, top, left + width, top + height


def _wrapped(label: str, font: Font, width: int, most: int) -> list[str]:
    """Break a label into at most `most` lines of `width` pixels; words that are too long are broken at `_SEAM`."""
    lines: list[str] = []
    rest = label
    while rest and len(lines) < most:
        fitting = _fitting(rest, font, width)
        if fitting < len(rest) and len(lines) == most - 1:
            # Leave out whole words, or whole numbers where the line is one word.
            shorter = _fitting(rest, font, width - font.getlength("…"))
            lines.append(rest[:shorter].rstrip() + "…")
            break
        lines.append(rest[:fitting].strip())
        rest = rest[fitting:].strip()
    return [line.replace(_TIED, " ") for line in lines]


def _fitting(text: str, font: Font, width: float | int) -> int:
    """Return how many characters fit in a line: up to the last space, else the last seam, else as many as fit."""
    shown = text.replace(_TIED, " ")
    longest = next(count for count in range(len(text), 0, -1) if count == 1 or font.getlength(shown[:count]) <= width)
    if longest == len(text):
        return longest
    space = text.rfind(" ", 1, longest + 1)
    if space > 0:
        return space
    return max((seam.start() for seam in _SEAM.finditer(text) if 0 < seam.start() <= longest), default=longest)


def _drawable(text: str, size: int) -> tuple[str, Font]:
    """Return text on one line, and the font that shows most of it.

    A character that the font lacks is put as a plain one where there is such, as `e` for `é`; others become boxes.
    """
    shown = "".join(letter if letter.isprintable() or letter in _KEPT else " " for letter in text)
    line = " ".join(part for part in shown.split(" ") if part)
    font = font_for(line, size)
    # What Pillow's own font shows of a plain text looks the same on all systems.
    plain = "".join(letter if shows(font, letter) else _plain(letter) for letter in line)
    return plain, font


def _plain(letter: str) -> str:
    if letter in _PLAIN:
        return _PLAIN[letter]
    parts = unicodedata.normalize("NFKD", letter)
    return "".join(_PLAIN.get(part, part) for part in parts if not unicodedata.combining(part)) or letter
