"""Contact sheets: pictures in a grid, each with words underneath."""

import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Resampling

from trencadis.errors import ConfigError

_MARGIN = 8
_FONT_SIZE = 12
_LINE_HEIGHT = 15
_TITLE_SIZE = 16
_TITLE_HEIGHT = 28
_INK, _PAPER, _ABSENT = "#222222", "#ffffff", "#dddddd"
_LONGEST_LABEL = 400
_PLAIN = {"–": "-", "—": "-", "×": "x", "ß": "ss", "æ": "ae", "ø": "o", "ł": "l"}


def contact_sheet(
    images: Sequence[Image.Image | None],
    labels: Sequence[str],
    columns: int,
    *,
    tile_size: int = 128,
    label_lines: int = 3,
) -> Image.Image:
    """Return the pictures in rows, left to right, each scaled to fit a square tile and with its label underneath.

    Args:
        images: RGB pictures of any sizes; None leaves a grey tile.
        labels: One a picture; broken into lines, and cut with an ellipsis where it is longer.
        columns: Tiles a row.
        tile_size: Side of a tile in pixels.
        label_lines: Lines of text kept free under each tile; 0 for none.

    Raises:
        ConfigError: There is no picture, not as many labels, or no column.
    """
    if not images or len(images) != len(labels) or columns < 1:
        given = f"{len(images)} pictures, {len(labels)} labels and {columns} columns"
        raise ConfigError(given, expected="at least one picture and column, and as many labels", remedy="count again")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    cell_width, cell_height = tile_size + _MARGIN, tile_size + label_lines * _LINE_HEIGHT + _MARGIN
    sheet = Image.new("RGB", (columns * cell_width + _MARGIN, rows * cell_height + _MARGIN), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT_SIZE)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        left, top = _MARGIN + number % columns * cell_width, _MARGIN + number // columns * cell_height
        _place(sheet, image, left, top, tile_size)
        for line_number, line in enumerate(_wrapped(label, font, tile_size, label_lines)):
            draw.text((left, top + tile_size + 1 + line_number * _LINE_HEIGHT), line, fill=_INK, font=font)
    return sheet


def titled(sections: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Return sheets under one another, each under its title."""
    width = max(sheet.width for _, sheet in sections)
    height = sum(sheet.height + _TITLE_HEIGHT for _, sheet in sections)
    page = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_TITLE_SIZE)
    top = 0
    for title, sheet in sections:
        draw.text((_MARGIN, top + _MARGIN), _drawable(title), fill=_INK, font=font)
        page.paste(sheet, (0, top + _TITLE_HEIGHT))
        top += _TITLE_HEIGHT + sheet.height
    return page


def _place(sheet: Image.Image, image: Image.Image | None, left: int, top: int, tile_size: int) -> None:
    if image is None:
        sheet.paste(_ABSENT, (left, top, left + tile_size, top + tile_size))
        return
    scale = tile_size / max(image.size)
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    fitted = image.convert("RGB").resize(size, Resampling.LANCZOS, reducing_gap=2.0)
    sheet.paste(fitted, (left + (tile_size - size[0]) // 2, top + (tile_size - size[1]) // 2))


def _wrapped(label: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """Break a label into at most `most` lines of `width` pixels; words that are too long are broken anywhere."""
    lines: list[str] = []
    rest = _drawable(label[:_LONGEST_LABEL])
    while rest and len(lines) < most:
        fitting = next(
            count for count in range(len(rest), 0, -1) if count == 1 or font.getlength(rest[:count]) <= width
        )
        if fitting < len(rest):
            space = rest.rfind(" ", 1, fitting + 1)
            fitting = space if space > 0 else fitting
        lines.append(rest[:fitting].strip())
        rest = rest[fitting:].strip()
    if rest and lines:
        while lines[-1] and font.getlength(lines[-1] + "…") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "…"
    return lines


def _drawable(text: str) -> str:
    """Return text in one line, its accents left out: Pillow's own font has none. Other scripts become boxes."""
    letters = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    plain = "".join(_PLAIN.get(letter, letter) for letter in letters)
    return " ".join("".join(character if character.isprintable() else " " for character in plain).split())
