"""The filters against their definitions, and the noise against the distributions it claims."""

import itertools

import pytest
import torch
import transformers.generation.logits_process as theirs
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from trencadis.errors import ConfigError
from trencadis.sampling import (
    Sampling,
    draw,
    filter_logits,
    guidance_scales,
    guide,
    gumbel_noise,
    uniform_noise,
)

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
    drawn = draw(logits.expand(10_000, 3), torch.arange(10_000), 17)
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


@settings(deadline=None, max_examples=50)
@given(
    top_k=st.none() | st.integers(1, 40),
    top_p=st.none() | st.floats(0.05, 0.999),
    temperature=st.floats(0.2, 3.0),
    seed=st.integers(0, 1000),
)
def test_filters_equal_those_of_transformers(
    top_k: int | None, top_p: float | None, temperature: float, seed: int
) -> None:
    logits = torch.randn(1, 30, generator=torch.Generator().manual_seed(seed)) * 3
    expected = theirs.TemperatureLogitsWarper(temperature)(None, logits)
    expected = expected if top_k is None else theirs.TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None:
        # They sum from the other end: on the edge itself rounding may let one token more or fewer in.
        reached = expected.softmax(-1).sort(descending=True).values.cumsum(-1)
        assume((reached - top_p).abs().min() > 1e-5)
        expected = theirs.TopPLogitsWarper(top_p)(None, expected)
    ours = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert torch.equal(ours, expected)


def test_rows_with_settings_of_their_own_are_filtered_as_alone() -> None:
    logits, temperature = torch.randn(4, 30) * 3, torch.tensor([1.0, 0.7, 2.0, 1.0])
    top_k, top_p = torch.tensor([2**31, 5, 30, 1]), torch.tensor([0.8, 2.0, 0.5, 2.0])
    together = filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    for row in range(4):
        alone = filter_logits(
            logits[row : row + 1],
            temperature=float(temperature[row]),
            top_k=None if top_k[row] >= 30 else int(top_k[row]),
            top_p=None if top_p[row] > 1 else float(top_p[row]),
        )
        assert torch.equal(together[row], alone[0])


def test_all_tokens_that_tie_with_the_last_of_top_k_stay() -> None:
    logits = torch.tensor([[3.0, 1.0, 2.0, 1.0, 0.0]])
    assert filter_logits(logits, temperature=1.0, top_k=3).isfinite().tolist() == [[True, True, True, True, False]]


def test_noise_is_that_of_its_position_whatever_holds_the_position() -> None:
    seeds = torch.tensor([4, 2**63 - 1, 0])
    positions = torch.tensor([[0, 7], [5, 1023], [2, 0]])
    together = gumbel_noise(seeds[:, None].expand(3, 2), positions, 11)
    for row, column in itertools.product(range(3), range(2)):
        position = int(positions[row, column])
        assert torch.equal(gumbel_noise(seeds[row : row + 1], position, 11)[0], together[row, column])
        assert torch.equal(gumbel_noise(seeds[row : row + 1], torch.tensor(position), 11)[0], together[row, column])
    logits = torch.randn(3, 11)
    assert torch.equal(draw(logits, seeds, 9), draw(logits, seeds, torch.tensor(9)))


def test_scales_rise_from_1_to_the_whole_of_it() -> None:
    assert guidance_scales(3.0, "constant", 5).tolist() == [3, 3, 3, 3, 3]
    assert guidance_scales(3.0, "linear", 5).tolist() == [1, 1.5, 2, 2.5, 3]
    cosine = guidance_scales(3.0, "cosine", 5)
    assert torch.allclose(cosine, torch.tensor([1, 2 - 0.5**0.5, 2, 2 + 0.5**0.5, 3]))
    for schedule in ("linear", "cosine"):
        assert guidance_scales(3.0, schedule, 64).mean() == pytest.approx(2.0)
        assert guidance_scales(3.0, schedule, 1).tolist() == [3]


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
        {"jacobi_window": 0},
    ],
)
def test_a_setting_out_of_its_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Sampling(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["guidance_schedule", "decoder"])
def test_an_unknown_name_is_refused(name: str) -> None:
    sampling = Sampling()
    object.__setattr__(sampling, name, "parallel")  # the tests' types would refuse it first
    with pytest.raises(ConfigError, match=f"{name} parallel; expected one of "):
        sampling.__post_init__()
