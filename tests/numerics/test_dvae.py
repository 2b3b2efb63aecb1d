import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trencadis.config import DiscreteVAEConfig, PublishedConfig
from trencadis.image import DiscreteVAE
from trencadis.image.likelihood import logit_laplace_log_prob, map_pixels
from trencadis.image.loss_terms import divergence_from_uniform, divergence_weight, likelihood_loss
from trencadis.image.metrics import psnr
from trencadis.image.relaxation import relax, standard_gumbel
from trencadis.randomness import derive_seed
from trencadis.training.quantizers import Relaxation
from trencadis.training.schedules import cosine_schedule

TINY = DiscreteVAEConfig(
    image_size=(16, 16),
    image_vocab_size=32,
    latent_dim=16,
    architecture=PublishedConfig(hidden_dim=16, width_multipliers=(1, 2), blocks_per_group=1),
)

RELAXATIONS = ("gumbel", "straight_through", "ibq")


def _dvae() -> DiscreteVAE:
    torch.manual_seed(0)
    return DiscreteVAE(TINY)


def _images(batch: int = 4) -> Tensor:
    """Discs of flat colours on a flat ground."""
    generator = torch.Generator().manual_seed(1)
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    radii, colours = torch.randint(3, 7, (batch,), generator=generator), torch.rand(batch, 2, 3, generator=generator)
    inside = ((rows - 8) ** 2 + (columns - 8) ** 2)[None] < (radii**2)[:, None, None]
    return torch.where(inside[:, None], colours[:, 0, :, None, None], colours[:, 1, :, None, None])


def _noise(batch: int, seed: int = 0) -> Tensor:
    generators = [torch.Generator().manual_seed(derive_seed(seed + image, "codes")) for image in range(batch)]
    return torch.stack([standard_gumbel((8, 8, 32), generator=generator) for generator in generators])


class Loss(NamedTuple):
    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def _loss(
    dvae: DiscreteVAE,
    images: Tensor,
    relaxation: str = "gumbel",
    *,
    seed: int = 0,
    relaxation_temperature: float = 0.7,
    kl_weight: float = 6.6,
) -> Loss:
    """The negated evidence lower bound, put together of its parts."""
    latents = dvae.latents(images)
    seeds = range(seed, seed + len(images))
    quantized = Relaxation(dvae.bottleneck, seeds, relaxation, relaxation_temperature)(latents)
    reconstruction = likelihood_loss(dvae.draw(quantized.embedded), images).mean()
    kl = divergence_from_uniform(latents).mean()
    return Loss(reconstruction + divergence_weight(kl_weight, down_factor=2) * kl, reconstruction, kl)


def test_the_divergence_is_that_of_the_formula() -> None:
    logits = 3 * torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    q = logits.double().softmax(-1)
    expected = (q * (q / (1 / 7)).log()).sum(-1).mean()
    assert float(divergence_from_uniform(logits).mean()) == pytest.approx(float(expected), rel=1e-5)
    assert float(divergence_from_uniform(torch.full((1, 2, 2, 8), 4.0))) == pytest.approx(0, abs=1e-6)
    certain = 1e4 * torch.eye(8).view(1, 2, 4, 8)
    assert float(divergence_from_uniform(certain)) == pytest.approx(math.log(8), rel=1e-6)


def test_the_divergence_does_not_change_with_the_batch_or_the_grid() -> None:
    logits = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    one = divergence_from_uniform(logits)
    torch.testing.assert_close(divergence_from_uniform(logits.repeat(8, 1, 1, 1)), one.repeat(8))
    torch.testing.assert_close(divergence_from_uniform(logits.repeat(1, 4, 2, 1)), one)


def test_the_published_weight_of_the_divergence() -> None:
    assert divergence_weight(6.6, down_factor=8) == pytest.approx(6.6 / 192)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_the_loss_is_the_sums_divided_by_the_subpixels(relaxation: str) -> None:
    dvae, images = _dvae(), _images(2)
    logits = dvae.latents(images)
    if relaxation == "ibq":
        codes = F.one_hot(logits.argmax(-1), 32).float()
    else:
        codes = relax(logits, _noise(2), 0.7, straight_through=relaxation == "straight_through")
    mu, log_b = dvae.draw(codes @ dvae.bottleneck.codebook).chunk(2, dim=1)
    likelihood = logit_laplace_log_prob(map_pixels(images), mu, log_b)
    divergence = (logits.softmax(-1) * (logits.log_softmax(-1) + math.log(32))).sum()
    per_picture = (-likelihood.sum() + 6.6 * divergence) / 2
    loss = _loss(dvae, images, relaxation)
    torch.testing.assert_close(loss.total, per_picture / (16 * 16 * 3))
    torch.testing.assert_close(loss.reconstruction, -likelihood.mean())
    torch.testing.assert_close(loss.kl, divergence / (2 * 8 * 8))
    shown = ((mu.sigmoid() - 0.1) / 0.8).clamp(0, 1)
    torch.testing.assert_close(dvae.picture(torch.cat([mu, log_b], dim=1)), shown)


def test_the_loss_is_the_mean_over_the_pictures() -> None:
    dvae, images = _dvae(), _images(4)

    def loss(part: slice) -> Tensor:
        return torch.stack(_loss(dvae, images[part], "ibq"))  # without noise: microbatches draw their own

    parts = (loss(slice(0, 2)) + loss(slice(2, 4))) / 2
    torch.testing.assert_close(loss(slice(0, 4)), parts)


def test_encoding_is_deterministic_in_training_too() -> None:
    dvae, images = _dvae(), _images()
    tokens = dvae.eval().encode(images)
    assert torch.equal(tokens, dvae.latents(images).argmax(-1))
    dvae.train()
    for seed in range(3):
        torch.manual_seed(seed)
        assert torch.equal(dvae.encode(images), tokens)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_the_gradient_reaches_every_parameter(relaxation: str) -> None:
    dvae = _dvae()
    loss = _loss(dvae, _images(), relaxation)
    gradients = torch.autograd.grad(loss.total, list(dvae.parameters()))
    for (name, _), gradient in zip(dvae.named_parameters(), gradients, strict=True):
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


def test_autocast_keeps_the_loss_in_float32() -> None:
    dvae, images = _dvae(), _images()
    exact = _loss(dvae, images)
    with torch.autocast("cpu", torch.bfloat16):
        loss = _loss(dvae, images)
        assert dvae.latents(images).dtype == torch.float32
    assert all(part.dtype == torch.float32 for part in loss)
    torch.testing.assert_close(loss.total, exact.total, atol=0.02, rtol=0.02)


@pytest.mark.usefixtures("without_type_checks")
def test_one_batch_is_learned_by_heart() -> None:
    dvae, images = _dvae(), _images()
    optimizer = torch.optim.Adam(dvae.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(2)
    for step in range(400):
        temperature = cosine_schedule(step, start=1.0, end=1 / 16, steps=150)
        kl_weight = cosine_schedule(step, start=0.0, end=1.0, steps=40)
        # A flat colour has an unbounded density: without a little noise, ever smaller scales would be what is learned.
        grainy = (images + 0.1 * (torch.rand(images.shape, generator=generator) - 0.5)).clamp(0, 1)
        loss = _loss(dvae, grainy, seed=4 * step, relaxation_temperature=temperature, kl_weight=kl_weight)
        optimizer.zero_grad()
        torch.autograd.backward(loss.total)
        torch.nn.utils.clip_grad_norm_(dvae.parameters(), 1.0)
        optimizer.step()
    # Hard codes, so that a gap between them and the relaxed ones would show. A single code gives 14 to 16 dB.
    assert float(psnr(dvae.reconstruct(images), images).mean()) > 19
    assert len(set(dvae.encode(images).flatten().tolist())) > 4
