"""`trencadis plan` as a stranger types it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.shapes import write_metadata
from trencadis.cli import main

pytestmark = pytest.mark.usefixtures("one_validation", "without_type_checks")
SIZES = ["--recipe", "tiny", "--threads", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_metadata(tmp_path_factory.mktemp("plan") / "data", 40, side=24)


def planned(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert main(["plan", *map(str, arguments), "--json"]) == 0, capsys.readouterr().err
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def probe(tmp_path: Path, run: Path, bits: list[float]) -> Path:
    """Return a run that has measured these bits, at even steps."""
    copy = tmp_path / "probe"
    copy.mkdir()
    for name in ("config.yaml", "data.json"):
        shutil.copy(run / name, copy / name)
    lines = [
        {"stage": "transformer", "step": 100 * number, "elapsed_s": float(number), "validation_bits_per_image_token": b}
        for number, b in enumerate(bits, 1)
    ]
    (copy / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return copy


def test_a_plan_is_what_train_would_choose_and_what_it_takes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = [data, "--hours", "0.5", *SIZES, "--image.steps", "7", "--watts", "200", "--price", "3"]
    found = planned(capsys, *options)
    assert {"what": "image.steps", "value": "7", "why": "asked for"} in found["choices"]
    stages = {stage["stage"]: stage for stage in found["stages"]}
    assert list(stages) == ["image", "transformer", "ranker"]
    assert stages["image"]["steps"] == 7
    assert stages["image"]["step_s"] > 0, "it is timed though its steps are asked for"
    assert stages["transformer"]["steps"] == found["config"]["transformer"]["steps"] > 7
    assert all(stage["memory_bytes"] > 0 for stage in stages.values())
    totals = found["totals"]
    assert totals["hours"] == pytest.approx(sum(stage["hours"] for stage in stages.values()))
    assert totals["energy_kwh"] == pytest.approx(totals["hours"] * 0.2)
    assert totals["price"] == pytest.approx(totals["hours"] * 3)
    assert "forecast" not in found
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_a_named_machine_is_computed_and_its_assumptions_are_said(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(data), "--hours", "1", *SIZES, "--device", "h100", "--gpus", "2"]) == 0
    printed = capsys.readouterr().out
    assert "ms on 2 × h100, computed" in printed
    assert "computed, not timed: products at 35% of the peak" in printed
    assert "kWh" not in printed
    assert "price" not in printed


def test_a_forecast_is_fitted_to_the_log_of_a_run(
    data: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = [2.5 + 2.0 * (number * 6.4) ** -0.5 for number in range(1, 13)]
    run, chart = probe(tmp_path, tiny_run, bits), tmp_path / "forecast.svg"
    options = [data, "--hours", "1", "--config", run / "config.yaml", "--transformer.steps", "4800", "--threads", "1"]
    found = planned(capsys, *options, "--probe", run, "--chart", chart)
    by_hours = {row["hours"]: row for row in found["forecast"]["by_hours"]}
    truth = 2.5 + 2.0 * (48 * 6.4) ** -0.5
    assert by_hours[1.0]["low"] < truth < by_hours[1.0]["high"]
    assert by_hours[1.0]["middle"] == pytest.approx(truth, abs=0.05)
    assert "cannot be told" in found["forecast"]["verdict"]
    assert chart.read_text("utf-8").startswith("<svg")


def test_probes_are_trained_where_they_are_asked_for(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(data), "--hours", "1", *SIZES, "--probe-minutes", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "held-out bits of an image token: 0.25 h: " in printed
    assert "pictures" in printed.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--gpus", "2"], "--gpus 2; expected --device v100 or "),
        (["--chart", "x.svg"], "--chart; expected --probe or --probe-minutes"),
        (["--device", "h100", "--probe-minutes", "1"], "--probe-minutes for h100; expected probes of this machine"),
        (["--device", "h100x"], "--device h100x; expected one of cpu, cuda, v100"),
        (["--probe-minutes", "1", "--from", "emoji"], "--probe-minutes with --from; expected a run from nothing"),
        (["--watts", "0"], "--watts 0; expected a number above 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    options: list[str], line: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(data), *options]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert line in told


def test_a_probe_of_other_sizes_is_refused(
    data: Path, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = probe(tmp_path, tiny_run, [4.0, 3.5, 3.2, 3.0])
    given = ["plan", str(data), *SIZES, "--probe"]
    assert main([*given, str(run), "--transformer.model.num_layers", "2"]) == 2
    assert "has another transformer; expected the one planned; plan with --config" in capsys.readouterr().err
    assert main([*given, str(data)]) == 2
    assert "expected a run; name the folder that `trencadis train` wrote" in capsys.readouterr().err
