"""Microbatches save memory and change nothing else: the same gradient, the same metrics, and a loss without effects."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.contenders.ours import synthetic_training
from tests.shapes import draw_shape
from trencadis.config import DataConfig, ImageLossConfig, TransformerConfig
from trencadis.config.losses import LOSS_TERMS
from trencadis.config.plain import overlay
from trencadis.data.pixels import to_tensor
from trencadis.image.loss_terms import TERMS
from trencadis.recipes import MODERN_DESIGN, RECIPES
from trencadis.run_directory import RunDirectory
from trencadis.training.image import ImageBatch, ImageTraining
from trencadis.training.known_pairs import read_pairs
from trencadis.training.run_pairs import RunPairs
from trencadis.training.stage import Stage
from trencadis.training.trainer import Trainer, weighted_sum
from trencadis.training.transformer import StreamBatch

CPU = torch.device("cpu")
PARTS = (2, 3, 8)
SIZES = TransformerConfig(
    text_len=16, text_vocab_size=300, grid_size=(4, 4), image_vocab_size=32, num_layers=2, num_heads=2, head_dim=16,
    kernel_size=3, design=MODERN_DESIGN,
)  # fmt: skip


@pytest.fixture(scope="module")
def pairs(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> RunPairs:
    return read_pairs(DataConfig(path=str(shapes)), 0, RunDirectory(tmp_path_factory.mktemp("pairs")))


def gradient(stage: Stage[Any], microbatches: Sequence[Any], step: int = 4) -> tuple[Tensor, dict[str, float]]:
    """Return the gradient of update number `step` of 10, in one row, and the update's metrics."""
    trainer = Trainer(stage, 10)
    trainer.step = step
    stage.model.train()
    metrics = {name: float(value) for name, value in trainer.update(microbatches).items()}
    gradients = [p.grad.flatten() for p in stage.model.parameters() if p.grad is not None]
    return torch.cat(gradients), metrics


def assert_same(expected: tuple[Tensor, dict[str, float]], found: tuple[Tensor, dict[str, float]]) -> None:
    distance = float((expected[0] - found[0]).norm() / expected[0].norm())
    assert distance < 1e-6, distance  # of float32 sums in another order
    assert found[1] == pytest.approx(expected[1], rel=1e-5, abs=1e-6)


def streams(lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return captions of these lengths, and a picture for each."""
    generator = torch.Generator().manual_seed(0)
    stream = synthetic_training(SIZES).model.stream
    captions = [torch.randint(300, (length,), generator=generator).tolist() for length in lengths]
    return stream.pad_captions(captions), torch.randint(32, (len(lengths), 4, 4), generator=generator)


@pytest.mark.parametrize("lengths", [(1, 2, 2, 3, 4, 9, 14, 0), (0, 0, 0, 0, 16, 1, 7, 0), (0,) * 8])
def test_the_transformers_gradient(lengths: tuple[int, ...]) -> None:
    def found(count: int) -> tuple[Tensor, dict[str, float]]:
        stage = synthetic_training(SIZES)
        torch.manual_seed(0)
        for parameter in stage.model.parameters():
            nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.05)
        split = zip(*(tokens.tensor_split(count) for tokens in streams(lengths)), strict=True)
        return gradient(stage, [StreamBatch(*part) for part in split])

    expected = found(1)
    for count in PARTS:
        assert_same(expected, found(count))


def images(count: int) -> Tensor:
    return torch.stack([to_tensor(draw_shape(seed, 16)[0]) for seed in range(count)])


class Edges:
    """A `FeatureNetwork`."""

    def features(self, images: Tensor) -> list[Tensor]:
        return [images[..., 1:] - images[..., :-1]]


def image_stage(recipe: str, pairs: RunPairs, **losses: float) -> ImageTraining:
    config = overlay(RECIPES[recipe](), {"image": {"optimizer": {"max_grad_norm": None}, "losses": losses}}).image
    stage = ImageTraining(config, pairs, DataConfig(), seed=0, device=CPU)
    if config.losses.perceptual:
        stage._terms.network = Edges()
    return stage


def in_float64(stage: ImageTraining) -> ImageTraining:
    stage.model.double()
    if stage._terms.adversary is not None:
        stage._terms.adversary.discriminator.double()
    if stage._codebook is not None:
        stage._codebook._averages.double()
    return stage


def image_parts(count: int, dtype: torch.dtype = torch.float32) -> list[ImageBatch]:
    parts = torch.arange(8).tensor_split(count)
    return [ImageBatch(images(8)[part].to(dtype), tuple(part.tolist())) for part in parts]


EVERY_TERM = {"tiny": {"l1": 1.0, "l2": 1.0, "entropy": 0.1}, "tiny-ibq": {"perceptual": 1.0}}


@pytest.mark.parametrize("recipe", ["tiny", "tiny-strided", "tiny-ibq", "tiny-vqvae", "tiny-vqgan"])
def test_the_image_tokenizers_gradient(recipe: str, pairs: RunPairs, monkeypatch: pytest.MonkeyPatch) -> None:
    # A low relaxation temperature magnifies the rounding of float32: everything is computed in float64 instead.
    monkeypatch.setattr(Tensor, "float", Tensor.double)

    def found(count: int) -> tuple[tuple[Tensor, dict[str, float]], dict[str, Tensor]]:
        stage = in_float64(image_stage(recipe, pairs, **EVERY_TERM.get(recipe, {})))
        return gradient(stage, image_parts(count, torch.float64)), stage.extra_state()

    expected, extra = found(1)
    assert ("adversarial" in expected[1]) == (recipe == "tiny-vqgan")
    for count in PARTS:
        ours, own_extra = found(count)
        assert_same(expected, ours)
        # What is learnt without the optimizers is the same too: codebook, counts and discriminator.
        assert extra.keys() == own_extra.keys()
        for name, tensor in extra.items():
            torch.testing.assert_close(own_extra[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_these_are_all_terms(pairs: RunPairs) -> None:
    found: set[str] = set()
    for recipe in ("tiny", "tiny-ibq", "tiny-vqgan"):
        found |= gradient(image_stage(recipe, pairs, **EVERY_TERM.get(recipe, {})), image_parts(2))[1].keys()
    assert found >= LOSS_TERMS.keys()
    assert TERMS.keys() == LOSS_TERMS.keys()
    assert LOSS_TERMS.keys() <= ImageLossConfig.__dataclass_fields__.keys()


def state_of(stage: ImageTraining) -> dict[str, Tensor]:
    state = {**stage.model.state_dict(), **stage.extra_state()}
    return {name: tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize("recipe", ["tiny", "tiny-ibq", "tiny-vqvae", "tiny-vqgan"])
def test_a_loss_changes_nothing(recipe: str, pairs: RunPairs) -> None:
    stage = image_stage(recipe, pairs)
    stage.model.train()
    before = state_of(stage)
    (batch,) = image_parts(1)
    totals = stage.totals(batch, 8, 10, is_whole=True)
    first, second = (stage.loss(batch, totals, 8, 10) for _ in range(2))
    for name, term in first.terms.items():
        assert torch.equal(term.sum, second.terms[name].sum), name
    torch.autograd.backward(weighted_sum(first.terms, totals))
    after = state_of(stage)
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    if stage._terms.adversary is not None:
        assert all(parameter.grad is None for parameter in stage._terms.adversary.discriminator.parameters())


def test_the_training_psnr_is_that_against_clean_images(pairs: RunPairs) -> None:
    stage = image_stage("tiny", pairs)
    assert stage.config.pixel_noise == 0.05
    clean = images(8)

    class Perfect(nn.Module):
        """Draws the clean images."""

        down_factor, bottleneck, decoder = stage.model.down_factor, stage.model.bottleneck, stage.model.decoder

        def forward(self, noisy: Tensor, quantizer: object) -> tuple[Any, Tensor]:
            assert 0.01 < (noisy - clean).std() < 0.04
            return stage_model(noisy, quantizer)  # type: ignore[no-any-return]

        def picture(self, maps: Tensor) -> Tensor:
            return clean + 0.01

    stage_model = stage.model
    stage.model = Perfect()  # type: ignore[assignment]
    (batch,) = image_parts(1)
    loss = stage.loss(batch, stage.totals(batch, 0, 10, is_whole=True), 0, 10)
    mean = float(loss.terms["psnr"].sum) / 8
    # Where white is drawn as brighter than white, it is shown as white.
    shown = (clean + 0.01).clamp(0, 1)
    expected = (-10 * (shown - clean).square().mean((1, 2, 3)).log10()).mean()
    assert mean == pytest.approx(float(expected), abs=1e-3)
    assert mean > 38
    assert loss.terms["psnr"].weight == 0
    assert math.isfinite(float(loss.terms["likelihood"].sum.detach()))
