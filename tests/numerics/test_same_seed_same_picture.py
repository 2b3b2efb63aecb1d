"""A seed's picture is the same, bit for bit, whatever is drawn beside it, by both decoders and in every type."""

import dataclasses
import random

import pytest
import torch
from torch import Tensor

from trencadis import DALLE
from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.sampling import Drawing, Engine, ImagePrompt, Request, Sampling, sample_image_tokens
from trencadis.transformer import KVDecoder, Transformer, Weights

WEIGHTS: tuple[Weights, ...] = ("float32", "bfloat16", "int8")
pytestmark = pytest.mark.usefixtures("without_type_checks")
GUIDED = Sampling(guidance_scale=3.0, top_p=0.9, temperature=1.5)


@pytest.fixture(scope="module")
def model() -> Transformer:
    """A transformer with every pattern whose draws are close, so that a changed bit changes a picture."""
    torch.manual_seed(0)
    config = TransformerConfig(
        text_len=6, text_vocab_size=20, grid_size=(4, 4), image_vocab_size=50, num_layers=3, num_heads=3, head_dim=12,
        kernel_size=3, design=MODERN_DESIGN,
    )  # fmt: skip
    transformer = Transformer(config).eval()
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.15)
    return transformer


def captions(model: Transformer) -> Tensor:
    return model.stream.pad_captions([[3, 1, 4], [1, 5, 9, 2, 6, 5], [7]])


def assert_pictures_do_not_depend_on_others(model: Transformer, weights: Weights, count: int) -> None:
    """Draw `count` seeds together, alone, in batches, beside other prompts and by Jacobi decoding."""
    decoder, text = KVDecoder(model, weights), captions(model)
    whole = sample_image_tokens(decoder, text[:1].expand(count, -1), range(count), GUIDED)
    assert len(set(map(tuple, whole.flatten(1).tolist()))) > 0.95 * count
    for batch in (1, 2, 8, 32):
        for start in range(0, count, batch):
            seeds = range(start, min(start + batch, count))
            drawn = sample_image_tokens(decoder, text[:1].expand(len(seeds), -1), seeds, GUIDED)
            assert torch.equal(drawn, whole[start : start + batch]), (batch, start)
    others = [row for seed in range(count) for row in (0, 1 + seed % 2)]
    both = [number for seed in range(count) for number in (seed, 1000 + seed)]
    assert torch.equal(sample_image_tokens(decoder, text[others], both, GUIDED)[::2], whole)
    jacobi = dataclasses.replace(GUIDED, decoder="jacobi", jacobi_window=5)
    assert torch.equal(sample_image_tokens(decoder, text[:1].expand(count, -1), range(count), jacobi), whole)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_picture_does_not_depend_on_what_is_drawn_beside_it(model: Transformer, weights: Weights) -> None:
    assert_pictures_do_not_depend_on_others(model, weights, 12)


@pytest.mark.slow
@pytest.mark.parametrize("weights", WEIGHTS)
def test_none_of_256_pictures_depends_on_what_is_drawn_beside_it(model: Transformer, weights: Weights) -> None:
    assert_pictures_do_not_depend_on_others(model, weights, 256)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_shipped_model_draws_a_seed_alone_as_in_a_batch(weights: Weights) -> None:
    shipped = DALLE.from_pretrained("emoji")
    together = shipped.draw(["a red heart"] * 5 + ["a blue cat"], [1, 2, 3, 4, 5, 1], weights=weights)
    assert torch.equal(shipped.draw(["a red heart"], [4], weights=weights)[0], together[3])
    assert torch.equal(shipped.draw(["a red heart"] * 2, [2, 3], weights=weights), together[1:3])


def requests(model: Transformer, choices: random.Random) -> Request:
    """Return a request of random size and settings."""
    text = captions(model)
    sampling = Sampling(
        temperature=choices.choice([0.7, 1.0, 1.5]),
        top_k=choices.choice([None, 3, 20]),
        top_p=choices.choice([None, 0.8, 1.0]),
        guidance_scale=choices.choice([1.0, 1.0, 2.5]),
        guidance_schedule=choices.choice(["constant", "linear"]),
        decoder=choices.choice(["sequential", "sequential", "jacobi"]),
        jacobi_window=choices.choice([2, 7]),
    )
    kept = torch.zeros(4, 4, dtype=torch.bool)
    kept.view(-1)[: choices.choice([3, 7])] = True
    kept[3, 2] = choices.random() < 0.5
    tokens = torch.randint(50, (4, 4), generator=torch.Generator().manual_seed(choices.randrange(100)))
    return Request(
        text_tokens=text[choices.randrange(3)],
        seeds=tuple(choices.randrange(10**6) for _ in range(choices.choice([1, 1, 2, 5]))),
        sampling=sampling,
        negative_tokens=text[2] if choices.random() < 0.3 else None,
        image_prompt=ImagePrompt(tokens, kept) if choices.random() < 0.4 else None,
    )


@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.slow)])
def test_arrivals_and_cancellations_change_no_other_picture(model: Transformer, count: int) -> None:
    choices, decoder = random.Random(5), KVDecoder(model)
    engine, drawings, cancelled = Engine(decoder, slots=24), list[Drawing](), list[Drawing]()
    waiting = [requests(model, choices) for _ in range(count)]
    most = 0
    while waiting or engine.drawings:
        while waiting and waiting[0].num_slots <= engine.free_slots and choices.random() < 0.6:
            drawings.append(engine.admit(waiting.pop(0)))
        most = max(most, len(engine.drawings))
        if engine.drawings and choices.random() < 0.1:
            cancelled.append(choices.choice(engine.drawings))
            engine.cancel(cancelled[-1])
        ahead = [drawing for drawing in engine.drawings if choices.random() < 0.5]
        engine.step(ahead if ahead and choices.random() < 0.3 else None)
    assert engine.free_slots == 24
    assert most > 5
    assert len(cancelled) > count / 10
    for drawing in drawings:
        request = drawing.request
        alone = sample_image_tokens(
            decoder,
            request.text_tokens.expand(len(request.seeds), -1),
            request.seeds,
            dataclasses.replace(request.sampling, decoder="sequential"),
            negative_tokens=request.negative_tokens if request.sampling.guided else None,
            image_prompt=request.image_prompt,
        )
        if drawing in cancelled:
            stands = drawing.drawn
            assert torch.equal(drawing.raster[:, :stands], alone.flatten(1)[:, :stands])
        else:
            assert drawing.done
            assert torch.equal(drawing.image_tokens, alone)
