"""Slots, captions and passes of the engine. That pictures do not depend on each other is in tests/numerics."""

import pytest
import torch

from trencadis.config import TransformerConfig
from trencadis.sampling import Engine, ImagePrompt, Request, Sampling
from trencadis.transformer import KVDecoder, Transformer, slot_bytes

PLAIN, GUIDED = Sampling(guidance_scale=1.0), Sampling(guidance_scale=2.0)


@pytest.fixture(scope="module")
def decoder() -> KVDecoder:
    torch.manual_seed(0)
    config = TransformerConfig(
        text_len=4, text_vocab_size=9, grid_size=(2, 3), image_vocab_size=7, num_layers=2, num_heads=2, head_dim=8,
        kernel_size=3,
    )  # fmt: skip
    return KVDecoder(Transformer(config).eval())


def request(
    decoder: KVDecoder, caption: list[int], pictures: int, sampling: Sampling = PLAIN, **options: object
) -> Request:
    text = decoder.stream.pad_captions([caption])[0]
    return Request(text_tokens=text, seeds=tuple(range(pictures)), sampling=sampling, **options)  # type: ignore[arg-type]


def test_slots_are_taken_and_freed(decoder: KVDecoder) -> None:
    engine = Engine(decoder, slots=8)
    first = engine.admit(request(decoder, [1], 2))
    second = engine.admit(request(decoder, [2], 3, GUIDED))
    assert engine.free_slots == 0
    assert (first.drawn, second.drawn) == (1, 1)
    engine.cancel(second)
    engine.cancel(second)
    assert engine.free_slots == 6
    assert engine.drawings == [first]
    while engine.drawings:
        finished = engine.step()
    assert finished == [first]
    assert first.done
    assert engine.free_slots == 8
    engine.cancel(first)
    assert engine.free_slots == 8
    assert engine.step() == []


def test_some_drawings_go_on_while_others_stay(decoder: KVDecoder) -> None:
    engine = Engine(decoder, slots=4)
    first, second = (engine.admit(request(decoder, [1], 1)) for _ in range(2))
    while not second.done:
        assert first not in engine.step([second])
    assert (first.drawn, engine.drawings) == (1, [first])
    while not first.done:
        engine.step()
    assert torch.equal(first.image_tokens, second.image_tokens)


def test_a_caption_is_read_once_for_all_that_share_it(decoder: KVDecoder) -> None:
    engine = Engine(decoder, slots=8)
    engine.admit(request(decoder, [1], 2, GUIDED))
    assert engine.passes == 2  # the caption, and the empty one
    engine.admit(request(decoder, [1], 1))
    engine.admit(request(decoder, [3], 1, GUIDED))
    assert engine.passes == 3
    while engine.drawings:
        engine.step()
    assert engine.passes == 3 + 5
    engine.admit(request(decoder, [1], 1))  # nothing is kept of those that left
    assert engine.passes == 3 + 5 + 1


def test_moving_away_from_the_caption_itself_frees_its_place(decoder: KVDecoder) -> None:
    engine = Engine(decoder, slots=2)
    for caption in ([1], [2], [3], [4], []):  # more than the cache has places for
        text = decoder.stream.pad_captions([caption])[0]
        engine.cancel(engine.admit(request(decoder, caption, 1, GUIDED, negative_tokens=text)))
        assert engine.free_slots == 2


@pytest.mark.parametrize("failing", ["read_caption", "read_prefix"])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_request_that_fails_gives_back_what_it_took(
    decoder: KVDecoder, failing: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    prompt = ImagePrompt(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[True, True, True], [False] * 3]))
    engine = Engine(decoder, slots=4)
    other = engine.admit(request(decoder, [2], 2))
    with monkeypatch.context() as patch:
        patch.setattr(decoder, failing, fail)
        with pytest.raises(error):
            engine.admit(request(decoder, [1], 1, GUIDED, image_prompt=prompt))
    assert engine.free_slots == 2
    assert engine.drawings == [other]
    passes = engine.passes
    engine.admit(request(decoder, [1], 1, GUIDED, image_prompt=prompt))
    assert engine.passes == passes + 4  # both captions and both prefixes; nothing half-read was taken for read


def test_a_kept_prefix_is_read_in_one_pass(decoder: KVDecoder) -> None:
    kept = torch.tensor([[True, True, True], [True, False, True]])
    prompt = ImagePrompt(torch.tensor([[1, 2, 3], [4, 5, 6]]), kept)
    engine = Engine(decoder, slots=2)
    drawing = engine.admit(request(decoder, [1], 2, image_prompt=prompt))
    assert (engine.passes, drawing.drawn) == (2, 5)
    engine.step()
    assert drawing.done
    assert (drawing.image_tokens == prompt.image_tokens)[:, kept].all()
    everything = engine.admit(request(decoder, [1], 1, image_prompt=ImagePrompt(prompt.image_tokens, kept | ~kept)))
    assert everything.done
    assert torch.equal(everything.image_tokens[0], prompt.image_tokens)


def test_the_cache_takes_what_its_formula_says(decoder: KVDecoder) -> None:
    cache = decoder.new_cache(slots=5, captions=3)
    of_captions = 2 * 2 * 2 * 3 * 4 * 8 * 4  # keys and values, layers, heads, captions, positions, head_dim, bytes
    assert cache.size_bytes == 5 * slot_bytes(decoder.config) + of_captions
