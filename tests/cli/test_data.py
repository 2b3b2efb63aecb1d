import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from trencadis.cli import main
from trencadis.data import fonts

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two captioned pictures and one without a caption; the working directory is empty."""
    root = tmp_path / "pairs"
    root.mkdir()
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "lime")):
        Image.new("RGB", (32, 32), colour).save(root / f"{name}.png")
        (root / f"{name}.txt").write_text(f"a square, {colour}")
    (root / "c.txt").unlink()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return root


def test_tells_and_draws(pairs: Path, capsys: Capture) -> None:
    assert main(["data", "check", str(pairs)]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(f"{pairs}: 3 pairs, 2 kept, 1 left out")
    assert "left out, no caption: 1\n    c.png" in told.out
    assert told.out.endswith("contact sheet: data-check.png\n")
    assert told.err == ""
    with Image.open("data-check.png") as sheet:
        assert sheet.getpixel((50, 60)) == (255, 0, 0)


def test_a_page_is_written_where_no_font_has_a_caption(
    pairs: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fonts, "system_fonts", tuple)
    caption = (pairs / "a.txt").read_text()
    (pairs / "a.txt").write_text("红心", "utf-8")
    assert main(["data", "check", str(pairs)]) == 0
    assert capsys.readouterr().out.endswith("contact sheet: data-check.png and data-check.html\n")
    assert "红心" in Path("data-check.html").read_text("utf-8")
    (pairs / "a.txt").write_text(caption)
    assert main(["data", "check", str(pairs)]) == 0
    assert not Path("data-check.html").exists()
    Path("data-check.html").write_text("somebody's own")
    assert main(["data", "check", str(pairs)]) == 2
    assert "data-check.html is another file" in capsys.readouterr().err
    assert Path("data-check.html").read_text() == "somebody's own"


def test_json(pairs: Path, capsys: Capture) -> None:
    assert main(["data", "check", str(pairs), "--json", "--out", "some/folder"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["path"], told["pairs"], told["kept"], told["dropped"]) == (str(pairs), 3, 2, {"no caption": 1})
    assert told["examples"] == {"no caption": [["c.png", ""]]}
    assert told["contact_sheet"] == "some/folder/data-check.png"
    assert Path(told["contact_sheet"]).is_file()
    assert told["page"] is None


def test_out_may_be_a_file(pairs: Path) -> None:
    assert main(["data", "check", str(pairs), "--out", "sheet.PNG"]) == 0
    assert [path.name for path in Path().iterdir()] == ["sheet.PNG"]


def test_sheet_is_never_among_the_data(pairs: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(pairs)
    before = sorted(pairs.iterdir())
    assert main(["data", "check", "."]) == 0
    assert sorted(pairs.iterdir()) == before
    assert (pairs.parent / "data-check.png").is_file()
    (pairs / "metadata.csv").write_text("file_name,caption\na.png,a square\n")
    monkeypatch.chdir(pairs.parent / "here")
    (pairs.parent / "link").symlink_to(pairs)
    capsys.readouterr()
    for out in (f"{pairs}/new/sheet.png", str(pairs), "../link/sheet.png"):
        for data in (str(pairs), f"{pairs}/metadata.csv", "../link"):
            assert main(["data", "check", data, "--out", out]) == 2
            told = capsys.readouterr().err
            assert "would lie among the data" in told
            assert "choose another --out" in told
    assert not (pairs / "new").exists()


def test_what_is_left_out_is_told_by_its_reason(pairs: Path, capsys: Capture) -> None:
    (pairs / "drawing.svg").write_text("<svg/>")
    (pairs / "lone.txt").write_text("a caption")
    for name in ("a.txt", *(f"d{number}.txt" for number in range(7))):
        (pairs / name).write_bytes(b"K\xf6nig")
        (pairs / name).with_suffix(".png").write_bytes((pairs / "b.png").read_bytes())
    assert main(["data", "check", str(pairs)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{pairs}: 12 pairs, 1 kept, 11 left out")
    assert "left out, picture of a format that is not read: 1\n    drawing.svg\n" in told
    assert "left out, caption without a picture: 1\n    lone.txt\n" in told
    assert all(f"    d{number}.png" in told for number in range(7))
    assert main(["data", "check", str(pairs), "--strict"]) == 2
    assert "unreadable caption: a.png" in capsys.readouterr().err


def test_table_columns_and_class_folders(pairs: Path, capsys: Capture) -> None:
    table = pairs / "own.csv"
    table.write_text("Bild;Beschreibung\na.png;ein Quadrat\nc.png;noch eines\n")
    options = ["--file-column", "bild", "--caption-column", "Beschreibung"]
    assert main(["data", "check", str(table), *options]) == 0
    assert "2 pairs, 2 kept" in capsys.readouterr().out
    assert main(["data", "check", str(table)]) == 2
    assert "has the columns bild, beschreibung" in capsys.readouterr().err
    (pairs / "cats").mkdir()
    (pairs / "c.png").rename(pairs / "cats" / "c.png")
    assert main(["data", "check", str(pairs), "--class-folders"]) == 0
    assert "3 pairs, 3 kept" in capsys.readouterr().out


def test_a_split_of_the_data_is_told(pairs: Path, capsys: Capture) -> None:
    (pairs / "train").mkdir()
    (pairs / "val").mkdir()
    for name, split in (("a", "train"), ("b", "val"), ("c", "train")):
        for path in pairs.glob(f"{name}.*"):
            path.rename(pairs / split / path.name)
    assert main(["data", "check", str(pairs)]) == 0
    assert "held out, as the dataset is split: 1 of the 2 pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--min-caption-chars", "100", "caption too short"),
        ("--language", "de", "caption in another language"),
        ("--min-aspect-ratio", "1.5", "picture too narrow"),
        ("--max-aspect-ratio", "0.9", "picture too wide"),
        ("--min-image-side", "33", "picture too small"),
        ("--max-image-pixels", "1000", "too many pixels"),
    ],
)
def test_filters_leave_out(pairs: Path, capsys: Capture, option: str, value: str, reason: str) -> None:
    (pairs / "a.txt").write_text("two children swim in the warm sea near the old harbour")
    (pairs / "b.txt").write_text("a woman rides her bicycle through the rain")
    assert main(["data", "check", str(pairs), option, value]) == 2
    told = capsys.readouterr()
    assert f"left out, {reason}: 2" in told.out
    assert told.err.count("\n") == 1
    assert f"none of 3 pairs is left (2 {reason}, 1 no caption)" in told.err


def test_boilerplate_is_left_out_unless_it_is_kept(pairs: Path, capsys: Capture) -> None:
    (pairs / "a.txt").write_text("IMG_1234.jpg")
    assert main(["data", "check", str(pairs)]) == 0
    assert "left out, boilerplate caption: 1" in capsys.readouterr().out
    assert main(["data", "check", str(pairs), "--boilerplate", "false"]) == 0
    assert "left out, boilerplate" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "absent"], "nothing at 'absent'"),
        (["check", "."], "no picture"),
        (["check"], "no PATH given"),
        (["chek", "x"], "chek"),
        (["check", ".", "--min-image-side", "0"], "min_image_side 0"),
        (["check", ".", "--language", "english"], ""),
    ],
)
def test_what_is_asked_wrongly_is_one_line(pairs: Path, capsys: Capture, arguments: list[str], message: str) -> None:
    assert main(["data", *arguments]) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert message in told.err
    assert list(Path().iterdir()) == []


def test_sheet_that_cannot_be_written(pairs: Path, capsys: Capture) -> None:
    Path("file").write_text("")
    assert main(["data", "check", str(pairs), "--out", "file/sheet.png"]) == 2
    assert "cannot write file/sheet.png" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
from trencadis.cli import main
assert main(["data", "check", "--help"]) == 0
assert not {"torch", "numpy", "PIL"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--min-image-side" in done.stdout
