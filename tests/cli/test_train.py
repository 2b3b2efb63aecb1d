"""`trencadis train` as a stranger types it."""

from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from tests.shapes import write_metadata, write_shapes
from trencadis.cli import main


def errors(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_train_follows_its_options_and_says_what_it_chose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_metadata(tmp_path / "data", 24, side=24)
    (tmp_path / "settings.yaml").write_text("image: {steps: 3}\ntransformer: {steps: 9, batch_size: 8}\n")
    out = tmp_path / "run"
    command = ["train", str(data), "--out", str(out), "--recipe", "tiny", "--config", str(tmp_path / "settings.yaml")]
    command += [
        "--transformer.steps",
        "2",
        "--transformer.model.num_layers",
        "2",
        "--ranker.steps",
        "1",
        "--threads",
        "1",
    ]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "transformer.steps 2" in printed
    assert str(out / "model") in printed
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["image"]["steps"] == 3
    assert config["transformer"]["steps"] == 2
    assert config["transformer"]["batch_size"] == 8
    assert config["transformer"]["model"]["num_layers"] == 2
    assert main(["train", "--out", str(out)]) == 0, "a run goes on without naming its data again"
    assert f"{out} is finished; `trencadis train --out {out} --hours 1` continues it" in capsys.readouterr().out
    assert main(["train", "--out", str(out), "--transformer.steps", "3"]) == 0
    printed = capsys.readouterr().out
    assert "transformer.steps 3" in printed
    assert yaml.safe_load((out / "config.yaml").read_text())["transformer"]["steps"] == 3


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_paths_of_every_spelling_are_one_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed goes on from another folder, whichever way its data is named."""
    data = write_metadata(tmp_path / "data", 24, side=24)
    (tmp_path / "link").symlink_to(data, target_is_directory=True)
    (tmp_path / "settings.yaml").write_text("data: {path: data}\n")
    (data / "inside").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(data)
    out = str(data / "run")
    steps = [f"--{stage}.steps=1" for stage in ("image", "transformer", "ranker")]
    assert main(["train", ".", "--out", "run", "--recipe", "tiny", "--threads", "1", *steps]) == 0
    monkeypatch.chdir(tmp_path)
    for named in (
        ["data"],
        ["~/data"],
        [f"{tmp_path}/./data/"],
        ["link"],
        ["data/inside/.."],
        [],
        ["--config", "settings.yaml"],
    ):
        (data / "run" / "model" / "config.json").unlink()
        assert main(["train", *named, "--out", out]) == 0, capsys.readouterr().err
        assert (data / "run" / "model" / "config.json").exists()
    path = yaml.safe_load((data / "run" / "config.yaml").read_text())["data"]["path"]
    assert Path(path).is_absolute()


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_from_a_model_wherever_it_is_named_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny_run: Path
) -> None:
    write_metadata(tmp_path / "data", 24, side=24)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old").symlink_to(tiny_run, target_is_directory=True)
    command = ["train", "data", "--out", "run", "--from", "old/model", "--threads", "1"]
    command += ["--transformer.steps", "1", "--transformer.batch_size", "4", "--ranker.steps", "0"]
    assert main(command) == 0
    assert f"start {tmp_path}/old/model" in capsys.readouterr().out
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["start"]["model"] == config["image"]["pretrained"] == f"{tmp_path}/old/model"
    assert main(command) == 0
    assert "run is finished;" in capsys.readouterr().out
    assert main([*command, "--from", "emoji"]) == 2
    assert errors(capsys)[0].startswith("trencadis: error: another start.model than the run was planned with")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "nowhere"], "unknown model 'nowhere'"),
        (["--from", "data"], "no config.json in"),
        (["--from", "emoji", "--transformer.model.num_heads", "7"], "transformer.model.num_heads 7; expected"),
        (["--from", "emoji", "--image-tokenizer", "data"], "drop --image-tokenizer, or --from"),
        (["--from", ""], "--from"),
        (["--transformer.steps", "0"], "transformer.steps 0; expected 1 or more"),
    ],
)
def test_what_a_run_cannot_start_from_is_one_line_and_exit_2(
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_shapes(tmp_path / "data", 4, side=24)
    monkeypatch.chdir(tmp_path)
    assert main(["train", "data", "--out", "run", *arguments]) == 2
    (line,) = errors(capsys)
    assert message in line
    assert not (tmp_path / "run").exists()


def test_what_is_left_out_is_one_line_before_the_plan(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_shapes(tmp_path / "data", 12, side=24)
    (data / "00003.txt").write_text("IMG_1234.jpg")
    monkeypatch.setattr("trencadis.training.run._Run.all_stages", lambda run: None)
    steps = [f"--{stage}.steps=1" for stage in ("image", "transformer", "ranker")]
    assert main(["train", str(data), "--out", str(tmp_path / "run"), "--recipe", "tiny", *steps]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("11 pairs; left out: 1 ")
    assert lines[1].startswith("recipe tiny")


def test_an_address_is_refused_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "https://example.org/pictures", "--out", str(tmp_path / "run")]) == 2
    assert "'https://example.org/pictures' is not a local path" in errors(capsys)[0]


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_steps_are_fitted_into_the_hours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trencadis.training.plan.FEWEST_STEPS", 3)
    data = write_metadata(tmp_path / "data", 24, side=24)
    out = tmp_path / "run"
    assert main(["train", str(data), "--out", str(out), "--recipe", "tiny", "--hours", "0.0002", "--threads", "1"]) == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert all(config[stage]["steps"] >= 3 for stage in ("image", "transformer", "ranker"))
    assert "a step takes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hours", "0"],
        ["--recipe", "huge"],
        ["--transformer.model.num_layers", "many"],
        ["--transformer.model.num_heads", "0"],
        ["--image.batch_size", "0"],
        pytest.param(["--device", "cuda"], marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")),
        ["--text.text_len", "257"],
        ["--ranker.microbatches", "2"],
        ["--transformer.optimizer.beta2", "1.5"],
        ["--transformer.optimizer.warmup_steps", "-5"],
        ["--image.relaxation_steps", "-3"],
        ["--image.optimizer.weight_decay", "-1"],
        ["--ranker.optimizer.learning_rate", "nan"],
        ["--save_every_s", "inf"],
        ["--image.model.architecture.kind", "round"],
        ["--no.such.setting", "1"],
        ["--config", "absent.yaml"],
    ],
)
def test_options_that_cannot_be_are_one_line_and_exit_2(
    tmp_path: Path, arguments: list[str], shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = [] if "--recipe" in arguments else ["--recipe", "tiny"]
    assert main(["train", str(shapes), "--out", str(tmp_path / "run"), *recipe, *arguments]) == 2
    (line,) = errors(capsys)
    assert "." not in arguments[0] or arguments[0].removeprefix("--") in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "text",
    [
        "threads: many",
        "hours: soon",
        "recipe: [1]",
        "transformer: 5",
        "device: tpu",
        "image: {steps: [1]}",
        "- 1",
        "a: [",
    ],
)
def test_a_settings_file_that_makes_no_sense_is_one_line_and_exit_2(
    tmp_path: Path, text: str, shapes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    command = ["train", str(shapes), "--out", str(tmp_path / "run"), "--config", str(tmp_path / "settings.yaml")]
    assert main(command) == 2
    assert len(errors(capsys)) == 1
    assert not (tmp_path / "run").exists()


def test_data_that_cannot_be_trained_on_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, bare, lonely = tmp_path / "empty", tmp_path / "bare", tmp_path / "lonely"
    for folder in (empty, bare, lonely):
        folder.mkdir()
    Image.new("RGB", (32, 32)).save(bare / "a.png")
    Image.new("RGB", (32, 32)).save(lonely / "a.png")
    (lonely / "a.txt").write_text("a black square")
    for path in (empty, bare, lonely, tmp_path / "absent"):
        assert main(["train", str(path), "--out", str(tmp_path / "run")]) == 2
        assert len(errors(capsys)) == 1, path
        assert not (tmp_path / "run").exists()
    assert main(["train", "--out", str(tmp_path / "run")]) == 2
    assert "no pictures to train on" in errors(capsys)[0]
