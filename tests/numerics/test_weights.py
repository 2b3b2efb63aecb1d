"""What smaller weights cost the shipped model."""

import pytest
from torch import Tensor

from benchmarks.weights import bits
from trencadis import DALLE
from trencadis.sampling import Sampling, sample_image_tokens
from trencadis.transformer import KVDecoder, Weights

PROMPTS = ("a red heart, 3D style", "the flag of France", "a slice of pizza, flat style", "a blue car, Noto style")


@pytest.fixture(scope="module")
def model() -> DALLE:
    return DALLE.from_pretrained("emoji")


@pytest.fixture(scope="module")
def texts_and_images(model: DALLE) -> tuple[Tensor, Tensor]:
    """Sixteen captions' tokens, and those of a picture drawn for each."""
    encode, stream = model.text_tokenizer.encode, model.transformer.stream
    text_tokens = stream.pad_captions([encode(prompt, max_len=stream.text_len) for prompt in PROMPTS])
    text_tokens = text_tokens.repeat_interleave(4, 0)
    drawn = sample_image_tokens(KVDecoder(model.transformer), text_tokens, range(16), Sampling(guidance_scale=1.0))
    return text_tokens, drawn.flatten(1)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_the_shipped_model_loses_less_than_half_a_percent_of_its_bits(
    weights: Weights, model: DALLE, texts_and_images: tuple[Tensor, Tensor]
) -> None:
    exact = bits(KVDecoder(model.transformer), *texts_and_images)
    rounded = bits(KVDecoder(model.transformer, weights), *texts_and_images)
    assert 1 < exact < 9
    assert exact != rounded
    assert abs(rounded / exact - 1) < 0.005
