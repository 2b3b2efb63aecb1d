"""Decoding with a cache gives the logits of the whole stream at once."""

import pytest
import torch

from trencadis.config import TransformerConfig
from trencadis.sampling import (
    GuidanceSchedule,
    ImagePrompt,
    Sampling,
    draw,
    filter_logits,
    guidance_scales,
    guide,
    sample_image_tokens,
)
from trencadis.transformer import KVDecoder, Pattern, Reads, Transformer
from trencadis.transformer.attention import Attention, PatternAttention

TOLERANCE = 1e-4


def transformer(attention: str = "sparse", num_layers: int = 5, grid_size: tuple[int, int] = (4, 5)) -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        text_len=6, text_vocab_size=20, grid_size=grid_size, image_vocab_size=17, num_layers=num_layers, num_heads=2,
        head_dim=8, attention=attention, kernel_size=3,  # type: ignore[arg-type]
    )  # fmt: skip
    model = Transformer(config).eval()
    for parameter in model.parameters():  # far from the small initial weights, so that a wrong mask shows
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return model


def captions(model: Transformer) -> torch.Tensor:
    return model.stream.pad_captions([[3, 1, 4], [1, 5, 9, 2, 6, 5], []])


def sampled(logits: torch.Tensor, seeds: list[int], position: int, sampling: Sampling) -> torch.Tensor:
    filtered = filter_logits(logits, temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p)
    return draw(filtered, torch.tensor(seeds), position)


def logits_by_steps(decoder: KVDecoder, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Return the logits of every image token, of captions that all differ, reading one token a pass."""
    streams = range(len(text))
    cache = decoder.new_cache(len(text), len(text))
    logits = [torch.stack([decoder.read_caption(text[stream], cache, stream) for stream in streams])]
    for index, tokens in enumerate(image.flatten(1).T[:-1]):
        reads = Reads(tuple(streams), tuple(streams), ((index,),) * len(text))
        logits.append(decoder.read(tokens[:, None], reads, cache)[:, 0])
    return torch.stack(logits, 1)


@pytest.mark.parametrize("pattern", ["full", "row", "column", "convolutional"])
def test_cached_logits_equal_uncached_ones_at_every_position(pattern: Pattern) -> None:
    model = transformer()
    model.patterns = (pattern,) * len(model.patterns)
    for module in model.modules():
        if isinstance(module, Attention):
            module.attend = PatternAttention(pattern, model.stream, kernel_size=3)
    text, image = captions(model), torch.randint(17, (3, 4, 5))
    with torch.inference_mode():
        whole = model.logits(text, image).image
    assert whole.std() > 0.1
    assert torch.allclose(logits_by_steps(KVDecoder(model), text, image), whole, atol=TOLERANCE)


@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("kept", ["none", "rows", "hole", "all"])
def test_sampling_draws_what_uncached_logits_say(attention: str, guidance_scale: float, kept: str) -> None:
    model = transformer(attention)
    text, seeds = captions(model), [7, 8, 9]
    sampling = Sampling(guidance_scale=guidance_scale, temperature=0.9, top_k=12)
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[:2] = kept == "rows"
    if kept == "hole":
        mask[:], mask[1:3, 1:3] = True, False
    mask |= torch.tensor(kept == "all")
    prompt = None if kept == "none" else ImagePrompt(torch.randint(17, (4, 5)), mask)
    drawn = sample_image_tokens(KVDecoder(model), text, seeds, sampling, image_prompt=prompt)
    with torch.inference_mode():
        logits = model.logits(text, drawn).image
        empty = model.logits(model.stream.padding().expand(3, -1), drawn).image
    for position in range(20):
        guided = logits[:, position]
        if guidance_scale != 1:
            guided = guide(guided, empty[:, position], guidance_scale)
        expected = sampled(guided, seeds, position, sampling)
        if mask.flatten()[position]:
            assert prompt is not None
            expected = prompt.image_tokens.flatten()[position].expand(3)
        assert torch.equal(drawn.flatten(1)[:, position], expected), position


def test_neither_the_callers_captions_nor_its_image_prompt_are_changed() -> None:
    model = transformer()
    text, image = captions(model), torch.randint(17, (4, 5))
    kept = torch.zeros(4, 5, dtype=torch.bool)
    kept[0] = True
    before = text.clone(), image.clone(), kept.clone()
    sample_image_tokens(
        KVDecoder(model), text, [1, 2, 3], Sampling(guidance_scale=4.0), image_prompt=ImagePrompt(image, kept)
    )
    assert torch.equal(text, before[0])
    assert torch.equal(image, before[1])
    assert torch.equal(kept, before[2])


def test_the_callback_sees_the_picture_grow() -> None:
    model = transformer()
    grown: list[int] = []
    final = sample_image_tokens(
        KVDecoder(model), captions(model), [1, 2, 3], Sampling(), callback=lambda partial: grown.append(partial.drawn)
    )
    assert grown == list(range(1, 21))
    assert final.shape == (3, 4, 5)


def test_guidance_of_zero_ignores_the_caption() -> None:
    model = transformer()
    sampling = Sampling(guidance_scale=0.0)
    one = sample_image_tokens(KVDecoder(model), model.stream.pad_captions([[1, 2]]), [5], sampling)
    other = sample_image_tokens(KVDecoder(model), model.stream.pad_captions([[9, 8, 7]]), [5], sampling)
    assert torch.equal(one, other)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_each_token_is_drawn_with_the_scale_of_its_position(schedule: GuidanceSchedule) -> None:
    model = transformer()
    text, sampling = captions(model), Sampling(guidance_scale=4.0, guidance_schedule=schedule)
    drawn = sample_image_tokens(KVDecoder(model), text, [7, 8, 9], sampling)
    with torch.inference_mode():
        given = model.logits(text, drawn).image
        without = model.logits(model.stream.padding().expand(3, -1), drawn).image
    scales = guidance_scales(4.0, schedule, 20)
    for position in range(20):
        guided = guide(given[:, position], without[:, position], float(scales[position]))
        expected = sampled(guided, [7, 8, 9], position, Sampling())
        assert torch.equal(drawn.flatten(1)[:, position], expected), position


@pytest.mark.parametrize("guidance_scale", [0.0, 5.0])
def test_moving_away_from_the_prompt_itself_is_no_guidance(guidance_scale: float) -> None:
    model = transformer()
    text = captions(model)[:1].expand(3, -1)
    guided, plain = (
        sample_image_tokens(KVDecoder(model), text, [1, 2, 3], Sampling(guidance_scale=scale), negative_tokens=text[0])
        for scale in (guidance_scale, 1.0)
    )
    assert torch.equal(guided, plain)


def test_a_negative_prompt_takes_the_empty_captions_place() -> None:
    model = transformer()
    text, negative = captions(model), model.stream.pad_captions([[7, 7]])[0]
    options = {"seeds": [1, 2, 3], "sampling": Sampling(guidance_scale=30.0)}
    drawn = sample_image_tokens(KVDecoder(model), text, negative_tokens=negative, **options)  # type: ignore[arg-type]
    plain = sample_image_tokens(KVDecoder(model), text, **options)  # type: ignore[arg-type]
    empty = sample_image_tokens(KVDecoder(model), text, negative_tokens=model.stream.padding(), **options)  # type: ignore[arg-type]
    assert not torch.equal(drawn, plain)
    assert torch.equal(empty, plain)
    with torch.inference_mode():
        given, without = model.logits(text, drawn).image, model.logits(negative.expand(3, -1), drawn).image
    for position in range(20):
        expected = sampled(guide(given, without, 30.0)[:, position], [1, 2, 3], position, Sampling())
        assert torch.equal(drawn.flatten(1)[:, position], expected), position
