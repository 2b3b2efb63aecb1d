"""The same training on 1, 2 or 4 processes."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.groups import Command, Work, together
from tests.training.runs import weights
from trencadis.config import DataConfig
from trencadis.recipes import PAPER_DESIGN
from trencadis.run_directory import RunDirectory
from trencadis.training.known_pairs import read_pairs

COUNTS = [2, pytest.param(4, marks=pytest.mark.slow)]
SMALL = {"batch_size": 8}
PAPER = {"optimizer": {"muon": False}, "model": {"attention": "sparse", "design": asdict(PAPER_DESIGN)}}
ADVERSARIAL = {"adversarial": 0.1, "adversarial_start": 0.2, "discriminator_layers": 2}
NULL_BIASES = ("qkv.bias", "query_key_value.bias")
STAGES: dict[str, dict[str, Any]] = {
    "transformer": {"stage": "transformer", "settings": {**SMALL, "microbatches": 4, "token_noise": 0.1}},
    "ranker": {"stage": "ranker", "settings": SMALL},
    "image": {"stage": "image", "settings": {**SMALL, "revive_below": 0.5}},
    "moving-codebook": {"stage": "image", "recipe": "tiny-vqvae", "settings": SMALL},
    "adversarial": {"stage": "image", "recipe": "tiny-vqgan", "settings": {**SMALL, "losses": ADVERSARIAL}},
    "entropy": {"stage": "image", "recipe": "tiny-ibq", "settings": SMALL},
    "decoder": {"stage": "decoder", "settings": {**SMALL, "steps": 50, "losses": ADVERSARIAL}},
}


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run")
    read_pairs(DataConfig(path=str(shapes)), 0, RunDirectory(path))
    return path


def assert_close(expected: dict[str, Tensor], found: dict[str, Tensor], within: float) -> None:
    """Compare weights, averages, what a stage keeps besides, and the last update's metrics."""
    assert expected.keys() == found.keys()
    distances = {name: float((found[name].double() - own.double()).abs().max()) for name, own in expected.items()}
    assert {name: distance for name, distance in distances.items() if not distance <= within} == {}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", STAGES)
def test_fifty_updates_give_the_same_weights(
    name: str, count: int, run: Path, shapes: Path, tmp_path: Path, without_type_checks: None
) -> None:
    # In float64: an optimizer takes the sign of a gradient that is rounding alone for a direction.
    work = Work(run, shapes, **STAGES[name], is_wide=True)
    assert_close(separately(work), together(count, work, tmp_path / "together"), 1e-6)


@pytest.mark.parametrize(("stage", "settings"), [("transformer", PAPER), ("ranker", {}), ("image", {})])
def test_in_float32_they_are_the_same_but_for_rounding(
    stage: str, settings: dict[str, Any], run: Path, shapes: Path, tmp_path: Path, without_type_checks: None
) -> None:
    work = Work(run, shapes, stage, settings={**SMALL, **settings})
    expected, found = separately(work), together(2, work, tmp_path / "together")
    # A bias of keys has no effect, so that its gradient is rounding and nothing else. A wrong gradient would move other
    # weights by a hundredth and more.
    compared = [name for name in expected if not name.endswith(NULL_BIASES) and name.startswith(("model/", "ema/"))]
    assert_close({name: expected[name] for name in compared}, {name: found[name] for name in compared}, 1e-3)


def separately(work: Work) -> dict[str, Tensor]:
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.MonkeyPatch.context() as patch:
            if work.is_wide:
                patch.setattr(Tensor, "float", Tensor.double)
            return work.trained()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("counts", [(2, 1), (1, 2), pytest.param((2, 4), marks=pytest.mark.slow)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(
    counts: tuple[int, int], run: Path, shapes: Path, tmp_path: Path, without_type_checks: None
) -> None:
    work = Work(run, shapes, "ranker", settings=SMALL, is_wide=True)
    expected, found = separately(work), dict[str, Tensor]()
    for count, to_step in zip(counts, (20, 50), strict=True):
        part = replace(work, to_step=to_step, checkpoints=tmp_path / "checkpoints")
        found = separately(part) if count == 1 else together(count, part, tmp_path / str(to_step))
    assert_close(expected, found, 1e-6)


def arguments(data: Path, out: Path, *, image_steps: int = 4) -> list[str]:
    steps = {"image.steps": image_steps, "transformer.steps": 4, "ranker.steps": 4, "decoder.steps": 4}
    settings = {**steps, "ranker.batch_size": 8, "recipe": "tiny", "threads": 1, "device": "cpu"}
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return ["train", str(data), "--out", str(out), *options]


@pytest.mark.timeout(600)
def test_a_run_whose_processes_are_killed_ends_as_an_unbroken_one(shapes: Path, tmp_path: Path) -> None:
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    assert [code for code, _ in Command(arguments(shapes, unbroken)).run(2, tmp_path / "0")] == [0, 0]
    for number, stage in enumerate(("image", "decoder", "transformer", "ranker"), 1):
        (code, said), (other_code, _) = Command(arguments(shapes, killed), stage).run(2, tmp_path / str(number))
        assert (code, other_code) == (1, -9), stage
        assert said.splitlines()[-1].startswith("trencadis: error: process 1 of 2 ends because another one"), said
        assert "Traceback" not in said
        assert not (killed / "model" / "config.json").exists()
    ends = Command(arguments(shapes, killed)).run(2, tmp_path / "5")
    assert [code for code, _ in ends] == [0, 0]
    ours, theirs = weights(killed), weights(unbroken)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    lines = [(run / "log.jsonl").read_text().splitlines() for run in (killed, unbroken)]
    assert len(lines[0]) == len(lines[1])
    assert sorted(path.name for path in killed.iterdir()) == sorted(path.name for path in unbroken.iterdir())


@pytest.mark.slow
def test_torchrun_ends_the_others_when_one_is_killed(shapes: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "trencadis"]
    command = [*torchrun, *arguments(shapes, run.path, image_steps=1_000_000)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not run.log.exists():
            assert process.poll() is None
            time.sleep(0.1)
        (first,) = re.findall(r"process (\d+)", run.holder.read_text())
        os.kill(int(first), signal.SIGKILL)
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    lines = [line for line in said.splitlines() if line.startswith("trencadis: ")]
    assert len(lines) == 1, said
    assert lines[0].startswith("trencadis: error: process 2 of 2 ends because another one")


def test_a_batch_that_does_not_divide_is_refused_by_one_process_in_one_line(shapes: Path, tmp_path: Path) -> None:
    options = [*arguments(shapes, tmp_path / "run"), "--image.batch_size", "9"]
    ends = Command(options).run(2, tmp_path / "said")
    expected = (
        "trencadis: error: image.batch_size 9 on 2 processes; expected a number of processes that divides it; "
        "start torchrun with another --nproc-per-node or --nnodes"
    )
    assert [code for code, _ in ends] == [2, 1]
    assert ends[0][1].splitlines()[-1] == expected
    assert ends[1][1] == ""
    assert not (tmp_path / "run").exists()
