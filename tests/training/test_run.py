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
from safetensors.torch import load_file

from tests.conftest import TINY_STEPS, TINY_VALIDATIONS
from tests.shapes import draw_shape
from trencadis.config import DataConfig
from trencadis.data import Curated, KeptPair
from trencadis.errors import ConfigError, DataError, StorageError, UserError
from trencadis.run_directory import RunDirectory
from trencadis.training.run import train
from trencadis.training.run_pairs import read_pairs


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a run's model."""
    return {
        f"{path.parent.name}/{name}": tensor
        for path in sorted((run / "model").rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def log_of(run: Path) -> list[dict[str, object]]:
    """The lines of a run's log without their times, which never go back."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    times = [line.pop("elapsed_s") for line in lines]
    assert times == sorted(times)
    return lines


def content(run: Path) -> dict[Path, tuple[bytes, int]]:
    """Every file's bytes and the time of its last change."""
    paths = (path for path in run.rglob("*") if path.is_file())
    return {path.relative_to(run): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


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


# Trains into each of the directories given, in a process of its own that kills itself at the moment that goes with it:
# after so many calls of a function, counted in a stage where one is named.
KILLING = """
import itertools, json, os, signal, sys
from pathlib import Path
import torch._dynamo, torch.utils.tensorboard  # once for all processes
from trencadis.run_log import RunLog
from trencadis.training import loop, run
from trencadis.training.trainer import Trainer

settings, starts = json.loads(sys.argv[1]), json.loads(sys.argv[2])
# Several updates a line, and a checkpoint every second update, between the lines too.
loop.LOG_LINES, loop.VALIDATIONS = 3, 2
updates = itertools.count(1)
loop.SavingTimes.is_due = lambda self: next(updates) % 2 == 0
FUNCTIONS = {"update": (Trainer, "update"), "log": (RunLog, "append"), "save": (Trainer, "save"),
             "picture": (loop, "write_picture"), "report": (run, "write_report"), "plan": (run, "write_config")}

def kill_after(name, stage, calls):
    owner, attribute = FUNCTIONS[name]
    function, left = getattr(owner, attribute), itertools.count(calls - 1, -1)
    def call(*args, **kwargs):
        result = function(*args, **kwargs)
        of = args[0].stage.name if isinstance(args[0], Trainer) else args[1] if isinstance(args[0], RunLog) else stage
        if of == stage and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, attribute, call)

for out, moment in starts:
    process = os.fork()
    if process == 0:
        if moment is not None:
            kill_after(*moment)
        run.train(Path(out), settings, recipe="tiny")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == (0 if moment is None else -signal.SIGKILL), moment
"""


@pytest.mark.timeout(200)
def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path, shapes: Path) -> None:
    chance = random.Random(20)
    drawn = [(chance.choice(["update", "log", "save"]), stage, chance.randint(1, 2)) for stage in TINY_STEPS]
    moments = [("plan", "", 1), drawn[0], ("report", "", 1), drawn[1], ("picture", "", 1), drawn[2]]
    print("killed after", moments)
    settings = {"data": {"path": str(shapes)}, "threads": 1, "image": {"steps": 7}, "transformer": {"steps": 7}}
    settings["ranker"] = {"steps": 6, "batch_size": 8}
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    starts = [(str(unbroken), None), *((str(killed), moment) for moment in moments), (str(killed), None)]
    subprocess.run([sys.executable, "-c", KILLING, json.dumps(settings), json.dumps(starts)], check=True)
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


@pytest.mark.usefixtures("one_validation", "without_type_checks")
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
def test_few_pairs_hold_back_a_larger_share(
    count: int, least: int, most: int, tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tuple(KeptPair(index, f"{index}.png", (f"drawing {index}",), 1.0, (8, 8)) for index in range(count))
    monkeypatch.setattr("trencadis.training.run_pairs.curate", lambda *_, **__: Curated(kept, (), "fingerprint"))
    pairs = read_pairs(DataConfig(path=str(shapes)), 0, RunDirectory(tmp_path), resumed=False)
    assert pairs.kept == count
    assert least <= len(pairs.validation) <= most
    assert len(pairs.train) + len(pairs.validation) == count


def test_options_that_contradict_the_plan_are_refused(tiny_run: Path, shapes: Path) -> None:
    with pytest.raises(ConfigError, match=r"another transformer\.steps"):
        train(tiny_run, {"transformer": {"steps": 25}})
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
