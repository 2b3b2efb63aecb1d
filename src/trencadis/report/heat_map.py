"""How surprising each token of a picture is, as a sheet that can be looked at."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from trencadis.data.contact_sheet import contact_sheet
from trencadis.data.fonts import font_for
from trencadis.judgement import Surprise
from trencadis.report.axis import linear_ticks, number_text

LONGER_SIDE = 288  # of the picture on the sheet, in pixels
# Viridis at even distances: of even lightness, and told apart under every common kind of colour blindness.
_RAMP = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float64)
_MARGIN, _BAR_HEIGHT, _FONT_SIZE = 8, 14, 12
_INK, _PAPER = "#222222", "#ffffff"


def surprise_sheet(picture: Image.Image, surprise: Surprise, caption: str) -> Image.Image:
    """Return a picture, the bits of its tokens with a caption and without, and the scale of both.

    Args:
        picture: What was judged; it is cropped as the model crops it, if its pixels are square.
        surprise: Of its tokens.
        caption: For which the bits are.
    """
    rows, columns = surprise.bits.shape
    scale = LONGER_SIDE / max(rows, columns)
    width, height = round(columns * scale), round(rows * scale)
    tables = (surprise.bits, surprise.bits_without_caption)
    most = max(float(table.max()) for table in tables)
    panels = [_coloured(table, most).resize((width, height), Image.Resampling.NEAREST) for table in tables]
    shown = ImageOps.fit(picture.convert("RGB"), (width, height), Image.Resampling.LANCZOS)
    given, alone = (f"{float(table.sum()):.1f}\N{NO-BREAK SPACE}bits" for table in tables)
    labels = ["the picture", f"{given} with: {caption}", f"{alone} without a caption"]
    sheet = contact_sheet([shown, *panels], labels, 3, tile_size=(height, width), label_lines=2, outlined=True)
    return _with_scale(sheet, most)


def colours(shares: Float[np.ndarray, "*places"]) -> UInt8[np.ndarray, "*places 3"]:
    """Return the colour of each share of the scale, 0 the darkest and 1 the brightest."""
    stops = np.linspace(0, 1, len(_RAMP))
    channels = [np.interp(shares, stops, _RAMP[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _coloured(bits: Float[Tensor, "rows columns"], most: float) -> Image.Image:
    return Image.fromarray(colours(bits.numpy() / max(most, 1e-9)))


def _with_scale(sheet: Image.Image, most: float) -> Image.Image:
    """Return a sheet with the scale below it, in bits."""
    page = Image.new("RGB", (sheet.width, sheet.height + _BAR_HEIGHT + 2 * _FONT_SIZE + _MARGIN), _PAPER)
    page.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(page)
    width, top = sheet.width - 2 * _MARGIN, sheet.height
    bar = Image.fromarray(np.tile(colours(np.linspace(0, 1, width)), (_BAR_HEIGHT, 1, 1)))
    page.paste(bar, (_MARGIN, top))
    ticks = linear_ticks(0, most, 6) if most > 0 else (0.0,)
    texts = [number_text(tick, ticks) for tick in ticks]
    texts[-1] += " bits a token"
    end = 0.0
    for tick, text in zip(ticks, texts, strict=True):
        font = font_for(text, _FONT_SIZE)
        place = _MARGIN + tick / max(most, 1e-9) * (width - 1)
        draw.line((place, top + _BAR_HEIGHT, place, top + _BAR_HEIGHT + 3), fill=_INK)
        length = font.getlength(text)
        left = min(max(place - length / 2, end), sheet.width - _MARGIN - length)
        draw.text((left, top + _BAR_HEIGHT + 4), text, fill=_INK, font=font)
        end = left + length + _MARGIN
    return page
