import numpy as np
import pytest
from PIL import Image, ImageFont

from trencadis.data import fonts
from trencadis.data.contact_sheet import _wrapped, banded_sheet, contact_sheet, titled
from trencadis.data.fonts import shows, system_fonts
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


def test_accents_are_left_out_where_no_font_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", tuple)
    accented, plain = (contact_sheet([None], [label], 1) for label in ("Réunion – größer", "Reunion - grosser"))
    assert accented.tobytes() == plain.tobytes()


def test_accents_and_other_scripts_are_shown_in_a_font_of_the_system() -> None:
    if not any(shows(ImageFont.truetype(path, 12), "ж") for path in system_fonts()):
        pytest.skip("no font of this system has Cyrillic")
    sheets = [contact_sheet([None], [label], 1).tobytes() for label in ("кот", "кит", "Reunion", "Réunion")]
    assert len(set(sheets)) == 4


def test_any_text_can_be_a_label() -> None:
    for label in (
        "",
        " ",
        "x" * 100_000,
        "a\0b\nc\x1b[31m",
        "一只猫",
        "🐈",
        "e\u0301",
        "ليل",
        "\udcff\ud83d",
        "👨‍👩‍👧 می‌خواهم",
    ):
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


def lines_of(label: str, width: int, most: int = 9) -> list[str]:
    return _wrapped(label, ImageFont.load_default(12), width, most)


def test_lines_end_between_words_and_numbers_stay_with_their_units() -> None:
    assert lines_of("23.4\N{NO-BREAK SPACE}dB SSIM\N{NO-BREAK SPACE}0.91", 60) == ["23.4 dB", "SSIM 0.91"]
    assert lines_of("PSNR 23.4 dB", 60) == ["PSNR 23.4", "dB"]


def test_long_words_are_broken_at_their_seams() -> None:
    assert lines_of("IMG_20240131_235959-edited.png", 80) == ["IMG_", "20240131_", "235959-", "edited.png"]
    assert lines_of("holiday12345678", 80) == ["holiday", "12345678"]
    assert "".join(lines_of("x" * 40, 80)) == "x" * 40


def test_what_is_cut_ends_in_a_whole_word_and_an_ellipsis() -> None:
    assert lines_of("difference of 12345 and 67890 levels", 80, most=2) == ["difference of", "12345 and…"]
    font = ImageFont.load_default(12)
    for width in range(40, 160, 7):
        assert all(font.getlength(line) <= width for line in lines_of("one two-three 4567 " * 9, width, most=3))


def test_tiles_take_the_shape_of_their_pictures() -> None:
    images = [Image.new("RGB", (60, 20), "black")] * 2
    sheet = contact_sheet(images, ["", ""], 2, tile_size=(40, 120), label_lines=0)
    assert sheet.size == (2 * 128 + 8, 48 + 8)
    dark = np.asarray(sheet.convert("L")) < 128
    assert (int(dark.any(1).sum()), int(dark.any(0).sum())) == (40, 240)


def test_rows_go_on_in_bands() -> None:
    colours = ["#100000", "#200000", "#300000"], ["#001000", "#002000", "#003000"]
    rows = [[(Image.new("RGB", (20, 20), colour), "") for colour in row] for row in colours]
    sheet = banded_sheet(rows, 2, tile_size=20, label_lines=0)
    assert sheet.size == (2 * 28 + 8, 2 * (2 * 28 + 8) + 12)
    tops = [18, 18 + 28, 18 + 64 + 12, 18 + 64 + 12 + 28]
    seen = [[sheet.getpixel((18 + 28 * column, top)) for column in (0, 1)] for top in tops]
    paper = (255, 255, 255)
    assert seen == [[(16, 0, 0), (32, 0, 0)], [(0, 16, 0), (0, 32, 0)], [(48, 0, 0), paper], [(0, 48, 0), paper]]


@pytest.mark.parametrize(("lengths", "columns"), [((), 1), ((0, 0), 1), ((1, 2), 1), ((1, 1), 0)])
def test_rows_that_differ_make_no_sheet(lengths: tuple[int, ...], columns: int) -> None:
    with pytest.raises(ConfigError):
        banded_sheet([[(Image.new("RGB", (4, 4)), "")] * length for length in lengths], columns)
