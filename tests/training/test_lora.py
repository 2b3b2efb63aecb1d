"""Runs that train low-rank updates: nothing else changes, and a kill makes no difference."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.runs import Start, assert_same_weights, content, log_of, start_and_kill, weights
from tests.training.test_starting import others, planned, settings
from trencadis.errors import ConfigError, UserError
from trencadis.inspection import inspect
from trencadis.pipeline import DALLE
from trencadis.run_directory import RunDirectory
from trencadis.training.run import train
from trencadis.transformer import Adapter

__all__ = ["others"]
pytestmark = pytest.mark.usefixtures("without_type_checks", "one_validation")


def lora(steps: int = 3, **more: Any) -> dict[str, Any]:
    return {"transformer": {"steps": steps, "batch_size": 8, "lora": {"rank": 2}, **more}}


def test_only_the_adapter_is_trained(tmp_path: Path, others: Path, tiny_model: Path, tiny_run: Path) -> None:
    said: list[str] = []
    train(tmp_path / "run", settings(others, tiny_model, lora(6)), say=said.append)
    before, after = weights(tiny_run), weights(tmp_path / "run")
    assert before.keys() == after.keys()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    matrices = ("attention.qkv.weight", "attention.out.weight", "mlp.0.weight", "mlp.2.weight")
    assert changed == {f"transformer/blocks.{layer}.{name}" for layer in range(3) for name in matrices}
    (checkpoint,) = (tmp_path / "run" / "checkpoints" / "transformer").glob("step-*")
    moments = load_file(checkpoint / "optimizer.safetensors")
    assert {name.rpartition("/")[0].rpartition(".")[2] for name in moments} == {"a", "b"}
    assert planned(tmp_path / "run")["ranker"]["steps"] == 0
    assert any("low-rank updates" in line for line in said)


def test_the_adapter_makes_the_model_of_the_run(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    train(tmp_path / "run", settings(others, tiny_model, lora()))
    run = RunDirectory(tmp_path / "run")
    own, model = DALLE.from_pretrained(run.model), DALLE.from_pretrained(tiny_model)
    adapter = model.load_adapter(run.adapter)
    assert model.digest() == own.digest()
    assert adapter.config.base_sha256 == DALLE.from_pretrained(tiny_model).digest()
    assert adapter.config.base == str(tiny_model)
    drawn = [each.generate("a red circle", candidates=4, keep=2, seed=3) for each in (own, model)]
    assert [image.tobytes() for image in drawn[0].images] == [image.tobytes() for image in drawn[1].images]
    found = inspect(str(run.adapter))
    assert found.kind == "adapter"
    assert found.parts[0].parameters == adapter.parameters
    before = content(run.path)
    train(run.path, settings(others, tiny_model, lora()))
    assert content(run.path) == before


def test_a_killed_run_ends_as_if_it_had_not_been(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    own = settings(others, tiny_model, lora(6))
    unbroken, killed = tmp_path / "unbroken" / "run", tmp_path / "killed" / "run"
    moments = [("update", "transformer", 3), ("save", "transformer", 2), ("report", "", 1), None]
    start_and_kill([Start(unbroken, own), *(Start(killed, own, {}, moment) for moment in moments)])
    assert log_of(killed) == log_of(unbroken)
    assert_same_weights(killed, unbroken)
    assert (
        Adapter.from_pretrained(killed / "adapter").digest() == Adapter.from_pretrained(unbroken / "adapter").digest()
    )


def test_a_finished_run_is_continued(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    train(tmp_path / "run", settings(others, tiny_model, lora(3)))
    first = Adapter.from_pretrained(tmp_path / "run" / "adapter")
    train(tmp_path / "run", {"transformer": {"steps": 6}})
    second, model = Adapter.from_pretrained(tmp_path / "run" / "adapter"), DALLE.from_pretrained(tiny_model)
    assert second.digest() != first.digest()
    second.add_to(model.transformer)
    assert model.digest() == DALLE.from_pretrained(tmp_path / "run" / "model").digest()


def test_all_of_the_time_goes_to_the_transformer(tmp_path: Path, others: Path, tiny_model: Path) -> None:
    train(tmp_path / "run", settings(others, tiny_model, {"transformer": {"lora": {"rank": "1"}}}), hours=2e-3)
    choices = json.loads((tmp_path / "run" / "plan.json").read_text())["choices"]
    why = next(choice["why"] for choice in choices if choice["what"] == "transformer.steps")
    assert why.startswith("100% of the time")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (lora(lora={"rank": 65}), r"transformer\.lora\.rank 65; expected at most 64, the smallest side"),
        (lora(lora={"rank": 2000}), r"transformer\.lora\.rank 2000; expected a number in \[0, 1024\]"),
        (lora(lora={"rank": "two"}), r"transformer\.lora\.rank two"),
        (lora(lora={"rank": 2, "alpha": 0}), r"transformer\.lora\.alpha 0"),
        (lora(steps=0), r"transformer\.steps 0 and transformer\.lora\.rank 2; expected 1 or more steps"),
        (lora(optimizer={"muon": True}), r"optimizer\.muon True; expected AdamW"),
        (lora() | {"text": {"text_len": 24}}, r"text\.text_len 24; expected 16, as "),
    ],
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, others: Path, tiny_model: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", settings(others, tiny_model, more))
    assert not (tmp_path / "run").exists()


def test_there_must_be_a_model_to_update(tmp_path: Path, others: Path) -> None:
    with pytest.raises(ConfigError, match=r"transformer\.lora\.rank 2; expected 0, or a start\.model"):
        train(tmp_path / "run", {"data": {"path": str(others)}, **lora()}, recipe="tiny")
