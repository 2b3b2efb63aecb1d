"""Whole runs: what they leave behind, and that a killed one ends as if it had not been."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import TINY_STEPS, TINY_VALIDATIONS
from tests.shapes import draw_shape
from tests.training.runs import Start, assert_same_weights, content, log_of, start_and_kill
from trencadis.config import DataConfig
from trencadis.data import Curated, KeptPair
from trencadis.errors import ConfigError, DataError, StorageError, UserError
from trencadis.run_directory import RunDirectory
from trencadis.training.known_pairs import read_pairs
from trencadis.training.run import train


def test_a_run_leaves_what_it_promises(tiny_run: Path) -> None:
    config = yaml.safe_load((tiny_run / "config.yaml").read_text())
    assert config["transformer"]["steps"] == TINY_STEPS["transformer"]["steps"]
    log = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in log} == {"image", "transformer", "ranker"}
    assert {"validation_psnr", "code_use", "code_perplexity"} <= set().union(*log)
    assert {"validation_bits_per_image_token", "validation_accuracy"} <= set().union(*log)
    for stage, settings in TINY_STEPS.items():
        assert max(line["step"] for line in log if line["stage"] == stage) == settings["steps"]
        assert (tiny_run / "checkpoints" / stage / "latest").read_text().strip() == f"step-{settings['steps']:08d}"
    drawings = sorted(path.name for path in (tiny_run / "samples").glob("transformer-*.png"))
    assert drawings[-1] == "transformer-00000024.png"
    assert len(drawings) == TINY_VALIDATIONS
    assert (tiny_run / "tensorboard").is_dir()
    report = (tiny_run / "report.html").read_text()
    assert "data:image/png;base64" in report
    assert (tiny_run / "samples" / "training-pictures.png").is_file()
    assert 'alt="What training sees"' in report


def test_each_stage_learns(tiny_run: Path) -> None:
    log = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]

    def values(stage: str, metric: str) -> list[float]:
        return [line[metric] for line in log if line["stage"] == stage and metric in line]

    psnr = values("image", "validation_psnr")
    assert psnr[-1] > psnr[0] + 1
    bits = values("transformer", "validation_bits_per_image_token")
    assert bits[-1] < bits[0]
    ranker = values("ranker", "loss")
    assert ranker[-1] < ranker[0]


@pytest.mark.timeout(200)
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path, shapes: Path) -> None:
    chance = random.Random(20)
    drawn = [(chance.choice(["update", "log", "save"]), stage, chance.randint(1, 2)) for stage in TINY_STEPS]
    moments = [("plan", "", 1), drawn[0], ("report", "", 1), drawn[1], ("picture", "", 1), drawn[2]]
    print("killed after", moments)
    settings = {"data": {"path": str(shapes)}, "threads": 1, "image": {"steps": 7}, "transformer": {"steps": 7}}
    settings["ranker"] = {"steps": 6, "batch_size": 8}
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    ends = [(unbroken, None), *((killed, moment) for moment in moments), (killed, None)]
    start_and_kill([Start(out, settings, {"recipe": "tiny"}, moment) for out, moment in ends])
    assert log_of(killed) == log_of(unbroken)
    assert_same_weights(killed, unbroken)
    for path in (unbroken / "samples").iterdir():
        assert path.read_bytes() == (killed / "samples" / path.name).read_bytes()
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", (run / "report.html").read_text())[:15] for run in (killed, unbroken)]
    assert [rows[0][n : n + 3] for n in (0, 4, 8, 12)] == [rows[1][n : n + 3] for n in (0, 4, 8, 12)]
    assert rows[0][5::4] == ["done"] * 3
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for stage in TINY_STEPS:
        curves = []
        for run in (killed, unbroken):
            accumulator = event_accumulator.EventAccumulator(str(run / "tensorboard" / stage))
            accumulator.Reload()
            tags = accumulator.Tags()["scalars"]
            curves.append({tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags})
        assert curves[0] == curves[1]
        assert len(curves[0]["loss"]) == 3


def test_a_finished_run_started_again_changes_no_file(tmp_path: Path, tiny_run: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(tiny_run, again)
    before = content(again)
    train(again, {})
    assert content(again) == before


@pytest.mark.usefixtures("without_type_checks")
def test_a_stage_whose_part_is_there_is_not_entered(
    tmp_path: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its perceptual network may have gone, and its checkpoints too."""
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", TINY_VALIDATIONS)
    out = tmp_path / "out"
    shutil.copytree(tiny_run, out)
    for path in ("model/ranker", "checkpoints"):
        shutil.rmtree(out / path)
    (out / "model" / "config.json").unlink()
    config = yaml.safe_load((out / "config.yaml").read_text())
    config["image"]["losses"] |= {"perceptual": 1.0, "perceptual_network": str(tmp_path / "gone.safetensors")}
    (out / "config.yaml").write_text(yaml.safe_dump(config))
    train(out, {})
    assert log_of(out) == log_of(tiny_run)
    assert_same_weights(out, tiny_run)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["ranker"]


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_torch_is_left_as_it_was(tmp_path: Path, tiny_run: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(tiny_run, out)
    (out / "model" / "config.json").unlink()
    shutil.rmtree(out / "model" / "ranker")
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    train(out, {})
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)


ELSEWHERE = """
import json, os, sys
del os.sched_getaffinity
sys.modules["fcntl"] = None
from pathlib import Path
from trencadis.training import loop, run
loop.VALIDATIONS = 1
run.train(Path(sys.argv[1]), json.loads(sys.argv[2]), recipe="tiny")
"""


def test_training_needs_nothing_of_linux(tmp_path: Path, shapes: Path) -> None:
    steps = {name: {"steps": 1, "batch_size": 8} for name in TINY_STEPS}
    settings = json.dumps({"data": {"path": str(shapes)}, **steps})
    subprocess.run([sys.executable, "-c", ELSEWHERE, str(tmp_path / "run"), settings], check=True)
    assert (tmp_path / "run" / "model" / "config.json").exists()


def test_the_loser_of_a_race_for_a_new_run_leaves_it_alone(tmp_path: Path, shapes: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    with run.lock():
        run.pairs.write_text("what the first process has read so far")
        with pytest.raises(ConfigError, match="is being trained by process"):
            train(run.path, {"data": {"path": str(shapes)}}, recipe="tiny")
        assert run.pairs.read_text() == "what the first process has read so far"


def unfinished(run: Path, tiny_run: Path) -> Path:
    """Copy a run and take away its last stage."""
    shutil.copytree(tiny_run, run)
    (run / "model" / "config.json").unlink()
    shutil.rmtree(run / "model" / "ranker")
    return run


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_a_run_goes_on_with_its_pairs_where_the_data_has_moved_and_grown(
    tmp_path: Path, shapes: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", TINY_VALIDATIONS)
    data, out = tmp_path / "moved", unfinished(tmp_path / "run", tiny_run)
    shutil.copytree(shapes, data)
    image, caption = draw_shape(999, 32)
    for name in ("000.png", "added.png"):
        image.save(data / name)
    (data / "added.txt").write_text(caption)
    said: list[str] = []
    train(out, {"data": {"path": str(data)}}, say=said.append)
    assert [line for line in said if "since the run was planned: 1;" in line]
    assert log_of(out) == log_of(tiny_run)
    assert_same_weights(out, tiny_run)
    assert yaml.safe_load((out / "config.yaml").read_text())["data"]["path"] == str(data)


def test_data_that_changed_under_a_run_is_refused(tmp_path: Path, shapes: Path, tiny_run: Path) -> None:
    data, out = tmp_path / "shapes", unfinished(tmp_path / "run", tiny_run)
    shutil.copytree(shapes, data)
    (data / "00004.txt").write_text("another caption")
    before = content(out)
    with pytest.raises(DataError, match=r"1 of the run's 60 pairs .*00004\.png \(changed\)"):
        train(out, {"data": {"path": str(data)}})
    assert content(out) == before


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_a_run_inside_its_data_is_resumed(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its samples are pictures too."""
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", 3)
    data = tmp_path / "pictures"
    shutil.copytree(shapes, data)
    steps = {name: {"steps": 3, "batch_size": 8} for name in TINY_STEPS}
    settings = {"data": {"path": str(data)}, "threads": 1, **steps}
    train(data / "run", settings, recipe="tiny")
    (data / "run" / "model" / "config.json").unlink()
    shutil.rmtree(data / "run" / "model" / "ranker")
    said: list[str] = []
    train(data / "run", settings, recipe="tiny", say=said.append)
    assert (data / "run" / "model" / "config.json").exists()


@pytest.mark.parametrize(("count", "least", "most"), [(60, 1, 14), (500, 18, 48), (5000, 60, 150)])
def test_few_pairs_hold_back_a_larger_share(
    count: int, least: int, most: int, tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tuple(KeptPair(index, f"{index}.png", (f"drawing {index}",), 1.0, (8, 8)) for index in range(count))
    monkeypatch.setattr("trencadis.training.known_pairs.examine", lambda *_, **__: Curated(kept, (), "fingerprint"))
    pairs = read_pairs(DataConfig(path=str(shapes)), 0, RunDirectory(tmp_path))
    assert pairs.kept == count
    assert least <= len(pairs.validation) <= most
    assert len(pairs.train) + len(pairs.validation) == count


def test_options_that_contradict_the_plan_are_refused(tmp_path: Path, tiny_run: Path) -> None:
    for steps in (23, 25):
        with pytest.raises(ConfigError, match=r"another transformer\.steps"):
            train(unfinished(tmp_path / f"run-{steps}", tiny_run), {"transformer": {"steps": steps}})
    with pytest.raises(ConfigError, match="another hours"):
        train(tmp_path / "run-23", {}, hours=7.0)
    for settings in ({"transformer": {"steps": 23}}, {"transformer": {"batch_size": 3}}, {"seed": 5}):
        with pytest.raises(ConfigError, match="than the run was planned with"):
            train(tiny_run, settings)


def test_nothing_is_left_where_training_could_not_begin(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "run"
    with pytest.raises(DataError):
        train(out, {"data": {"path": str(tmp_path / "empty")}}, recipe="tiny")
    assert not out.exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path, shapes: Path) -> None:
    out = tmp_path / "letters"
    out.mkdir()
    (out / "letter.txt").write_text("dear")
    with pytest.raises(StorageError, match=r"letter\.txt"):
        train(out, {"data": {"path": str(shapes)}}, recipe="tiny")
    assert (out / "letter.txt").read_text() == "dear"


@pytest.mark.parametrize(
    "overrides",
    [
        {"transformer": {"model": {"grid_size": [3, 3]}}},
        {"transformer": {"model": {"text_len": 7}}},
        {"image": {"no_such_setting": 1}},
        {"image": {"steps": "many"}},
        {"image": {"model": {"image_size": [15, 16]}}},
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, shapes: Path, overrides: dict[str, object]) -> None:
    with pytest.raises(UserError):
        train(tmp_path / "run", {"data": {"path": str(shapes)}, **overrides}, recipe="tiny")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_what_a_kill_left_half_written_is_swept_and_does_not_stop_the_next_start(tmp_path: Path, shapes: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / ".image.0123abcd.partial").mkdir()
    (tmp_path / ".image.0123abcd.partial" / "model.safetensors").write_text("half")
    out.mkdir()
    (out / ".config.yaml.0123abcd.partial").write_text("half")
    settings = {"data": {"path": str(shapes)}, "threads": 1, **{name: {"steps": 1} for name in TINY_STEPS}}
    train(out, settings, recipe="tiny")
    assert not list(out.glob(".*.partial"))
    shutil.move(tmp_path / ".image.0123abcd.partial", out / "model")
    train(out, settings, recipe="tiny")
    assert not list(out.rglob("*.partial"))


@pytest.mark.usefixtures("without_type_checks")
def test_a_full_disk_stops_training_and_leaves_the_last_checkpoint(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data": {"path": str(shapes)}, "threads": 1, "save_every_s": 0.0}
    settings |= {name: {"batch_size": 8, "steps": 3} for name in TINY_STEPS}
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", 1)
    monkeypatch.setattr("trencadis.training.loop.SAVING_SHARE", 1e9)  # after every update
    fsync, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise OSError(28, os.strerror(28))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        train(tmp_path / "run", settings, recipe="tiny")
    monkeypatch.setattr(os, "fsync", fsync)
    assert (tmp_path / "run" / "checkpoints" / "image" / "latest").read_text() == "step-00000002\n"
    train(tmp_path / "run", settings, recipe="tiny")
    train(tmp_path / "other", settings, recipe="tiny")
    assert_same_weights(tmp_path / "run", tmp_path / "other")
    assert log_of(tmp_path / "run") == log_of(tmp_path / "other")
