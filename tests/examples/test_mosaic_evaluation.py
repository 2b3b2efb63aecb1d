"""The measurement: figures follow from drawings by hand, a stopped evaluation goes on, faults are one line."""

import json
from collections import Counter
from pathlib import Path

import pytest
from mosaic import measures
from mosaic.claims import CLAIMS, Case, cases
from mosaic.commands import main
from mosaic.draw import draw
from mosaic.drawings import Artist, Drawings, details
from mosaic.judge import read
from mosaic.measures import chosen_right, entropy, variety
from mosaic.report import confusions
from scipy import stats

from trencadis import DALLE

# The tiny model has room for 16 tokens of text.
pytestmark = pytest.mark.filterwarnings("ignore::trencadis.text.tokenizer.CaptionCutWarning")


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> DALLE:
    return DALLE.from_pretrained(tiny_model)


def drawings(right: list[bool], clip: list[float], likelihood: list[float]) -> Drawings:
    verdicts = [{"word": each, "colour": True} for each in right]
    return Drawings([[0]] * len(right), {"clip": clip, "likelihood": likelihood}, verdicts, [{}] * len(right))


def test_best_of_n_is_the_mean_over_disjoint_runs() -> None:
    one = drawings([True, False, False, True], [1.0, 2.0, 3.0, 4.0], [9.0, 1.0, 2.0, 1.0])
    assert chosen_right(one, "clip", 1) == 0.5
    assert chosen_right(one, "clip", 2) == 0.5  # the second of the first run, the second of the other
    assert chosen_right(one, "likelihood", 2) == 0.5
    assert chosen_right(one, "any", 2) == 1
    assert chosen_right(one, "clip", 4) == 1
    assert chosen_right(one, "likelihood", 4) == 1
    assert chosen_right(one, "clip", 3) == 0  # the fourth is in no run of three
    assert chosen_right(one, "both", 4) == 1


def test_both_standardises_within_a_run() -> None:
    one = drawings([False, True, False], [0.0, 1.0, 1.1], [0.0, 100.0, 0.0])
    assert chosen_right(one, "clip", 3) == 0
    assert chosen_right(one, "both", 3) == 1


def test_entropy_is_scipys() -> None:
    values = ["a"] * 5 + ["b"] * 2 + ["c"]
    assert entropy(values) == pytest.approx(stats.entropy([5, 2, 1], base=2))
    assert entropy([]) == 0


def test_variety_is_high_for_the_world_itself_and_zero_for_one_picture() -> None:
    own = cases("detail", 6)
    world: dict[str, Drawings] = {}
    same: dict[str, Drawings] = {}
    for case in own:
        shown = measures._real_details(case, 64)
        world[case.name] = Drawings([], {}, [], shown)
        same[case.name] = Drawings([], {}, [], [details(read(draw(case.scene)))] * 64)
    for name in measures.VARIETY:
        of_world, of_same = variety(own, world)[name], variety(own, same)[name]
        assert of_world is not None
        assert of_same is not None
        assert of_world.value == pytest.approx(1)
        assert of_same.value == 0


def test_confusions_are_told_with_their_totals() -> None:
    confused = Counter({("shape", "star", "star"): 8, ("shape", "star", "heart"): 2, ("decade", "1920s", "1920s"): 5})
    assert confusions(confused) == "shape star → heart 2/10"
    assert confusions(Counter({("shape", "star", "star"): 8})) == "none"


def test_an_evaluation_goes_on_where_it_was_and_ends_with_the_same_figures(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", str(tiny_model), "--captions", "1", "--candidates", "2", "--scenes", "3", "--out"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    text = capsys.readouterr().out
    assert "| two things, two colours, never seen | 1 |" in text
    assert "image-to-image" in text
    report = json.loads((tmp_path / "whole" / "evaluation.json").read_text())
    assert {row["claim"] for row in report["shares"]} == set(CLAIMS)
    assert report["judge"]["real"]["share"]["value"] == 1
    kept = sorted((tmp_path / "whole" / "drawings").rglob("*.json"))
    assert len(kept) == len(CLAIMS)

    before = kept[1].read_text()
    kept[1].unlink()
    kept[2].write_text("{")
    drawn: list[str] = []
    once = Artist._drawn

    def noted(artist: Artist, case: Case) -> Drawings:
        drawn.append(case.name)
        return once(artist, case)

    monkeypatch.setattr(Artist, "_drawn", noted)
    assert main([*command, str(tmp_path / "whole")]) == 0
    assert len(drawn) == 2
    assert json.loads(kept[1].read_text())["tokens"] == json.loads(before)["tokens"]
    assert json.loads((tmp_path / "whole" / "evaluation.json").read_text()) == report


def test_image_to_image_keeps_the_upper_half(model: DALLE, tmp_path: Path) -> None:
    from trencadis.data.pixels import to_tensor

    case = cases("change-seen", 1)[0]
    found = Artist(model, candidates=2, folder=tmp_path).draw([case])[case.name]
    real = to_tensor(draw(case.scene).resize(model.image_tokenizer.image_size[::-1], 1))[None]
    rows, columns = model.image_tokenizer.grid_size
    tokens = model.image_tokenizer.encode(real).flatten().tolist()
    for own in found.tokens:
        assert len(own) == rows * columns
        same = [a == b for a, b in zip(own, tokens, strict=True)]
        assert sum(same[: len(same) // 2]) >= len(same) // 2 - 1  # resized once by another filter
    assert found.tokens[0][: rows * columns // 2] == found.tokens[1][: rows * columns // 2]


def test_folders_of_other_models_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    count, word = cases("count-seen", 2), cases("word-unseen", 2)
    draw(count[0].scene).save(tmp_path / f"{count[0].name}.png")
    draw(count[1].scene).save(tmp_path / f"{count[1].name}-1.png")
    draw(word[0].scene).save(tmp_path / f"{count[1].name}-2.jpg", quality=95)
    (tmp_path / word[0].name).mkdir()
    draw(word[0].scene).save(tmp_path / word[0].name / "0000.png")
    assert main(["judge", str(tmp_path), "--captions", "2"]) == 0
    out = capsys.readouterr().out
    assert "| count-seen | 2 | 75 " in out
    assert "| word-unseen | 1 | 100 " in out


def test_the_judge_is_measured_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "--scenes", "5"]) == 0
    assert "| real |  | 100.0 (" in capsys.readouterr().out


def test_faults_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(tmp_path)]) == 2
    assert main(["evaluate", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("mosaic: ") for line in lines)
    assert not (tmp_path / "out").exists()
