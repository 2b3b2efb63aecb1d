"""Finished runs that are continued: what changes, what stays, and that a kill makes no difference."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.conftest import TINY_STEPS, TINY_VALIDATIONS
from tests.shapes import draw_shape
from tests.training.runs import Start, assert_same_weights, content, log_of, start_and_kill, weights
from trencadis.errors import ConfigError, DataError
from trencadis.inspection import inspect
from trencadis.pipeline import DALLE
from trencadis.run_directory import RunDirectory
from trencadis.training.run import train

pytestmark = pytest.mark.usefixtures("without_type_checks")
MORE = {"transformer": {"steps": 32}}


@pytest.fixture
def finished(tmp_path: Path, tiny_run: Path) -> Path:
    return shutil.copytree(tiny_run, tmp_path / "run")


@pytest.fixture(autouse=True)
def _few_validations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trencadis.training.loop.VALIDATIONS", TINY_VALIDATIONS)
    monkeypatch.setattr("trencadis.training.timing.VALIDATIONS", 1)
    monkeypatch.setattr("trencadis.training.plan.FEWEST_STEPS", 3)


def grow(data: Path, shapes: Path, count: int) -> Path:
    """Copy the data of a run and add pairs to it."""
    shutil.copytree(shapes, data, dirs_exist_ok=True)
    for number in range(count):
        image, caption = draw_shape(500 + number, 32)
        image.save(data / f"more-{number}.png")
        (data / f"more-{number}.txt").write_text(caption)
    return data


def steps_of(run: Path) -> dict[str, int]:
    config = yaml.safe_load((run / "config.yaml").read_text())
    return {name: config[name]["steps"] for name in TINY_STEPS}


def lines_of(run: Path, stage: str) -> list[dict[str, Any]]:
    return [line for line in log_of(run) if line["stage"] == stage]


def test_more_steps_go_on_from_the_weights(finished: Path, tiny_run: Path) -> None:
    said: list[str] = []
    before = weights(finished)
    train(finished, MORE, say=said.append)
    assert steps_of(finished) == {"image": 60, "transformer": 32, "ranker": 20}
    assert log_of(finished)[: len(log_of(tiny_run))] == log_of(tiny_run), "the log goes on"
    lines = lines_of(finished, "transformer")
    assert max(line["step"] for line in lines) == 32
    after = weights(finished)
    assert [name for name in after if not torch.equal(after[name], before[name])]
    assert {name.partition("/")[0] for name in after if not torch.equal(after[name], before[name])} == {"transformer"}
    # No start from random weights would be near.
    bits = [line["validation_bits_per_image_token"] for line in lines if "validation_bits_per_image_token" in line]
    assert max(bits[TINY_VALIDATIONS - 1 :]) < bits[TINY_VALIDATIONS - 2] < bits[0]
    (line,) = [line for line in said if line.startswith("transformer.steps 32")]
    assert "asked for; it had 24, and the learning rate goes from 5.00% of its peak to the" in line
    assert any(line.startswith("image tokenizer stays") for line in said)
    assert not any(line.startswith("ranker.steps") for line in said)
    report = (finished / "report.html").read_text()
    assert "32 of 32" in report
    assert "it had 24" in report
    assert 'alt="Drawings after step 32"' in report
    assert RunDirectory(finished).is_finished
    DALLE.from_pretrained(finished / "model")
    before_again = content(finished)
    train(finished, {})
    assert content(finished) == before_again


def test_the_learning_rate_rises_to_that_of_the_longer_run(finished: Path) -> None:
    rates = [line["learning_rate"] for line in lines_of(finished, "transformer") if "learning_rate" in line]
    train(finished, {"transformer": {"steps": 96}})
    after = [line["learning_rate"] for line in lines_of(finished, "transformer") if "learning_rate" in line]
    assert after[: len(rates)] == rates
    longer, peak = after[len(rates) :], max(rates)
    assert rates[-1] < 0.06 * peak
    # Warmed up in 1 of the 72 updates, and where a cosine over 96 updates is at the 25th: above four fifths.
    assert rates[-1] < longer[0] < longer[1]
    assert 0.8 * peak < longer[1] < 0.95 * peak
    assert sorted(longer[1:], reverse=True) == longer[1:]
    assert longer[-1] == pytest.approx(rates[-1], rel=0.02)


def test_more_hours_go_to_the_transformer_and_clip(finished: Path) -> None:
    said: list[str] = []
    before = weights(finished)
    train(finished, {}, hours=0.003, say=said.append)
    steps = steps_of(finished)
    assert steps["image"] == 60
    assert steps["transformer"] >= 27
    assert steps["ranker"] >= 23
    planned = [line for line in said if "of the time for training" in line]  # and not what a busy machine changed
    shares = {name: line for line in planned for name in TINY_STEPS if line.startswith(f"{name}.steps")}
    assert "78% of the time" in shares["transformer"]
    assert "22% of the time" in shares["ranker"]
    assert "image" not in shares
    after = weights(finished)
    changed = {name.partition("/")[0] for name in after if not torch.equal(after[name], before[name])}
    # Weights of before stay where no further training does better on the held-out pairs, as it may be with CLIP.
    assert {"transformer"} <= changed <= {"transformer", "ranker"}
    assert max(line["step"] for line in lines_of(finished, "ranker")) == steps["ranker"]
    assert yaml.safe_load((finished / "config.yaml").read_text())["hours"] == 0.003
    facts = inspect(str(finished)).facts
    assert facts["ranker"] == f"step {steps['ranker']} of {steps['ranker']}"


def test_what_is_not_asked_for_changes_no_byte_and_how_it_is_asked_for_is_said(
    finished: Path, shapes: Path, tmp_path: Path
) -> None:
    before = content(finished)
    for settings, options in (
        ({}, {}),
        ({"data": {"path": str(shapes)}}, {}),
        ({"data": {"path": str(shapes)}}, {"hours": 1.0}),  # the command that planned it
        ({"data": {"path": str(shapes)}, **TINY_STEPS}, {}),
        ({"data": {"path": str(shutil.copytree(shapes, tmp_path / "copy"))}}, {}),
    ):
        said: list[str] = []
        train(finished, settings, say=said.append, **options)  # type: ignore[arg-type]
        assert content(finished) == before
        (line,) = said
        assert f"`trencadis train --out {finished} --hours 1` continues it" in line


def test_new_pairs_in_the_same_place_are_said_and_wait_for_hours(tmp_path: Path, shapes: Path, finished: Path) -> None:
    data = grow(tmp_path / "grown", shapes, 3)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    config["data"]["path"] = str(data)
    (finished / "config.yaml").write_text(yaml.safe_dump(config))
    before = content(finished)
    said: list[str] = []
    train(finished, {"data": {"path": str(data)}}, say=said.append)
    assert content(finished) == before
    assert "is finished; pairs that came since: 3; `trencadis train" in said[0]


def test_more_pairs_are_trained_on_and_the_others_stay_where_they_are(
    tmp_path: Path, shapes: Path, finished: Path
) -> None:
    data = grow(tmp_path / "grown", shapes, 40)
    (data / "00001.txt").unlink()
    before = json.loads((finished / "pairs.json").read_text())
    drawn = RunDirectory(finished).read_captions()
    said: list[str] = []
    train(finished, {"data": {"path": str(data)}, **MORE}, say=said.append)
    after = json.loads((finished / "pairs.json").read_text())
    assert len(after["kept"]) == len(before["kept"]) + 39
    train_before = {pair["sample_id"] for pair in before["kept"]} - set(before["held_out"])
    assert not train_before & set(after["held_out"]), "nothing that was trained on is measured on"
    assert RunDirectory(finished).read_captions()[: len(drawn)] == drawn
    assert any(line.startswith("99 pairs; left out: 1 no caption") for line in said)
    assert any(line.startswith("pairs 99") and "40 new ones, 1 gone or changed" in line for line in said)
    assert any(
        line.startswith("text tokenizer stays") and " of 40 captions are cut to 16 tokens" in line for line in said
    )
    assert json.loads((finished / "data.json").read_text())["kept"] == 99
    assert (finished / "model" / "text" / "tokenizer.json").exists()


def test_another_place_with_more_pairs_is_asking_enough(
    tmp_path: Path, shapes: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is that of the first plan."""
    monkeypatch.setattr("trencadis.training.continuing.steps_in", lambda seconds, *_: 3 if seconds > 60 else 0)
    train(finished, {"data": {"path": f"{shapes}::{grow(tmp_path / 'both' / 'others', shapes, 2)}"}})
    assert steps_of(finished) == {"image": 60, "transformer": 27, "ranker": 23}


def test_only_pictures_without_tokens_are_encoded(
    tmp_path: Path, shapes: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trencadis.training import token_cache

    monkeypatch.setattr(token_cache, "SHARD", 2048)
    encoded: list[int] = []
    encode = token_cache._encode

    def counting(*arguments: Any) -> torch.Tensor:
        encoded.append(len(arguments[2]))
        return encode(*arguments)

    monkeypatch.setattr(token_cache, "_encode", counting)
    config = yaml.safe_load((finished / "config.yaml").read_text())
    trained = json.loads((finished / "data.json").read_text())["train"]
    variants = config["transformer"]["token_variants"]
    train(finished, {"transformer": {"steps": 25, "token_variants": variants}})
    assert len(encoded) == 1, "only what is measured on is not cached"
    train(finished, {"transformer": {"steps": 26, "token_variants": variants + 1}})
    assert encoded[1] == trained


def test_a_kill_while_it_is_continued_makes_no_difference(tmp_path: Path, shapes: Path, tiny_run: Path) -> None:
    data = grow(tmp_path / "grown", shapes, 10)
    settings = {"data": {"path": str(data)}, "transformer": {"steps": 30}, "ranker": {"steps": 26}}
    unbroken, killed = (shutil.copytree(tiny_run, tmp_path / name) for name in ("unbroken", "killed"))
    moments = [
        ("longer", "", 1), ("update", "transformer", 1), ("update", "transformer", 3), ("report", "", 1),
        ("log", "ranker", 1), ("save", "ranker", 1),
    ]  # fmt: skip
    ends = [(unbroken, None), *((killed, moment) for moment in moments), (killed, None)]
    start_and_kill([Start(out, settings, {}, moment) for out, moment in ends])
    assert log_of(killed) == log_of(unbroken)
    assert_same_weights(killed, unbroken)
    assert weights(unbroken).keys() == weights(tiny_run).keys()
    for path in (unbroken / "samples").iterdir():
        assert path.read_bytes() == (killed / "samples" / path.name).read_bytes()
    for name in ("pairs.json", "plan.json", "data.json", "trained.json", "config.yaml"):
        assert (killed / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_a_model_is_there_while_it_is_continued(
    finished: Path, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("trencadis.training.run.fit", stop)
        with pytest.raises(KeyboardInterrupt):
            train(finished, MORE)
    assert_same_weights(finished, tiny_run)
    DALLE.from_pretrained(finished / "model")
    assert not RunDirectory(finished).is_finished
    assert inspect(str(finished)).facts["transformer"] == "step 24 of 32"
    train(finished, {})
    assert steps_of(finished)["transformer"] == 32
    assert RunDirectory(finished).is_finished


def test_a_run_is_continued_again_and_again(finished: Path) -> None:
    for steps in (28, 30):
        train(finished, {"transformer": {"steps": steps}})
    rates = [line["learning_rate"] for line in lines_of(finished, "transformer") if "learning_rate" in line]
    assert len(rates) >= 28
    choices = [choice["what"] for choice in json.loads((finished / "plan.json").read_text())["choices"]]
    assert choices.count("continued") == 2


def test_the_image_tokenizer_is_trained_further_only_with_the_transformer(finished: Path) -> None:
    before = content(finished)
    with pytest.raises(ConfigError, match="a transformer that learns the codes"):
        train(finished, {"image": {"steps": 64}})
    assert content(finished) == before
    tokens = (finished / "tokens" / "variant-0" / "000000000.safetensors").read_bytes()
    train(finished, {"image": {"steps": 64}, **MORE})
    assert steps_of(finished) == {"image": 64, "transformer": 32, "ranker": 20}
    assert (finished / "tokens" / "variant-0" / "000000000.safetensors").read_bytes() != tokens
    assert RunDirectory(finished).is_finished


def test_a_run_without_its_checkpoints_cannot_be_continued(finished: Path) -> None:
    shutil.rmtree(finished / "checkpoints" / "transformer")
    before = content(finished)
    with pytest.raises(ConfigError, match="holds no checkpoint"):
        train(finished, MORE)
    assert content(finished) == before


def test_what_cannot_be_continued_is_refused_and_changes_nothing(finished: Path, tmp_path: Path) -> None:
    before = content(finished)
    for settings in ({"transformer": {"steps": 23}}, {"transformer": {"batch_size": 8}}, {"text": {"text_len": 8}}):
        with pytest.raises(ConfigError, match="than the run was planned with"):
            train(finished, settings, hours=2.0)
    with pytest.raises(DataError, match="nothing at"):
        train(finished, {"data": {"path": str(tmp_path / "absent")}}, hours=2.0)
    assert content(finished) == before
