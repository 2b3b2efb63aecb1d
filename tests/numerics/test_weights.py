"""What smaller weights cost the shipped model."""

import pytest

from benchmarks.weights import bits
from trencadis import DALLE
from trencadis.sampling import Sampling, sample_image_tokens
from trencadis.transformer import KVDecoder, Weights

PROMPTS = ("a red heart, 3D style", "the flag of France", "a slice of pizza, flat style", "a blue car, Noto style")


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_the_shipped_model_loses_less_than_half_a_percent_of_its_bits(weights: Weights) -> None:
    model = DALLE.from_pretrained("emoji")
    stream = model.transformer.stream
    captions = [model.text_tokenizer.encode(prompt, max_len=stream.text_len) for prompt in PROMPTS]
    text_tokens = stream.pad_captions(captions).repeat_interleave(4, 0)
    whole = KVDecoder(model.transformer)
    drawn = sample_image_tokens(whole, text_tokens, range(16), Sampling(guidance_scale=1.0)).flatten(1)
    exact, rounded = bits(whole, text_tokens, drawn), bits(KVDecoder(model.transformer, weights), text_tokens, drawn)
    assert 1 < exact < 9
    assert exact != rounded
    assert abs(rounded / exact - 1) < 0.005
