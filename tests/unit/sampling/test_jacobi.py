"""Several tokens a pass give the pictures of one token a pass, which are as likely as the model says."""

import dataclasses
import itertools
from collections.abc import Sequence

import pytest
import torch
from scipy import stats
from torch import Tensor

from trencadis.config import TransformerConfig
from trencadis.sampling import (
    ImagePrompt,
    Partial,
    Sampling,
    filter_logits,
    guidance_scales,
    guide,
    jacobi,
    sample_image_tokens,
)
from trencadis.sampling.jacobi import count_right
from trencadis.transformer import KVDecoder, Transformer

pytestmark = pytest.mark.usefixtures("without_type_checks")  # tests/numerics has them
ROWS, COLUMNS, VOCAB = 2, 3, 3
IMAGE_LEN = ROWS * COLUMNS
PICTURES = torch.tensor(list(itertools.product(range(VOCAB), repeat=IMAGE_LEN)))
DRAWN = 6_000
CAPTION, OTHER = [3, 1], [2, 4, 0]


@pytest.fixture(scope="module")
def model() -> Transformer:
    return transformer((ROWS, COLUMNS), VOCAB)


def transformer(grid_size: tuple[int, int], image_vocab_size: int) -> Transformer:
    torch.manual_seed(3)
    config = TransformerConfig(
        text_len=3, text_vocab_size=5, grid_size=grid_size, image_vocab_size=image_vocab_size, num_layers=2,
        num_heads=2, head_dim=4, kernel_size=3,
    )  # fmt: skip
    model = Transformer(config).eval()
    for parameter in model.parameters():  # so that each token leans heavily on those before it
        torch.nn.init.normal_(parameter, std=1.2)
    return model


@torch.inference_mode()
def exact(model: Transformer, sampling: Sampling, negative: list[int], prompt: ImagePrompt | None = None) -> Tensor:
    """Return the probability of every picture, in the order of its number in base `VOCAB`."""
    grids = PICTURES.view(-1, ROWS, COLUMNS)
    given, without = (
        model.logits(model.stream.pad_captions([caption]).expand(len(grids), -1), grids).image
        for caption in (CAPTION, negative)
    )
    scales = guidance_scales(sampling.guidance_scale, sampling.guidance_schedule, IMAGE_LEN)
    logits = filter_logits(
        guide(given, without, scales), temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p
    )
    of_tokens = logits.double().softmax(-1).gather(2, PICTURES[..., None])[..., 0]
    if prompt is not None:
        right = (prompt.image_tokens.flatten() == PICTURES).double()
        of_tokens = right.where(prompt.kept.flatten(), of_tokens)
    return of_tokens.prod(1)


def counted(model: Transformer, sampling: Sampling, negative: list[int], **options: object) -> Tensor:
    """Return how often each picture is drawn."""
    drawn = sample_image_tokens(
        KVDecoder(model),
        model.stream.pad_captions([CAPTION]).expand(DRAWN, -1),
        range(DRAWN),
        sampling,
        negative_tokens=model.stream.pad_captions([negative])[0],
        **options,  # type: ignore[arg-type]
    )
    places = VOCAB ** torch.arange(IMAGE_LEN - 1, -1, -1)
    return (drawn.flatten(1) * places).sum(1).bincount(minlength=VOCAB**IMAGE_LEN)


def fit(counts: Tensor, probabilities: Tensor) -> float:
    """Return how likely counts as far off as these are; pictures too rare to be counted are taken together."""
    if counts[probabilities == 0].any():
        return 0.0
    expected = probabilities * counts.sum()
    common = expected >= 10
    observed = torch.cat([counts[common], counts[~common].sum()[None]]).double()
    wanted = torch.cat([expected[common], expected[~common].sum()[None]])
    held = wanted > 0
    if held.sum() == 1:
        return 1.0
    return float(stats.chisquare(observed[held].numpy(), wanted[held].numpy()).pvalue)


SETTINGS = [
    Sampling(guidance_scale=1.0, decoder="jacobi", jacobi_window=4),
    Sampling(guidance_scale=1.0, decoder="jacobi", jacobi_window=16, temperature=0.7, top_p=0.85),
    Sampling(guidance_scale=2.0, decoder="jacobi", jacobi_window=3, top_k=2),
    Sampling(guidance_scale=2.0, decoder="jacobi", jacobi_window=5, guidance_schedule="cosine", top_p=0.9),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=["plain", "top_p", "guided top_k", "guided rising top_p"])
def test_every_picture_is_as_likely_as_the_model_says(model: Transformer, sampling: Sampling) -> None:
    assert fit(counted(model, sampling, OTHER), exact(model, sampling, OTHER)) > 1e-3


def all_of_it(read: Tensor, drawn: Tensor) -> Tensor:
    return torch.full_like(drawn[:, 0], drawn.shape[1])


def one_too_many(read: Tensor, drawn: Tensor) -> Tensor:
    return (count_right(read, drawn) + 1).clamp(max=drawn.shape[1])


@pytest.mark.parametrize("broken", [all_of_it, one_too_many])
def test_count_and_comparison_notice_a_broken_rule(
    model: Transformer, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jacobi, "count_right", broken)
    assert fit(counted(model, SETTINGS[0], OTHER), exact(model, SETTINGS[0], OTHER)) < 1e-6
    sequential, several = by_both(transformer((3, 5), 17), SETTINGS[0], [5])
    assert not torch.equal(several[0], sequential)


def test_a_token_is_right_as_far_as_those_before_it_were_read_as_they_were_drawn() -> None:
    drawn = torch.tensor([[4, 5, 6]])
    for read, right in (([4, 5, 6], 3), ([4, 5, 0], 3), ([4, 0, 6], 2), ([0, 5, 6], 1)):
        assert count_right(torch.tensor([read]), drawn).tolist() == [right]
    assert count_right(drawn[:, :1], drawn[:, 1:2]).tolist() == [1]


WINDOWS = (1, 2, 5, 100)


def by_both(
    model: Transformer, sampling: Sampling, windows: Sequence[int] = WINDOWS, **options: object
) -> tuple[Tensor, list[Tensor]]:
    """Return what the sequential decoder draws of six seeds and mixed captions, and the other one by each window."""
    decoder, text = KVDecoder(model), model.stream.pad_captions([CAPTION, OTHER, CAPTION, [], OTHER, CAPTION])
    seeds = [7, 0, 2**63 - 1, 1, 1, 12]
    sequential = dataclasses.replace(sampling, decoder="sequential")
    several = [dataclasses.replace(sampling, decoder="jacobi", jacobi_window=window) for window in windows]
    drawn = [sample_image_tokens(decoder, text, seeds, s, **options) for s in (sequential, *several)]  # type: ignore[arg-type]
    return drawn[0], drawn[1:]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(guidance_scale=1.0),
        Sampling(guidance_scale=2.0, guidance_schedule="cosine"),
        Sampling(guidance_scale=1.0, top_k=4, temperature=2.0),
        Sampling(guidance_scale=2.0, top_p=0.8, guidance_schedule="linear"),
    ],
    ids=["plain", "rising", "top_k", "rising top_p"],
)
def test_both_decoders_draw_the_same_tokens_of_a_seed(sampling: Sampling) -> None:
    sequential, several = by_both(transformer((3, 5), 17), sampling)
    assert len(set(map(tuple, sequential.flatten(1).tolist()))) == 6
    for tokens in several:
        assert torch.equal(tokens, sequential)


def test_both_decoders_move_away_from_a_negative_prompt() -> None:
    model = transformer((3, 5), 17)
    sampling = Sampling(guidance_scale=2.0, guidance_schedule="linear")
    sequential, several = by_both(model, sampling, negative_tokens=model.stream.pad_captions([[2]])[0])
    assert not torch.equal(sequential, by_both(model, sampling, ())[0])
    for tokens in several:
        assert torch.equal(tokens, sequential)


@pytest.mark.parametrize("anew", [range(5, 15), [1, 2, 6, 7, 8], [0, 14], [14], []])
def test_both_decoders_draw_the_same_tokens_around_kept_ones(anew: Sequence[int]) -> None:
    mask = torch.ones(15, dtype=torch.bool)
    mask[list(anew)] = False
    prompt = ImagePrompt(torch.randint(17, (3, 5), generator=torch.Generator().manual_seed(1)), mask.view(3, 5))
    sequential, several = by_both(transformer((3, 5), 17), Sampling(guidance_scale=2.0), image_prompt=prompt)
    for tokens in several:
        assert torch.equal(tokens, sequential)
        assert (tokens == prompt.image_tokens)[:, prompt.kept].all()


@pytest.mark.parametrize("kept", [[0, 1], [0, 3, 5], list(range(IMAGE_LEN))])
def test_kept_tokens_stay_and_the_rest_follows_them(model: Transformer, kept: list[int]) -> None:
    mask = torch.zeros(IMAGE_LEN, dtype=torch.bool)
    mask[kept] = True
    prompt = ImagePrompt(torch.tensor([[2, 0, 1], [1, 0, 2]]), mask.view(ROWS, COLUMNS))
    for sampling in (SETTINGS[2], dataclasses.replace(SETTINGS[2], decoder="sequential")):
        counts = counted(model, sampling, OTHER, image_prompt=prompt)
        assert fit(counts, exact(model, sampling, OTHER, prompt)) > 1e-3


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_it_takes_fewer_passes_and_says_how_far_every_picture_has_come(guidance_scale: float) -> None:
    model = transformer((6, 6), 5)
    sampling = Sampling(decoder="jacobi", guidance_scale=guidance_scale, temperature=0.5)
    told: list[Partial] = []
    early: list[Tensor] = []

    def callback(partial: Partial) -> None:
        told.append(partial)
        early.append(partial.image_tokens.flatten(1)[:, : partial.drawn].clone())

    text = model.stream.pad_captions([CAPTION, OTHER])
    final = sample_image_tokens(KVDecoder(model), text, [5, 6], sampling, callback=callback)
    grown = [partial.drawn for partial in told]
    assert grown[0] == 1
    assert grown[-1] == 36
    assert grown == sorted(grown)
    assert len(grown) < 30
    for tokens in early:  # what stood was not changed any more
        assert torch.equal(tokens, final.flatten(1)[:, : tokens.shape[1]])


def test_a_grid_of_one_token_needs_no_pass() -> None:
    model = transformer((1, 1), 5)
    text = model.stream.pad_captions([CAPTION])
    one, other = (
        sample_image_tokens(KVDecoder(model), text, [5], Sampling(decoder=name)) for name in ("sequential", "jacobi")
    )
    assert torch.equal(one, other)
