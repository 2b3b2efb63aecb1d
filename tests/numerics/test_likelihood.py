import math

import pytest
import torch

from trencadis.image.likelihood import logit_laplace_log_prob, map_pixels, unmap_pixels


@pytest.mark.parametrize("mu", [-2.0, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("b", [0.05, 0.5, 0.9])
def test_the_density_integrates_to_one(mu: float, b: float) -> None:
    # Evenly spaced in x, so that the map onto (0, 1) is tested too; midpoints keep clear of 0 and 1.
    steps = 400_000
    x = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    log_prob = logit_laplace_log_prob(x, torch.full_like(x, mu), torch.full_like(x, math.log(b)))
    assert float(log_prob.double().exp().mean()) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("x", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("mu", "log_b"), [(0.0, 0.0), (-1.5, -2.0), (2.0, 1.0)])
def test_it_is_the_published_formula(x: float, mu: float, log_b: float) -> None:
    b = math.exp(log_b)
    density = math.exp(-abs(math.log(x / (1 - x)) - mu) / b) / (2 * b * x * (1 - x))
    log_prob = logit_laplace_log_prob(torch.tensor(x), torch.tensor(mu), torch.tensor(log_b))
    assert float(log_prob) == pytest.approx(math.log(density), abs=1e-5)


def test_the_likeliest_median_is_the_pixel_s_logit() -> None:
    x = torch.tensor(0.3)
    mus = torch.linspace(-3, 3, 601)
    log_probs = logit_laplace_log_prob(x.expand(601), mus, torch.full((601,), -1.0))
    assert float(mus[log_probs.argmax()]) == pytest.approx(math.log(0.3 / 0.7), abs=0.01)


def test_pixels_are_mapped_and_back() -> None:
    pixels = torch.linspace(0, 1, 256)
    mapped = map_pixels(pixels)
    assert float(mapped[0]) == pytest.approx(0.1)
    assert float(mapped[-1]) == pytest.approx(0.9)
    torch.testing.assert_close(unmap_pixels(mapped), pixels)
    assert unmap_pixels(torch.tensor([0.0, 1.0])).tolist() == [0, 1]


def test_half_precision_maps_are_read_in_float32() -> None:
    x, mu, log_b = torch.tensor([0.25, 0.75]), torch.tensor([0.5, -0.5]), torch.tensor([-3.0, 0.5])
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = logit_laplace_log_prob(x, mu.bfloat16(), log_b.bfloat16())
    assert log_prob.dtype == torch.float32
    assert torch.equal(log_prob, logit_laplace_log_prob(x, mu, log_b))
