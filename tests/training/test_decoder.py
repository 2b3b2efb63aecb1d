"""A decoder alone on the codes of a finished image tokenizer: of another side, stopped, and asked for afterwards."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import reduce
from safetensors.torch import load_file

from tests.training.runs import Start, assert_same_weights, log_of, start_and_kill, weights
from trencadis.cli import main
from trencadis.config import DataConfig, DecoderStage, DiscreteVAEConfig, LeanConfig, RunConfig
from trencadis.config.plain import from_plain, overlay
from trencadis.errors import ConfigError, ModelError
from trencadis.image import DiscreteVAE
from trencadis.inspection import inspect
from trencadis.pipeline import DALLE
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training.decoder import DecoderTraining
from trencadis.training.known_pairs import read_pairs
from trencadis.training.run import train
from trencadis.training.run_pairs import RunPairs
from trencadis.training.trainer import Trainer

TWICE = {"kind": "lean", "widths": [8, 16, 32]}
"""On a tokenizer that halves pictures twice."""
ADVERSARIAL = {
    "adversarial": 0.5,
    "adversarial_start": 0.3,
    "lecam": 0.1,
    "discriminator_dim": 8,
    "discriminator_layers": 1,
}
DECODER: dict[str, Any] = {"steps": 7, "batch_size": 8, "architecture": TWICE, "losses": ADVERSARIAL}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("given") / "tokenizer"
    DiscreteVAE(RECIPES["tiny-vqvae"]().image.model).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def data(shapes: Path) -> DataConfig:
    return DataConfig(path=str(shapes), held_out=0.1)


@pytest.fixture(scope="module")
def pairs(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> RunPairs:
    return read_pairs(data, 0, RunDirectory(tmp_path_factory.mktemp("pairs")))


def training(given: Path, pairs: RunPairs, data: DataConfig, **settings: Any) -> DecoderTraining:
    config = from_plain(DecoderStage, {"batch_size": 8, **settings})
    tokenizer = DiscreteVAE.from_pretrained(given)
    return DecoderTraining(config, tokenizer, pairs, data, seed=0, device=torch.device("cpu"))


def settings_of(given: Path, shapes: Path) -> dict[str, Any]:
    parts = {"transformer": {"steps": 3, "batch_size": 8}, "ranker": {"steps": 2, "batch_size": 8}}
    return {
        "data": {"path": str(shapes), "held_out": 0.1},
        "threads": 1,
        "image": {"pretrained": str(given)},
        "decoder": DECODER,
        **parts,
    }


@pytest.mark.timeout(200)
def test_a_decoder_of_twice_the_side_on_the_same_codes_killed_or_not(
    given: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, unbroken, killed = settings_of(given, shapes), tmp_path / "unbroken", tmp_path / "killed"
    moments = [("update", "decoder", 5), ("save", "decoder", 2), ("report", "", 1), None]
    ends = [(unbroken, None), *((killed, moment) for moment in moments)]
    start_and_kill([Start(out, settings, {"recipe": "tiny"}, moment) for out, moment in ends])
    assert log_of(killed) == log_of(unbroken)
    assert_same_weights(killed, unbroken)
    before, after = (
        load_file(given / "model.safetensors"),
        load_file(unbroken / "model" / "image" / "model.safetensors"),
    )
    kept = [name for name in before if not name.startswith("decoder.")]
    assert kept
    assert all(before[name].numpy().tobytes() == after[name].numpy().tobytes() for name in kept)
    lines = [line for line in log_of(unbroken) if line["stage"] == "decoder"]
    assert {"l1", "adversarial", "discriminator", "adaptive_weight", "validation_psnr"} <= set().union(*lines)
    assert (unbroken / "samples" / "decoder-00000007.png").is_file()
    assert "Decoder" in (unbroken / "report.html").read_text()
    assert "32×32 pixels" in (unbroken / "model" / "README.md").read_text()
    assert inspect(str(unbroken)).facts["decoder"] == "step 7 of 7"
    model = DALLE.from_pretrained(unbroken / "model")
    assert (model.image_tokenizer.image_size, model.image_tokenizer.drawn_size) == ((16, 16), (32, 32))
    picture = model.generate("a red circle", candidates=1, keep=1, seed=1).images[0]
    assert picture.size == (32, 32)
    kept_rows = model.generate("a red circle", candidates=1, keep=1, seed=1, image=picture, keep_rows=2).images[0]
    assert kept_rows.size == (32, 32)
    picture.save(tmp_path / "drawn.png")
    sheet = str(tmp_path / "sheet.png")
    names = ["--model", str(unbroken / "model"), "--out", sheet, "--json"]
    assert main(["reconstruct", str(tmp_path / "drawn.png"), *names]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["image_size"], answer["drawn_size"]) == ([16, 16], [32, 32])


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_a_finished_run_gets_a_decoder(tiny_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(tiny_run, out)
    before = weights(out)
    asked = {"decoder": {**DECODER, "losses": {"l1": 1.0}}}
    train(out, asked)
    after = weights(out)
    same = {name for name in before if name in after and torch.equal(before[name], after[name])}
    changed = (before.keys() | after.keys()) - same
    assert changed
    assert all(name.startswith("image/decoder.") for name in changed)
    assert [line["stage"] for line in log_of(out)[-3:]] == ["decoder"] * 3
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    train(out, asked)
    assert content == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    train(out, {"decoder": {"steps": 9}})
    assert log_of(out)[-1]["step"] == 9
    with pytest.raises(ConfigError, match="more image\\.steps where a decoder has been trained"):
        train(out, {"image": {"steps": 70}, "transformer": {"steps": 30}})


@pytest.mark.parametrize("architecture", [None, TWICE])
def test_it_learns(given: Path, pairs: RunPairs, data: DataConfig, architecture: dict[str, Any] | None) -> None:
    stage = training(given, pairs, data, architecture=architecture, optimizer={"learning_rate": 3e-3})
    trainer, losses = Trainer(stage, 40), []
    for microbatches in stage.batches(0, 40):
        losses.append(float(trainer.update(microbatches)["loss"]))
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert stage.sample().size[1] > 3 * stage.tokenizer.drawn_size[0]
    frozen = DiscreteVAE.from_pretrained(given).state_dict()
    trained = stage.tokenizer.state_dict()
    assert all(torch.equal(frozen[name], trained[name]) for name in frozen if not name.startswith("decoder."))


@pytest.mark.usefixtures("without_type_checks")
def test_microbatches_do_not_change_the_gradient(given: Path, pairs: RunPairs, data: DataConfig) -> None:
    gradients = []
    for microbatches in (1, 3):
        losses = ADVERSARIAL | {"adversarial_start": 0.0}
        stage = training(given, pairs, data, architecture=TWICE, losses=losses, microbatches=microbatches)
        parts = next(stage.batches(0, 1))
        assert len(parts) == microbatches
        trainer = Trainer(stage, 4)
        trainer._accumulate(parts, trainer._totals(parts, 0), 0)
        gradients.append(
            [parameter.grad.clone() for parameter in stage.model.parameters() if parameter.grad is not None]
        )
    assert gradients[0]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)


def test_pictures_are_encoded_as_the_means_of_their_pixels(given: Path) -> None:
    one = DiscreteVAE.from_pretrained(given)
    other = one.with_decoder(LeanConfig(widths=(8, 16, 32)))
    images = torch.rand(2, 3, 32, 32)
    small = reduce(images, "batch rgb (rows h) (columns w) -> batch rgb rows columns", "mean", h=2, w=2)
    torch.testing.assert_close(other.shrunk(images), small)
    assert torch.equal(other.encode(other.shrunk(images)), one.encode(other.shrunk(images)))
    assert other.reconstruct(images).shape == images.shape
    assert one.shrunk(images) is images


def test_a_decoder_begins_with_what_fits(given: Path) -> None:
    one = DiscreteVAE.from_pretrained(given)
    widths = one.config.architecture.widths
    other = one.with_decoder(LeanConfig(widths=(8, *widths)))
    before, after = one.decoder.state_dict(), other.decoder.state_dict()
    new = {
        name.rpartition(".")[0] for name in after if name not in before or not torch.equal(before[name], after[name])
    }
    assert new == {f"resizes.{len(widths) - 1}", "output"}
    assert all(
        torch.equal(tensor, one.with_decoder(None).state_dict()[name]) for name, tensor in one.state_dict().items()
    )


def test_models_without_a_decoder_of_their_own_have_the_digest_of_before(given: Path) -> None:
    assert "decoder" not in json.loads((given / "config.json").read_text())
    tokenizer = DiscreteVAE.from_pretrained(given)
    assert "decoder" not in tokenizer._described()
    assert tokenizer.with_decoder(LeanConfig(widths=(8, 16)))._described()["decoder"]["widths"] == [8, 16]


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_a_network_that_is_missing_is_found_before_anything_is_trained(
    shapes: Path, tiny_run: Path, tmp_path: Path
) -> None:
    losses = {"l1": 1.0, "perceptual": 0.1, "perceptual_network": "efficientnet-lite9"}
    asked = {"decoder": {"steps": 2, "losses": losses}}
    with pytest.raises(ModelError, match="unknown model 'efficientnet-lite9'"):
        train(tmp_path / "new", {"data": {"path": str(shapes)}, **asked}, recipe="tiny")
    assert not RunDirectory(tmp_path / "new").config.exists()
    out = tmp_path / "finished"
    shutil.copytree(tiny_run, out)
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ModelError, match="unknown model 'efficientnet-lite9'"):
        train(out, asked)
    assert content == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"steps": 1, "architecture": {"kind": "lean", "widths": [8]}}, r"decoder\.architecture .*4 times each side"),
        ({"steps": 1, "architecture": {"widths": [8]}}, r"decoder\.architecture\.kind null; expected one of published"),
        ({"losses": {"commitment": 0.1}}, r"decoder\.losses\.commitment 0\.1; expected 0"),
        (
            {"steps": 1, "losses": {"likelihood": 1.0}},
            r"decoder\.losses\.likelihood 1\.0 and image\.model\.pixels signed",
        ),
        ({"steps": 1, "losses": {"adversarial": 1.0}}, r"decoder\.losses\.discriminator_layers 3 .* 24 pixels or more"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        overlay(RECIPES["tiny-vqvae"](), {"decoder": settings})


def test_a_model_of_twice_the_side_is_trained_in_one_stage_too() -> None:
    model = DiscreteVAEConfig(
        image_size=(16, 16), architecture=LeanConfig(widths=(8, 16)), decoder=LeanConfig(widths=(8, 8, 8))
    )
    assert (model.scale, model.drawn_size, model.grid_size) == (2, (32, 32), (4, 4))
    assert overlay(model, {"decoder": None}).scale == 1
    with pytest.raises(ConfigError, match="double the grid"):
        dataclasses.replace(model, decoder=LeanConfig(widths=(8,)))
    assert RunConfig().drawn_model() == RunConfig().image.model
