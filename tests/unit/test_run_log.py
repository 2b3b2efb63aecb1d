import builtins
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest

from trencadis import run_log as log_module
from trencadis.errors import StorageError
from trencadis.run_directory import RunDirectory
from trencadis.run_log import RunLog, read_log


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless it is moved."""
    now = [1000.0]
    monkeypatch.setattr("trencadis.run_log.monotonic", lambda: now[0])
    return now


@pytest.fixture
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    log_module._say_that_tensorboard_is_absent.cache_clear()


def points(lines: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(line["stage"], line["step"]) for line in lines]


def filled(run_directory: Path) -> RunLog:
    log = RunLog(RunDirectory(run_directory))
    for stage in ("image", "transformer"):
        for step in (10, 20, 30):
            log.append(stage, step, {"loss": 1.0 / step})
    return log


@pytest.mark.usefixtures("no_tensorboard")
def test_lines_are_valid_json_and_read_back(tmp_path: Path, clock: list[float]) -> None:
    with RunLog(RunDirectory(tmp_path / "run")) as log:
        clock[0] += 1.25
        log.append("image", 10, {"loss": 0.1 + 0.2, "psnr": math.inf, "kl": math.nan, "codes_in_use": 12})
        text = (tmp_path / "run" / "log.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    expected = {"stage": "image", "step": 10, "elapsed_s": 1.25, "loss": 0.1 + 0.2}
    expected |= {"psnr": None, "kl": None, "codes_in_use": 12}
    assert json.loads(text) == expected
    assert list(json.loads(text)) == ["stage", "step", "elapsed_s", "loss", "psnr", "kl", "codes_in_use"]
    assert read_log(RunDirectory(tmp_path / "run")) == [expected]


def test_no_log_is_empty(tmp_path: Path) -> None:
    assert read_log(RunDirectory(tmp_path)) == []


@pytest.mark.usefixtures("no_tensorboard")
def test_elapsed_time_adds_up_over_resumptions(tmp_path: Path, clock: list[float]) -> None:
    for _ in range(3):
        with RunLog(RunDirectory(tmp_path)) as log:
            clock[0] += 5.0
            log.append("image", 1, {})
        clock[0] += 1000.0
    assert [line["elapsed_s"] for line in read_log(RunDirectory(tmp_path))] == [5.0, 10.0, 15.0]


@pytest.mark.usefixtures("no_tensorboard")
def test_lost_work_counts_once(tmp_path: Path, clock: list[float]) -> None:
    with RunLog(RunDirectory(tmp_path)) as log:
        for step in (1, 2, 3):
            clock[0] += 10.0
            log.append("image", step, {})
    with RunLog(RunDirectory(tmp_path)) as log:
        clock[0] += 100.0
        log.truncate("image", 1)
        assert log.elapsed_s == 10.0
        clock[0] += 4.0
        log.append("image", 2, {})
    assert [line["elapsed_s"] for line in read_log(RunDirectory(tmp_path))] == [10.0, 14.0]


@pytest.mark.usefixtures("no_tensorboard")
@pytest.mark.parametrize(
    ("stage", "step", "kept"),
    [
        ("image", 20, [10, 20]),
        ("image", 0, []),
        ("image", 99, [10, 20, 30]),
        ("transformer", 15, [10]),
        ("ranker", 0, []),
    ],
)
def test_truncating_drops_later_lines_of_its_own_stage_only(
    tmp_path: Path, stage: str, step: int, kept: list[int]
) -> None:
    with filled(tmp_path) as log:
        others = [point for point in points(log.read()) if point[0] != stage]
        log.truncate(stage, step)
        assert [step for name, step in points(log.read()) if name == stage] == kept
        log.append(stage, step + 1, {})
    found = points(read_log(RunDirectory(tmp_path)))
    assert [point for point in found if point[0] != stage] == others
    assert found[-1] == (stage, step + 1)


@pytest.mark.usefixtures("no_tensorboard")
def test_the_clock_goes_on_where_nothing_is_dropped(tmp_path: Path, clock: list[float]) -> None:
    with RunLog(RunDirectory(tmp_path)) as log:
        clock[0] += 10.0
        log.append("image", 1, {})
        clock[0] += 5.0
        log.truncate("transformer", 0)
        assert log.elapsed_s == 15.0


@pytest.mark.usefixtures("no_tensorboard")
def test_opening_a_whole_log_writes_nothing(tmp_path: Path) -> None:
    filled(tmp_path).close()
    path = tmp_path / "log.jsonl"
    before = path.read_bytes(), path.stat()
    with RunLog(RunDirectory(tmp_path)) as log:
        log.truncate("transformer", 30)
    assert (path.read_bytes(), path.stat()) == before


@pytest.mark.usefixtures("no_tensorboard")
def test_a_line_cut_short_at_any_byte_is_dropped(tmp_path: Path) -> None:
    filled(tmp_path).close()
    path = tmp_path / "log.jsonl"
    whole = path.read_bytes()
    last = whole.splitlines(keepends=True)[-1]
    for length in range(1, len(last)):
        path.write_bytes(whole[: len(whole) - len(last) + length])
        complete = length == len(last) - 1  # only the end of the line is missing
        assert len(read_log(RunDirectory(tmp_path))) == 5 + complete
        with RunLog(RunDirectory(tmp_path)) as log:
            log.append("ranker", 1, {})
        assert points(read_log(RunDirectory(tmp_path)))[5 + complete :] == [("ranker", 1)]
        assert path.read_bytes().count(b"\n") == 6 + complete


def test_tensorboard_hides_what_is_done_again(tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with filled(tmp_path) as log:
        # TensorBoard reads its files in the order of their names, which begin with the second that they were made in.
        time.sleep(1.1)
        log.truncate("image", 20)
        log.append("image", 25, {"loss": 7.0, "kl": math.nan})
        log.append("image", 30, {"loss": 8.0})
    accumulator = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard" / "image"))
    accumulator.Reload()
    assert accumulator.Tags()["scalars"] == ["loss"]
    found = [(event.step, event.value) for event in accumulator.Scalars("loss")]
    assert found == [(10, pytest.approx(0.1)), (20, pytest.approx(0.05)), (25, 7.0), (30, 8.0)]


@pytest.mark.usefixtures("no_tensorboard")
def test_absent_tensorboard_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="trencadis"):
        filled(tmp_path).close()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "trencadis[tensorboard]" in caplog.text
    assert not (tmp_path / "tensorboard").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        RunLog(RunDirectory(tmp_path / "file"))
