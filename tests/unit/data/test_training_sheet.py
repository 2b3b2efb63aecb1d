import numpy as np
from PIL import Image

from tests.unit.data.drawings import Listed, disc, gradient
from trencadis.config import DataConfig
from trencadis.data import CAPTIONED_CROPS, Pictures
from trencadis.data.contact_sheet import titled
from trencadis.data.pixels import to_pillow
from trencadis.data.training_sheet import training_sections

TILE, STEP, MARGIN = 96, 104, 8


def tile(sheet: Image.Image, column: int, row: int) -> Image.Image:
    left, top = MARGIN + column * STEP, MARGIN + row * (STEP + 15)
    return sheet.crop((left, top, left + TILE, top + TILE))


def test_sheet_shows_the_crops_of_each_stage() -> None:
    source = Listed([disc(), gradient(96, 96)])
    pairs = source.pairs()
    (_, mirrored), (_, captioned) = training_sections(source, pairs, (TILE, TILE), DataConfig(), seed=3)
    pictures = Pictures(source, pairs, (TILE, TILE))
    for row in range(2):
        assert tile(captioned, 1, row) == to_pillow(pictures.crop(row)[None])[0]
        for number in range(7):
            crop = pictures.crop(row, CAPTIONED_CROPS, (3, number, pairs[row].sample_id))
            assert tile(captioned, 2 + number, row) == to_pillow(crop[None])[0]
    ends = [np.asarray(tile(mirrored, 2 + number, 1))[50, [0, -1], 0] for number in range(7)]
    assert len({bool(left > right) for left, right in ends}) == 2
    (_, unmirrored), _ = training_sections(source, pairs, (TILE, TILE), DataConfig(flip=False), seed=3)
    ends = [np.asarray(tile(unmirrored, 2 + number, 1))[50, [0, -1], 0] for number in range(7)]
    assert all(left < right for left, right in ends)


def test_sheet_of_one_picture_and_of_another_aspect() -> None:
    source = Listed([disc()])
    page = titled(training_sections(source, source.pairs(), (16, 32), DataConfig(), seed=0))
    assert page.width == 9 * STEP + MARGIN
    assert page.height == 2 * (28 + TILE // 2 + 15 + 2 * MARGIN)
