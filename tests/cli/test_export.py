"""`trencadis export`, and rankings on the command line, on a tiny model."""

import json
from pathlib import Path

import pytest

from tests.shapes import draw_shape
from trencadis import DALLE
from trencadis.cli import main


def test_an_exported_model_is_smaller_and_draws_as_it_is_told(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small"
    command = ["export", str(tiny_model), "--out", str(out), "--name", "tiny"]
    assert main([*command, "--top-p", "0.8", "--ranking", "both", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    sizes = [(path / "transformer" / "model.safetensors").stat().st_size for path in (tiny_model, out)]
    assert sizes[1] < 0.6 * sizes[0]
    assert written["facts"]["name"] == "tiny"
    model, before = DALLE.from_pretrained(out), DALLE.from_pretrained(tiny_model)
    assert (model.weights, model.sampling.ranking, model.sampling.top_p) == ("bfloat16", "both", 0.8)
    assert model.sampling.guidance_scale == before.sampling.guidance_scale
    draw = ["generate", "a ring", "--model", str(out), "--candidates", "3", "--keep", "1", "--seed", "1"]
    assert main([*draw, "--out", str(tmp_path / "drawn"), "--json"]) == 0
    (picture,) = json.loads(capsys.readouterr().out)["pictures"]
    assert (picture["weights"], picture["ranking"], picture["model"]) == ("bfloat16", "both", "tiny")
    assert main(["verify", picture["path"], "--model", str(out)]) == 0
    assert "verified" in capsys.readouterr().out


def test_a_folder_that_holds_something_is_not_replaced(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "note.txt").write_text("mine")
    assert main(["export", str(tiny_model), "--out", str(tmp_path)]) == 2
    assert "expected an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_pictures_are_ranked_by_likelihood_too(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        draw_shape(seed, 32)[0].save(path)
    orders = {}
    for ranking in ("clip", "likelihood", "both"):
        assert main(["rank", "a ring", *map(str, paths), "--model", str(tiny_model), "--by", ranking, "--json"]) == 0
        orders[ranking] = json.loads(capsys.readouterr().out)["order"]
    scores = {name: {entry["path"]: entry["score"] for entry in order} for name, order in orders.items()}
    assert len({tuple(sorted(each.items())) for each in scores.values()}) == 3
    assert sum(scores["both"].values()) == pytest.approx(0, abs=1e-5)
