import math

import pytest
import torch

from trencadis.errors import ConfigError
from trencadis.image.relaxation import relax, standard_gumbel

LOGITS = torch.tensor([1.0, 2.0, 0.5])


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return standard_gumbel(shape, generator=torch.Generator().manual_seed(seed))


def test_gumbel_max_draws_from_the_softmax() -> None:
    draws = 10_000
    counts = torch.bincount((LOGITS + _noise(draws, 3)).argmax(-1), minlength=3)
    expected = draws * LOGITS.softmax(0)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 13.8  # exceeded once in a thousand with two degrees of freedom


def test_noise_is_standard_gumbel() -> None:
    noise = _noise(200_000).double()
    euler = 0.5772156649
    assert noise.dtype == torch.float64
    assert float(noise.mean()) == pytest.approx(euler, abs=5 * 1.2825 / math.sqrt(200_000))
    assert float(noise.var()) == pytest.approx(math.pi**2 / 6, rel=0.03)
    assert noise.isfinite().all()


def test_noise_is_float32_and_hangs_on_the_generator_alone() -> None:
    first = _noise(4, 5)
    torch.manual_seed(5)
    assert first.dtype == torch.float32
    assert torch.equal(first, _noise(4, 5))
    assert not torch.equal(first, _noise(4, 5, seed=1))


def test_a_falling_temperature_draws_the_relaxation_to_the_hard_codes() -> None:
    logits = torch.randn(6, 4, 4, 32, generator=torch.Generator().manual_seed(1))
    noise = _noise(6, 4, 4, 32)
    hard = torch.nn.functional.one_hot((logits + noise).argmax(-1), 32).float()
    gaps = [float((relax(logits, noise, t) - hard).abs().sum(-1).mean()) for t in (1.0, 1 / 4, 1 / 16, 1 / 256)]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 0.5
    torch.testing.assert_close(relax(logits, noise, 1e-6), hard)


def test_without_noise_at_temperature_one_it_is_the_softmax() -> None:
    torch.testing.assert_close(relax(LOGITS, None, 1.0), LOGITS.softmax(0))


def test_straight_through_is_hard_forward_and_relaxed_backward() -> None:
    weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    gradients: list[torch.Tensor] = []
    for straight_through in (False, True):
        logits = LOGITS.expand(5, 3).clone().requires_grad_()
        codes = relax(logits, _noise(5, 3), 0.5, straight_through=straight_through)
        gradients += torch.autograd.grad((codes * weights).sum(), logits)
        if straight_through:
            assert torch.equal(codes, torch.nn.functional.one_hot((logits + _noise(5, 3)).argmax(-1), 3).float())
    assert gradients[0].any()
    torch.testing.assert_close(*gradients)


def test_autocast_leaves_it_in_float32() -> None:
    logits = torch.randn(64, 32, generator=torch.Generator().manual_seed(3)).requires_grad_()
    exact = relax(logits, _noise(64, 32), 1 / 16)
    (exact_gradient,) = torch.autograd.grad(exact.square().sum(), logits)
    with torch.autocast("cpu", torch.bfloat16):
        relaxed = relax(logits, _noise(64, 32), 1 / 16)
    (gradient,) = torch.autograd.grad(relaxed.square().sum(), logits)
    assert relaxed.dtype == torch.float32
    assert torch.equal(relaxed, exact)
    assert torch.equal(gradient, exact_gradient)
    coarse = logits.detach().bfloat16()
    assert torch.equal(relax(coarse, _noise(64, 32), 1 / 16), relax(coarse.float(), _noise(64, 32), 1 / 16))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_a_temperature_that_cannot_be(temperature: float) -> None:
    with pytest.raises(ConfigError, match="expected a temperature above 0"):
        relax(LOGITS, torch.zeros(3), temperature)
