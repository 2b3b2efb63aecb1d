"""The filters against their definitions, and the noise against the distributions it claims."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trencadis.errors import ConfigError
from trencadis.sampling import Sampling, draw, filter_logits, guide, gumbel_noise, uniform_noise

seeds = st.integers(0, 2**63 - 1)


@settings(deadline=None, max_examples=20)
@given(seed=seeds, position=st.integers(0, 2**20))
def test_uniform_noise_is_uniform_and_never_0_or_1(seed: int, position: int) -> None:
    noise = uniform_noise(torch.tensor([seed]), position, 4096)[0]
    assert noise.min() > 0
    assert noise.max() < 1
    assert stats.kstest(noise.numpy(), "uniform").pvalue > 1e-6


def test_noise_of_neighbouring_seeds_positions_and_tokens_is_independent() -> None:
    by_seed = uniform_noise(torch.arange(3000), 5, 64)
    by_position = torch.stack([uniform_noise(torch.tensor([3]), p, 64)[0] for p in range(3000)])
    for noise in (by_seed, by_position):
        correlation = torch.corrcoef(noise.T)
        correlation.fill_diagonal_(0)
        assert correlation.abs().max() < 6 / 3000**0.5
        assert stats.kstest(noise.flatten().numpy(), "uniform").pvalue > 1e-6


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([1.0, 2.0, 0.5])
    drawn = draw(logits.expand(10_000, 3), torch.arange(10_000), 17, Sampling())
    counts = drawn.bincount(minlength=3)
    assert stats.chisquare(counts.numpy(), (logits.double().softmax(0) * 10_000).numpy()).pvalue > 1e-4


def test_noise_does_not_depend_on_the_batch() -> None:
    together = gumbel_noise(torch.tensor([4, 5, 6]), 9, 100)
    assert torch.equal(together[1:2], gumbel_noise(torch.tensor([5]), 9, 100))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.floats(0.05, 1.0), st.floats(0.2, 3.0), st.integers(0, 1000))
def test_filters_equal_their_definitions(top_k: int, top_p: float, temperature: float, seed: int) -> None:
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(seed)) * 3
    kept = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)[0].isfinite()
    probabilities = (logits[0] / temperature).softmax(0)
    order = probabilities.argsort(descending=True)[:top_k]
    within = probabilities[order] / probabilities[order].sum()
    needed = next((n + 1 for n in range(len(order)) if within[: n + 1].sum() >= top_p - 1e-6), len(order))
    expected = set(order[:needed].tolist())
    # On the edge itself rounding may let one token more or fewer in.
    assert len(expected ^ set(kept.nonzero().flatten().tolist())) <= (0 if top_p == 1 else 1)
    assert kept[probabilities.argmax()]


def test_guidance_of_one_is_the_conditional_half() -> None:
    conditional, unconditional = torch.randn(2, 9), torch.randn(2, 9)
    assert torch.allclose(guide(conditional, unconditional, 1.0), conditional, atol=1e-6)
    assert torch.equal(guide(conditional, unconditional, 0.0), unconditional)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"guidance_scale": -1.0},
    ],
)
def test_a_setting_out_of_its_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Sampling(**options)  # type: ignore[arg-type]
