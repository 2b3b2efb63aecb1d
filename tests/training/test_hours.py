"""A run of hours on a machine that is slower than it was timed: what is written, said and done with it afterwards."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.training.runs import content
from trencadis.run_directory import RunDirectory
from trencadis.run_log import read_log
from trencadis.training.pace import Pace
from trencadis.training.run import train

pytestmark = pytest.mark.usefixtures("without_type_checks")


def test_a_change_of_the_steps_is_the_new_plan(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", 2)
    monkeypatch.setattr("trencadis.training.timing.VALIDATIONS", 1)
    monkeypatch.setattr("trencadis.training.plan.steps_in", lambda *_: 12)
    asked: list[str] = []

    def changed(pace: Pace, step: int, steps: int) -> int | None:
        asked.append(f"{step} of {steps}")
        return 8 if step == 4 and steps == 12 else None

    monkeypatch.setattr(Pace, "changed", changed)
    run, said = RunDirectory(tmp_path / "run"), list[str]()
    settings: dict[str, Any] = {"data": {"path": str(shapes)}, "threads": 1, "image": {"steps": 4}}
    settings["ranker"] = {"steps": 3, "batch_size": 8}
    config = train(run.path, settings, recipe="tiny", hours=0.001, say=said.append)
    assert asked == [*(f"{step} of 12" for step in range(1, 5)), *(f"{step} of 8" for step in range(5, 8))]
    assert config.transformer.steps == yaml.safe_load(run.config.read_text())["transformer"]["steps"] == 8
    assert {name: budget["steps"] for name, budget in json.loads(run.budgets.read_text()).items()} == {
        "transformer": 12
    }
    planned, choice = (each for each in run.read_choices() if each["what"] == "transformer.steps")
    assert planned["value"] == "12"
    assert (choice["value"], choice["why"]) == ("8", "instead of 12, from step 4: a step takes 0 ms now")
    assert said[-1] == f"transformer.steps 8   {choice['why']}"
    assert max(line["step"] for line in read_log(run) if line["stage"] == "transformer") == 8
    report = run.report.read_text()
    assert "8 of 8" in report
    assert choice["why"] in report
    assert run.is_finished
    before = content(run.path)
    train(run.path, settings, recipe="tiny", hours=0.001)
    assert content(run.path) == before
    train(run.path, {"transformer": {"steps": 14}})
    rates = [line["learning_rate"] for line in read_log(run) if line["stage"] == "transformer" and "loss" in line]
    assert len(rates) == 14
    assert rates[7] == pytest.approx(rates[-1], rel=0.05), "both courses end with the schedule"
    assert json.loads(run.budgets.read_text()) == {}
