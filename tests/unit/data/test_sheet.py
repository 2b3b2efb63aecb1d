import numpy as np
import pytest
from PIL import Image

from trencadis.data.sheet import contact_sheet, titled
from trencadis.errors import ConfigError


def ink(image: Image.Image) -> bool:
    return bool((np.asarray(image.convert("L")) < 128).any())


def test_pictures_stand_in_rows() -> None:
    images = [Image.new("RGB", (50, 50), colour) for colour in ("red", "lime", "blue")]
    sheet = contact_sheet(images, ["", "", ""], 2, tile_size=40, label_lines=0)
    assert sheet.size == (2 * 48 + 8, 2 * 48 + 8)
    middles = [sheet.getpixel((8 + 48 * column + 20, 8 + 48 * row + 20)) for row in (0, 1) for column in (0, 1)]
    assert middles == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def test_pictures_keep_their_aspect() -> None:
    sheet = contact_sheet([Image.new("RGB", (100, 25), "black")], [""], 4, tile_size=40, label_lines=0)
    dark = np.asarray(sheet.convert("L")) < 128
    assert (int(dark.any(1).sum()), int(dark.any(0).sum())) == (10, 40)


def test_labels_stand_underneath_and_within_their_tile() -> None:
    images = [Image.new("RGB", (40, 40), "white")] * 2
    label = "a label with many words and one_word_that_is_longer_than_a_line_of_its_tile " * 3
    sheet = contact_sheet(images, [label, ""], 2, tile_size=80, label_lines=2)
    assert not ink(sheet.crop((0, 0, sheet.width, 88)))
    assert ink(sheet.crop((8, 88, 88, 88 + 15)))
    assert ink(sheet.crop((8, 88 + 15, 88, 88 + 30)))
    assert not ink(sheet.crop((92, 88, sheet.width, sheet.height)))
    assert not ink(sheet.crop((0, 88 + 32, sheet.width, sheet.height)))


def test_accents_are_left_out_where_the_font_has_none() -> None:
    accented, plain = (contact_sheet([None], [label], 1) for label in ("Réunion – größer", "Reunion - grosser"))
    assert accented.tobytes() == plain.tobytes()


def test_any_text_can_be_a_label() -> None:
    for label in ("", " ", "x" * 100_000, "a\0b\nc\x1b[31m", "一只猫", "🐈", "e\u0301", "ليل"):
        assert contact_sheet([None], [label], 1).size == contact_sheet([None], [""], 1).size


def test_absent_picture_leaves_a_grey_tile() -> None:
    assert contact_sheet([None], [""], 1).getpixel((40, 40)) == (221, 221, 221)


def test_sections_stand_under_their_titles() -> None:
    sheets = [Image.new("RGB", (width, 20), "black") for width in (30, 60)]
    page = titled([("one", sheets[0]), ("two", sheets[1])])
    assert page.size == (60, 2 * (20 + 28))
    assert page.getpixel((29, 28)) == (0, 0, 0)
    assert page.getpixel((31, 28)) == (255, 255, 255)
    assert ink(page.crop((0, 0, 60, 28)))


@pytest.mark.parametrize(("count", "labels", "columns"), [(0, 0, 1), (2, 1, 1), (1, 1, 0)])
def test_what_makes_no_sheet_is_refused(count: int, labels: int, columns: int) -> None:
    with pytest.raises(ConfigError):
        contact_sheet([None] * count, ["x"] * labels, columns)
