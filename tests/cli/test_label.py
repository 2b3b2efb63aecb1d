"""Which caption fits a picture, and how surprising its tokens are."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trencadis.cli import main
from trencadis.data import read_picture
from trencadis.pipeline import DALLE

CAPTIONS = ["a blue car", "a red heart", "a yellow banana"]
pytestmark = pytest.mark.usefixtures("without_type_checks")


@pytest.fixture(scope="module")
def shipped() -> DALLE:
    return DALLE.from_pretrained("emoji")


@pytest.fixture(scope="module")
def hearts(shipped: DALLE, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (path,) = shipped.generate("a red heart", candidates=1, seed=7).save(tmp_path_factory.mktemp("drawn"))
    return path


def label(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert main(["label", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_caption_that_fits_comes_first(shipped: DALLE, hearts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = label(capsys, hearts, *CAPTIONS)
    rows = found["captions"]
    assert rows[0]["caption"] == "a red heart"
    assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)
    scores = shipped.score([read_picture(hearts)], CAPTIONS)
    assert found["log_probability_without_caption"] == float(scores.without_caption[0])
    by_caption = {row["caption"]: row for row in rows}
    total = math.fsum(math.exp(row["log_probability"] - rows[0]["log_probability"]) for row in rows)
    for index, caption in enumerate(CAPTIONS):
        row = by_caption[caption]
        assert row["log_probability"] == float(scores.log_probabilities[0, index])
        assert row["added"] == pytest.approx(row["log_probability"] - found["log_probability_without_caption"])
        odds = math.exp(row["log_probability"] - rows[0]["log_probability"])
        assert row["share"] == pytest.approx(odds / total, abs=1e-12)


def test_the_lines_say_shares_and_what_captions_add(hearts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label", str(hearts), "a red heart", ""]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["share", "ln", "p", "added", "caption"]
    assert printed[1].endswith("   a red heart")
    assert float(printed[1].split()[3]) > 1
    assert printed[2].split()[3:] == ["+0.00", "(none)"]
    assert printed[3].split() == [printed[2].split()[2], "without", "a", "caption"]


def test_a_picture_of_any_size_is_read(hearts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Image.open(hearts) as picture:
        picture.resize((301, 200)).convert("P").save(tmp_path / "wide.gif")
    assert {row["caption"] for row in label(capsys, tmp_path / "wide.gif", *CAPTIONS)["captions"]} == set(CAPTIONS)


def test_a_heat_map_shows_the_bits_of_the_best_caption(
    shipped: DALLE, hearts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "new" / "heat.png"
    assert label(capsys, hearts, *CAPTIONS, "--heat-map", sheet)["heat_map"] == str(sheet)
    pixels = np.asarray(read_picture(sheet)).astype(int)
    surprise = shipped.surprise(read_picture(hearts), "a red heart")
    side = 288 // len(surprise.bits)
    for panel, bits in enumerate((surprise.bits, surprise.bits_without_caption), start=1):
        left = 8 + panel * (288 + 8)
        middles = pixels[8 + side // 2 : 8 + 288 : side, left + side // 2 : left + 288 : side].sum(2)
        # The ramp grows lighter with every step, so the order of the bits is that of the lightness.
        ranks = [
            np.argsort(np.argsort(values.flatten(), kind="stable"), kind="stable") for values in (bits.numpy(), middles)
        ]
        assert np.asarray(np.corrcoef(np.stack(ranks)))[0, 1] > 0.99
    before = sheet.read_bytes()
    label(capsys, hearts, *CAPTIONS, "--heat-map", sheet)
    assert sheet.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["absent.png", "a ring"], "IMAGE absent.png; expected a file that exists"),
        (["notes.txt", "a ring"], "notes.txt"),
        (["a.png"], "no CAPTION given"),
        (["a.png", "x" * 5000], "a prompt of 5,000 characters"),
        (["a.png", "a ring", "--heat-map", "notes.txt"], "--heat-map notes.txt; expected a sheet of trencadis"),
    ],
)
def test_what_cannot_be_labelled_is_one_line(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (16, 16)).save("a.png")
    Path("notes.txt").write_text("a ring")
    assert main(["label", *arguments]) == 2
    printed = capsys.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert line in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "notes.txt"]
    assert Path("notes.txt").read_text() == "a ring"
