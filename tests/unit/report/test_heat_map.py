import numpy as np
import pytest
import torch
from PIL import Image

from trencadis.judgement import Surprise
from trencadis.report.heat_map import colours, surprise_sheet


def test_a_higher_share_is_lighter() -> None:
    shown = colours(np.linspace(0, 1, 256)).astype(float)
    lightness = shown @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) >= 0).all()
    assert (lightness[0] < 30, lightness[-1] > 200) == (True, True)


@pytest.mark.parametrize("most", [0.0, 1e-3, 7.3, 400.0])
@pytest.mark.parametrize("size", [(2, 6), (6, 2), (1, 1)])
def test_a_sheet_shows_any_grid_with_the_picture_s_middle_beside_it(size: tuple[int, int], most: float) -> None:
    rows, columns = size
    bits = torch.linspace(0, most, rows * columns, dtype=torch.float64).view(rows, columns)
    surprise = Surprise(torch.zeros(rows, columns, dtype=torch.long), bits, bits * 0)
    picture = Image.new("RGB", (60, 60), "white")
    picture.paste("red", (60 * (columns < rows) // 3, 60 * (columns > rows) // 3, 60, 40))
    sheet = surprise_sheet(picture, surprise, "a caption that is long enough to need a second line of its own " * 3)
    side = 288 // max(rows, columns)
    width, height = side * columns, side * rows
    dark, light = tuple(colours(np.array(0.0)).tolist()), tuple(colours(np.array(1.0)).tolist())
    last = (8 + 2 * width + 8 - side // 2, 8 + height - side // 2)
    assert sheet.getpixel(last) == (light if most and rows * columns > 1 else dark)
    assert sheet.getpixel((last[0] + width + 8, last[1])) == dark
    assert sheet.getpixel((8 + width // 2, 8 + height // 2)) == (255, 0, 0)
    bar_top = next(row for row in range(8 + height, sheet.height) if sheet.getpixel((8, row)) == dark)
    assert sheet.getpixel((sheet.width - 9, bar_top)) == light
