"""Whole runs: what they leave behind, and that a killed one ends as if it had not been."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import TINY_STEPS
from tests.shapes import draw_shape
from trencadis.config import DataConfig
from trencadis.errors import ConfigError, DataError, StorageError, UserError
from trencadis.training.run import train
from trencadis.training.run_pairs import read_pairs

TRAIN = "import sys; from trencadis.cli import main; sys.exit(main(sys.argv[1:]))"


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a run's model."""
    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted((run / "model").rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def log_lines(run: Path) -> int:
    path = run / "log.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 50
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    tokenizers = [(run / "model" / "text" / "tokenizer.json").read_bytes() for run in (one, other)]
    assert tokenizers[0] == tokenizers[1]


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
    assert drawings[-1] == "transformer-00000040.png"
    assert len(drawings) > 3
    assert (tiny_run / "tensorboard").is_dir()
    report = (tiny_run / "report.html").read_text()
    assert "data:image/png;base64" in report


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
def test_a_run_killed_at_random_moments_ends_with_the_same_weights(
    tmp_path: Path, tiny_run: Path, shapes: Path
) -> None:
    out = tmp_path / "killed"
    plan = tmp_path / "plan.yaml"
    settings = yaml.safe_load((tiny_run / "config.yaml").read_text())
    plan.write_text(yaml.safe_dump({**settings, "save_every_s": 0.2}))
    command = [sys.executable, "-c", TRAIN, "train", "--out", str(out), "--config", str(plan)]
    chance = random.Random()
    # Before anything is trained, and once the log has some random numbers of lines: a whole run has about 150.
    moments = [0, *sorted(chance.sample(range(1, 90), 4))]
    for lines in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while lines and log_lines(out) < lines:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1 if lines else 3))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert_same_weights(out, tiny_run)
    steps = [
        (line["stage"], line["step"], tuple(sorted(line.keys() - {"elapsed_s"})))
        for line in map(json.loads, (out / "log.jsonl").read_text().splitlines())
    ]
    assert len(steps) == len(set(steps)), "a step is logged once, however often it was repeated"


def test_a_finished_run_started_again_changes_nothing(tmp_path: Path, tiny_run: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(tiny_run, again)
    train(again, {})
    assert_same_weights(again, tiny_run)


def test_data_that_changed_under_a_run_is_refused(tmp_path: Path, shapes: Path) -> None:
    data = tmp_path / "shapes"
    shutil.copytree(shapes, data)
    settings = {"data": {"path": str(data)}, "threads": 1, **{name: {"steps": 1} for name in TINY_STEPS}}
    train(tmp_path / "run", settings, recipe="tiny")
    image, caption = draw_shape(999, 32)
    image.save(data / "added.png")
    (data / "added.txt").write_text(caption)
    with pytest.raises(DataError, match="has changed"):
        train(tmp_path / "run", settings, recipe="tiny")


@pytest.mark.parametrize(("count", "least", "most"), [(60, 1, 14), (500, 18, 48), (5000, 60, 150)])
def test_few_pairs_hold_back_a_larger_share(count: int, least: int, most: int, tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    image, _ = draw_shape(1, 32)
    image.save(source / "same.png")
    rows = [json.dumps({"file_name": f"{index}.png", "caption": f"drawing {index}"}) for index in range(count)]
    (source / "metadata.jsonl").write_text("\n".join(rows))
    for index in range(count):
        (source / f"{index}.png").hardlink_to(source / "same.png")
    pairs = read_pairs(DataConfig(path=str(source)), 0, tmp_path, resumed=False)
    assert pairs.kept == count
    assert least <= len(pairs.validation) <= most
    assert len(pairs.train) + len(pairs.validation) == count


def test_options_that_contradict_the_plan_are_refused(tiny_run: Path, shapes: Path) -> None:
    with pytest.raises(ConfigError, match=r"another transformer\.steps"):
        train(tiny_run, {"transformer": {"steps": 41}})
    with pytest.raises(ConfigError, match="another hours"):
        train(tiny_run, {}, hours=7.0)


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


def test_a_full_disk_stops_training_and_leaves_the_last_checkpoint(
    tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"data": {"path": str(shapes)}, "threads": 1, "save_every_s": 0.0}
    settings |= {name: {**options, "steps": 6} for name, options in TINY_STEPS.items()}
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
    monkeypatch.undo()
    train(tmp_path / "run", settings, recipe="tiny")
    train(tmp_path / "other", settings, recipe="tiny")
    assert_same_weights(tmp_path / "run", tmp_path / "other")
