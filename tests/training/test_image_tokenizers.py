"""Image tokenizers of every kind: trained, stopped and gone on with, drawn with, and given from elsewhere."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from trencadis.config import DataConfig, ImageStage
from trencadis.config.plain import overlay
from trencadis.errors import ConfigError, ModelError
from trencadis.image import DiscreteVAE
from trencadis.image.perceptual import VGG16
from trencadis.inspection import inspect
from trencadis.pipeline import DALLE
from trencadis.recipes import RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training.image import ImageTraining
from trencadis.training.known_pairs import read_pairs
from trencadis.training.run import train
from trencadis.training.run_pairs import RunPairs
from trencadis.training.trainer import Trainer

KINDS = ("tiny", "tiny-strided", "tiny-ibq", "tiny-vqvae", "tiny-vqgan")
SHORT = {"threads": 1, "image": {"steps": 12}, "transformer": {"steps": 4}, "ranker": {"steps": 2, "batch_size": 16}}


@pytest.fixture(scope="module")
def data(shapes: Path) -> DataConfig:
    return DataConfig(path=str(shapes), held_out=0.1)


@pytest.fixture(scope="module")
def pairs(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> RunPairs:
    return read_pairs(data, 0, RunDirectory(tmp_path_factory.mktemp("pairs")))


def stage_of(recipe: str, **changes: object) -> ImageStage:
    return overlay(RECIPES[recipe]().image, {"batch_size": 8, **changes}, "image.")


def updates(trainer: Trainer, count: int) -> None:
    trainer.stage.model.train()
    for microbatches in trainer.stage.batches(trainer.step, trainer.step + count):
        trainer.update(microbatches)


def state(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {f"model {name}": tensor for name, tensor in trainer.stage.model.state_dict().items()}
    tensors |= {f"ema {name}": tensor for name, tensor in trainer.ema.state_dict().items()}
    tensors |= {f"extra {name}": tensor for name, tensor in trainer.stage.extra_state().items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


RESUMED: dict[str, dict[str, object]] = {
    "tiny": {"relaxation": "gumbel"},
    # Codes are judged after 1,600 tokens, which is in the thirteenth update.
    "tiny-strided": {"relaxation": "straight_through", "revive_below": 0.5},
    "tiny-ibq": {"revive_below": 0.5},
    "tiny-vqvae": {"microbatches": 2, "revive_below": 0.5},
    "tiny-vqgan": {"microbatches": 2, "losses": {"adversarial_start": 0.2, "lecam": 0.1}},
}


@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("recipe", KINDS)
def test_a_stopped_training_goes_on_exactly(recipe: str, pairs: RunPairs, data: DataConfig, tmp_path: Path) -> None:
    def trainer() -> Trainer:
        stage = stage_of(recipe, **RESUMED[recipe])
        return Trainer(ImageTraining(stage, pairs, data, seed=3, device=torch.device("cpu")), 20)

    whole, first, second = trainer(), trainer(), trainer()
    updates(whole, 14)
    updates(first, 7)
    first.save(tmp_path)
    torch.rand(7)  # what else the process draws makes no difference
    second.resume(tmp_path)
    assert second.step == 7
    updates(second, 7)
    expected, found = state(whole), state(second)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    if recipe == "tiny-vqgan":
        assert sum("adversary.model/" in name for name in expected) > 5
        assert sum("adversary.optimizer/" in name for name in expected) > 10
    if recipe != "tiny":
        assert not torch.equal(state(first)["model decoder.output.weight"], found["model decoder.output.weight"])


@pytest.mark.parametrize("recipe", KINDS)
def test_every_weight_is_trained(recipe: str, pairs: RunPairs, data: DataConfig) -> None:
    stage = stage_of(recipe, losses={"adversarial_start": 0.0})
    training = ImageTraining(stage, pairs, data, seed=0, device=torch.device("cpu"))
    trainer = Trainer(training, 100)
    before = state(trainer)
    updates(trainer, 2)
    after = state(trainer)
    own = [name for name in before if name.startswith("model ")]
    assert [name for name in own if torch.equal(before[name], after[name])] == []
    discriminator = [name for name in before if "adversary.model/" in name]
    assert bool(discriminator) == (recipe == "tiny-vqgan")
    assert [name for name in discriminator if torch.equal(before[name], after[name])] == []
    # The averages that are kept in the end hold the codebook too, moved by no gradient.
    assert not torch.equal(before["ema bottleneck.codebook"], after["ema bottleneck.codebook"])


def test_the_discriminator_waits_for_its_turn(pairs: RunPairs, data: DataConfig) -> None:
    stage = stage_of("tiny-vqgan", losses={"adversarial_start": 0.5})
    trainer = Trainer(ImageTraining(stage, pairs, data, seed=0, device=torch.device("cpu")), 8)
    before = state(trainer)
    updates(trainer, 4)
    between = state(trainer)
    updates(trainer, 1)
    after = state(trainer)
    names = [name for name in before if "adversary.model/" in name]
    assert all(torch.equal(before[name], between[name]) for name in names)
    assert not any(torch.equal(between[name], after[name]) for name in names)


def test_whoever_looks_at_pictures_sees_them_as_they_are_shown(
    pairs: RunPairs, data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[Tensor]()

    def watched(network: Callable[[Tensor], object], images: Tensor) -> object:
        seen.append(images.detach())
        return network(images)

    stage = stage_of("tiny-vqgan", losses={"adversarial_start": 0.0, "perceptual": 1.0})
    training = ImageTraining(stage, pairs, data, seed=0, device=torch.device("cpu"))
    adversary, network = training._terms.adversary, VGG16()
    assert adversary is not None
    training._terms.network = network
    monkeypatch.setattr(adversary, "logits", partial(watched, adversary.logits))
    monkeypatch.setattr(network, "features", partial(watched, network.features))
    with torch.no_grad():
        training.model.decoder.output.bias[0] = 3.0  # type: ignore[index]
    updates(Trainer(training, 4), 1)
    by_adversary, _of_real, by_network = seen
    for pictures in (by_adversary, by_network):
        assert pictures[:, 0].eq(1).all()
        assert not pictures[:, 1].eq(1).all()


@pytest.mark.usefixtures("one_validation", "without_type_checks")
@pytest.mark.parametrize("recipe", KINDS[1:])
def test_a_recipe_trains_and_draws(recipe: str, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(out, {"data": {"path": str(shapes), "held_out": 0.1}, **SHORT}, recipe=recipe)
    model = DALLE.from_pretrained(out / "model")
    drawn = model.generate("a red circle", candidates=2, keep=1, seed=1)
    assert drawn.images[0].size == (16, 16)
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    image_lines = [line for line in log if line["stage"] == "image"]
    expected = {"tiny-strided": {"likelihood", "kl"}, "tiny-vqvae": {"l2", "commitment"}}
    expected["tiny-ibq"] = {"rmse", "entropy", "commitment", "codebook"}
    expected["tiny-vqgan"] = {"l1", "commitment"}
    assert expected[recipe] <= set().union(*image_lines)
    plan = json.loads((out / "plan.json").read_text())["choices"]
    said = {choice["what"]: choice["value"] for choice in plan}
    assert said.get("perceptual term") == ("none" if recipe == "tiny-vqgan" else None)
    assert (out / "samples" / "codes.png").is_file()


@pytest.mark.parametrize("recipe", ["tiny", "tiny-ibq"])
def test_bfloat16_is_close_to_float32(recipe: str, pairs: RunPairs, data: DataConfig) -> None:
    def first_loss(precision: str) -> float:
        training = ImageTraining(stage_of(recipe, precision=precision), pairs, data, seed=0, device=torch.device("cpu"))
        trainer = Trainer(training, 10)
        batches = training.batches(0, 1)
        measured = trainer.update(next(batches))
        batches.close()
        assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
        return float(measured["loss"])

    wide, narrow = first_loss("float32"), first_loss("bfloat16")
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=0.02)


@pytest.mark.usefixtures("without_type_checks")
def test_the_averages_make_a_vqvae_reconstruct(pairs: RunPairs, data: DataConfig) -> None:
    stage = stage_of("tiny-vqvae", batch_size=32, codebook_decay=0.9, revive_below=0.5)
    trainer = Trainer(ImageTraining(stage, pairs, data, seed=0, device=torch.device("cpu")), 60)
    updates(trainer, 3)
    with trainer.ema.apply_to(trainer.stage.model):
        early = trainer.stage.validate()["validation_psnr"]
    updates(trainer, 57)
    with trainer.ema.apply_to(trainer.stage.model):
        measured = trainer.stage.validate()
    assert measured["validation_psnr"] > early + 1
    assert measured["code_use"] > 0.5


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that some other training left behind: of pictures of 32×32 pixels in a grid of 8×8."""
    torch.manual_seed(0)
    config = dataclasses.replace(RECIPES["tiny-vqvae"]().image.model, image_size=(32, 32), image_vocab_size=20)
    directory = tmp_path_factory.mktemp("given") / "tokenizer"
    DiscreteVAE(config).save_pretrained(directory)
    return directory


@pytest.mark.usefixtures("one_validation", "without_type_checks")
@pytest.mark.parametrize(("image_size", "grid"), [(None, (8, 8)), ([24, 32], (6, 8))])
def test_a_given_tokenizer_is_used_as_it_is(
    given: Path, shapes: Path, tmp_path: Path, image_size: list[int] | None, grid: tuple[int, int]
) -> None:
    out, tokenizer = tmp_path / "run", tmp_path / "given"
    shutil.copytree(given, tokenizer)
    image: dict[str, object] = {"pretrained": str(tokenizer)}
    image |= {"model": {"image_size": image_size}} if image_size else {}
    settings = {"data": {"path": str(shapes), "held_out": 0.1}, **SHORT, "image": image}
    config = train(out, settings, recipe="tiny")
    assert config.transformer_model().grid_size == grid
    assert config.transformer_model().image_vocab_size == 20
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in log} == {"transformer", "ranker"}
    model = DALLE.from_pretrained(out / "model")
    assert model.image_tokenizer.grid_size == grid
    expected, kept = (load_file(path / "model.safetensors") for path in (given, out / "model" / "image"))
    assert all(torch.equal(expected[name], kept[name]) for name in expected | kept)
    drawn = model.generate("a red circle", candidates=1, keep=1)
    assert drawn.images[0].size == (4 * grid[1], 4 * grid[0])
    assert inspect(str(out)).facts["image"] == f"given: {tokenizer}"
    shutil.rmtree(tokenizer)
    (out / "model" / "config.json").unlink()
    train(out, {}, recipe="tiny")  # with the copy in the model
    assert (out / "model" / "config.json").is_file()


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_the_shipped_tokenizer_may_be_given(shapes: Path, tmp_path: Path) -> None:
    settings = {"data": {"path": str(shapes), "held_out": 0.1}, **SHORT, "image": {"pretrained": "emoji"}}
    config = train(tmp_path / "run", settings, recipe="tiny")
    shipped = DALLE.from_pretrained("emoji").image_tokenizer
    assert config.transformer_model().image_vocab_size == shipped.image_vocab_size
    assert DALLE.from_pretrained(tmp_path / "run" / "model").image_tokenizer.grid_size == shipped.grid_size


@pytest.mark.usefixtures("one_validation", "without_type_checks")
def test_the_time_of_a_given_tokenizer_goes_to_the_others(
    given: Path, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trencadis.training.plan.FEWEST_STEPS", 3)
    settings = {"data": {"path": str(shapes), "held_out": 0.1}, "threads": 1, "image": {"pretrained": str(given)}}
    settings |= {"ranker": {"steps": 2, "batch_size": 16}}
    config = train(tmp_path / "run", settings, recipe="tiny", hours=1 / 3600)
    assert config.image.steps is None
    said = json.loads((tmp_path / "run" / "plan.json").read_text())["choices"]
    shares = {choice["what"]: choice["why"] for choice in said}
    assert shares["transformer.steps"].startswith("78%")  # 0.53 of 0.53 + 0.15
    assert "image.steps" not in shares


def test_settings_that_do_not_go_together(given: Path, shapes: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"pretrained": str(given), "model": {"architecture": {"hidden_dim": 8}}}, ConfigError, "the tokenizer's own"),
        (
            {"pretrained": str(given), "model": {"image_size": [30, 32]}},
            ConfigError,
            r"image_size \[30, 32\]; expected .* multiples of 4",
        ),
        ({"pretrained": str(tmp_path / "nowhere")}, ModelError, "no model"),
        ({"model": {"pixels": "signed"}}, ConfigError, "likelihood"),
        ({"losses": {"likelihood": 0.0}}, ConfigError, "expected a pixel term above 0"),
        ({"losses": {"adversarial": 1.0, "discriminator_layers": 3}}, ConfigError, "24 pixels or more"),
        ({"losses": {"perceptual_network": "emoji"}}, ConfigError, "perceptual 0.0; expected a weight above 0"),
        ({"losses": {"entropy": -1.0}}, ConfigError, r"image\.losses\.entropy"),
        ({"losses": {"codebook": -1.0}}, ConfigError, r"image\.losses\.codebook"),
        ({"revive_below": 2.0}, ConfigError, "revive_below"),
        ({"relaxation": "rotation"}, ConfigError, "gumbel or straight_through or ibq"),
        ({"relaxation": "ibq", "model": {"codes": {"kind": "cosine"}}}, ConfigError, "expected relaxation rotation"),
        ({"model": {"architecture": {"hidden_dim": 18}}}, ConfigError, "multiples of 4"),
        (
            {"model": {"architecture": {"kind": "lean", "widths": []}}},
            ConfigError,
            r"image\.model\.architecture\.widths",
        ),
        ({"optimizer": {"muon": True}}, ConfigError, "no hidden matrices"),
    ]
    # Nothing has to be timed where all steps are given, and so no stage is tried out.
    steps = {name: {"steps": 2} for name in ("transformer", "ranker")}
    for image, error, match in cases:
        settings = {"data": {"path": str(shapes)}, **steps, "image": {"steps": 2, **image}}
        with pytest.raises(error, match=match):
            train(tmp_path / "run", settings, recipe="tiny")
        assert not (tmp_path / "run").exists()
