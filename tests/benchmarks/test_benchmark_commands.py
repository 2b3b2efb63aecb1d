"""Each benchmark on a tiny shape, with our contender in this process: its figures, its JSON, and what it refuses."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ceilings, child, decode, scaling, train_step
from benchmarks.child import OURS, Done
from benchmarks.contenders.ours import Ours
from trencadis.config import TransformerConfig

SHAPE = ["--layers", "2", "--heads", "2", "--head-dim", "8", "--text-len", "4", "--image-vocab", "16"]
SHAPE += ["--text-vocab", "20", "--threads", "1", "--repeats", "2"]
Main = Callable[[list[str]], int]


class InProcess:
    """Stands for a contender's process."""

    name, settings = OURS, Ours.settings

    def __init__(self, config: TransformerConfig, *, threads: int, peer: None = None, trains: bool = False) -> None:
        self._ours = Ours(asdict(config))

    def do(self, work: str, **arguments: Any) -> Done:
        began_s = time.perf_counter()
        result = getattr(self._ours, work)(**arguments)
        return Done(time.perf_counter() - began_s, result)

    def peak_bytes(self) -> int:
        return 2**20

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "Child", InProcess)
    monkeypatch.setattr(ceilings, "MATMUL_SIDE", 64)
    monkeypatch.setattr(scaling, "STEP_ROUNDS", 1)


def measured(main: Main, arguments: list[str], out: Path) -> dict[str, Any]:
    assert main([*SHAPE, *arguments, "--json", str(out)]) == 0
    report: dict[str, Any] = json.loads(out.read_text())
    assert set(report["setting"]) >= {"date", "commit", "dirty", "torch", "cpu", "threads", "repeats", "statistic"}
    assert report["setting"]["threads"] == 1
    assert "median of 2" in report["setting"]["statistic"]
    assert report["shape"]["num_layers"] == 2
    for number in numbers(report):
        assert math.isfinite(number)
    return report


def numbers(tree: Any) -> list[float]:
    if isinstance(tree, dict | list):
        return [n for branch in (tree.values() if isinstance(tree, dict) else tree) for n in numbers(branch)]
    return [tree] if isinstance(tree, float) else []


@pytest.mark.usefixtures("in_process")
def test_decode_reports_its_share_of_what_the_machine_can_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = measured(decode.main, ["--grid", "3", "--candidates", "1", "2"], tmp_path / "out.json")
    one, two = report["rows"]
    assert (one["candidates"], two["candidates"]) == (1, 2)
    assert len(one["samples_s"]) == 2
    assert one["passes"] == 9
    assert one["seconds"] == pytest.approx(sum(one["samples_s"]) / 2)
    assert two["pictures_per_s"] == pytest.approx(2 / two["seconds"])
    # Two layers of 12 · 16² weights and the head of 16 · 16, in float32, read nine times.
    read_gb = (2 * 12 * 16**2 + 16 * 16) * 4 * 9 / 1e9
    assert one["weights_gb_s"] == one["float32_gb_s"] == pytest.approx(read_gb / one["seconds"])
    best = max(report["ceilings"]["samples"]["linear_read_gb_s"])
    assert one["share_of_linear_read"] == pytest.approx(one["weights_gb_s"] / best)
    assert one["share_of_matmul"] == pytest.approx(one["gflop_s"] / report["ceilings"]["matmul_gflop_s"])
    assert report["ceilings"]["fits_cache"]
    printed = capsys.readouterr().out
    assert "pictures/s" in printed
    assert "fit into the cache" in printed


@pytest.mark.usefixtures("in_process")
def test_weights_of_fewer_bits_are_fewer_bytes(tmp_path: Path) -> None:
    arguments = ["--grid", "2", "--candidates", "1", "--design", "modern", "--weights", "float32", "bfloat16"]
    report = measured(decode.main, arguments, tmp_path / "out.json")
    assert report["shape"]["design"]["norm"] == "rms"
    full, half = report["rows"]
    assert full["weights_gb_s"] == full["float32_gb_s"]
    assert half["weights_gb_s"] == pytest.approx(half["float32_gb_s"] / 2)
    assert half["passes"] == full["passes"] == 4


@pytest.mark.usefixtures("in_process")
def test_json_on_stdout_is_alone_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert decode.main([*SHAPE, "--grid", "2", "--candidates", "1", "--guidance-scale", "3", "--json", "-"]) == 0
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)["rows"]
    assert row["guidance_scale"] == 3
    assert "pictures/s" in captured.err


@pytest.mark.usefixtures("in_process")
def test_train_step_reports_operations_and_memory(tmp_path: Path) -> None:
    report = measured(train_step.main, ["--grid", "3", "--batch-size", "2"], tmp_path / "out.json")
    (row,) = report["rows"]
    assert row["contender"] == OURS
    assert len(row["samples_s"]) == 2
    assert row["gflop_s"] == pytest.approx(report["flops"] / row["seconds"] / 1e9)
    assert row["peak_bytes"] == 2**20


@pytest.mark.usefixtures("in_process")
def test_train_step_in_bfloat16_is_compared_with_products_in_it(tmp_path: Path) -> None:
    arguments = ["--grid", "3", "--batch-size", "2", "--precision", "bfloat16"]
    report = measured(train_step.main, arguments, tmp_path / "out.json")
    (row,) = report["rows"]
    assert row["share_of_bfloat16"] == pytest.approx(row["gflop_s"] / report["ceilings"]["bfloat16_gflop_s"])
    assert 0 < row["share_in_products"] < 1


@pytest.mark.usefixtures("in_process")
def test_scaling_reports_both_attentions_at_every_grid(tmp_path: Path) -> None:
    report = measured(scaling.main, ["--grids", "3", "9", "--candidates", "2", "--sampled", "3"], tmp_path / "out.json")
    of_row = [(row["work"], row["attention"], row["image_tokens"]) for row in report["rows"]]
    assert sorted(of_row) == sorted(
        (work, attention, tokens)
        for work in ("decoding", "training")
        for attention in ("full", "sparse")
        for tokens in (9, 81)
    )
    exponents = {(entry["work"], entry["figure"]): entry for entry in report["exponents"]}
    read = exponents["decoding", "read_image_end_bytes"]
    # The last of n image tokens sees all n: bytes grow exactly as the picture does.
    assert read["full"] == pytest.approx(1)
    assert read["sparse"] < 0.75
    assert "attention_s_per_token" in {figure for _, figure in exponents}


def test_sampled_positions_leave_out_the_token_that_is_never_read() -> None:
    assert scaling.last(9, 3) == [5, 6, 7]
    assert scaling.last(4, 16) == [0, 1, 2]
    assert scaling.spread(9, 4) == [1, 3, 5, 7]
    assert scaling.spread(4, 16) == [0, 1, 2]


@pytest.mark.parametrize(
    ("main", "arguments", "said"),
    [
        (decode.main, ["--peer", "minDALL-E", "--peer-path", "/nowhere"], "--peer-path /nowhere; expected a folder"),
        (train_step.main, ["--peer", "minDALL-E"], "no --peer-path"),
        (train_step.main, ["--peer-path", "/"], "no --peer;"),
        (decode.main, ["--peer", "mindalle", "--peer-path", "/"], "--peer mindalle"),
        (decode.main, ["--peer", "minDALL-E", "--peer-path", "/", "--guidance-scale", "3"], "--guidance-scale 3"),
        (decode.main, ["--weights", "int7"], "--weights int7"),
        (decode.main, ["--candidates", "0"], "--candidates 0"),
        (decode.main, ["--json", "/dev/null/out.json"], "cannot write /dev/null/out.json: not a directory"),
        (scaling.main, ["--grids", "2"], "--grids 2"),
        (train_step.main, ["--design", "modern", "--head-dim", "6"], "head_dim 6"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    main: Main, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert said in line
    assert "expected" in line
