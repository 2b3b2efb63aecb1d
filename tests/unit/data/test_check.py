import base64
import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trencadis.config import DataConfig, FilterConfig
from trencadis.data import fonts, open_source
from trencadis.data.check import page_of, report_lines, report_of, sections_of, sheet_of
from trencadis.data.curation import examine


@pytest.fixture
def untidy(folder: Path, picture: Callable[..., bytes]) -> Path:
    """Return a folder with three pairs that stay, seven without captions and one without a whole picture."""
    for number in range(7):
        (folder / f"none{number}.png").write_bytes(picture())
    (folder / "broken[red].png").write_bytes(b"broken")
    (folder / "broken[red].txt").write_text("a broken picture")
    return folder


def test_report_counts_what_is_kept_and_dropped(untidy: Path) -> None:
    report = report_of(examine(open_source(str(untidy)), FilterConfig()))
    assert (report.pairs, report.kept, report.expected_per_epoch) == (11, 3, 3.0)
    assert report.dropped == {"no caption": 7, "unreadable picture": 1}
    assert len(report.examples["no caption"]) == 5
    assert report.examples["unreadable picture"] == [
        ("broken[red].png", "the content is not a picture in a format that is read")
    ]
    assert (report.captions, report.distinct_captions) == (6, 6)
    assert report.caption_words is not None
    assert (report.caption_words.least, report.caption_words.median, report.caption_words.most) == (3, 3, 3)
    assert report.short_sides is not None
    assert report.short_sides.median == 32


def test_lines_say_the_same(untidy: Path) -> None:
    lines = report_lines(report_of(examine(open_source(str(untidy)), FilterConfig())), "pairs")
    assert lines[0] == "pairs: 11 pairs, 3 kept, 8 left out"
    assert "left out, no caption: 7" in lines
    assert "    and 2 more" in lines
    assert "    broken[red].png  (the content is not a picture in a format that is read)" in lines
    assert "    width: 32 to 32, median 32 pixels" in lines


def test_names_cannot_drive_the_terminal(folder: Path) -> None:
    (folder / "a.txt").unlink()
    (folder / "a.jpg").rename(folder / "a\x1b[31m\r.jpg")
    lines = report_lines(report_of(examine(open_source(str(folder)), FilterConfig())), "pairs")
    assert all(line.isprintable() for line in lines)


def test_sheet_shows_kept_and_dropped(untidy: Path) -> None:
    source = open_source(str(untidy))
    curated = examine(source, FilterConfig())
    page = sheet_of(sections_of(source, curated, FilterConfig()), source, curated, DataConfig(), (16, 16))
    colours = {colour for _, colour in page.getcolors(2**24) or []}
    assert {(255, 0, 0), (221, 221, 221)} <= colours
    nothing = examine(source, FilterConfig(min_caption_chars=1000))
    tidy = sheet_of(sections_of(source, nothing, FilterConfig()), source, nothing, DataConfig(), (16, 16))
    assert tidy.height < page.height


def test_a_page_shows_what_no_font_has(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", tuple)
    source = open_source(str(folder))
    sections = sections_of(source, examine(source, FilterConfig()), FilterConfig())
    assert page_of(sections) is None
    (folder / "a.txt").write_text("红心 <b>", "utf-8")
    (folder / "b.PNG").write_bytes(b"no picture")
    sections = sections_of(source, examine(source, FilterConfig()), FilterConfig())
    page = page_of(sections)
    assert page is not None
    assert "红心 &lt;b&gt;</figcaption>" in page
    assert "unreadable picture: b.PNG</figcaption>" in page
    assert page.count("<figure>") == 3
    pictures = [base64.b64decode(coded) for coded in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert [Image.open(io.BytesIO(raw)).size for raw in pictures] == [(32, 32)] * 2


def test_report_of_nothing_kept(untidy: Path) -> None:
    report = report_of(examine(open_source(str(untidy)), FilterConfig(min_caption_chars=1000)))
    assert (report.kept, report.captions, report.caption_chars, report.short_sides) == (0, 0, None, None)
    assert report_lines(report, "pairs")[0] == "pairs: 11 pairs, 0 kept, 11 left out"


def test_weights_tell_how_much_an_epoch_holds(table: Callable[..., Path]) -> None:
    rows = [{"file_name": name, "caption": "a square", "weight": 0.5} for name in ("a.png", "b.png")]
    report = report_of(examine(open_source(str(table(*rows))), FilterConfig()))
    assert report.expected_per_epoch == 1.0
    assert report_lines(report, "pairs")[-1] == "weights: an epoch holds about 1 of the 2 pairs"
