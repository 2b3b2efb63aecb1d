"""Every form of a pattern against the dense mask: blocks, FlexAttention, and what decoding reads."""

import itertools
import subprocess
import sys
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from trencadis.transformer.attending import StreamAttention
from trencadis.transformer.decoding import Windows, attention_with_lse
from trencadis.transformer.packing import Int8Linear, Int8WeightLinear
from trencadis.transformer.products import Linear

from trencadis.config import DesignConfig, TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.stream import Stream
from trencadis.transformer import Decoder, ImageBlocks, Pattern, Transformer, Weights
from trencadis.transformer.masks import as_slice, image_to_image, positions_read, visibility

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
DESIGNS = {
    "paper": DesignConfig(),
    "modern": MODERN_DESIGN,
}
grids = st.tuples(st.integers(1, 6), st.integers(1, 6))


def transformer(design: DesignConfig, attention: str = "sparse") -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        text_len=6, text_vocab_size=20, grid_size=(5, 6), image_vocab_size=17, num_layers=5, num_heads=4, head_dim=8,
        attention=attention, kernel_size=3, design=design,  # type: ignore[arg-type]
    )  # fmt: skip
    model = Transformer(config).eval()
    for parameter in model.parameters():  # far from the small initial weights, so that a wrong mask shows
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    return model


def queries_keys_values(stream: Stream, heads: int = 4, kv_heads: int = 4) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, count, stream.stream_len, 8, requires_grad=True) for count in (heads, kv_heads, kv_heads)]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("grid_size", [(4, 6), (7, 3)])
def test_attention_by_blocks_equals_dense_attention_with_its_gradients(
    pattern: Pattern, kv_heads: int, grid_size: tuple[int, int]
) -> None:
    stream = Stream(5, 10, grid_size, 4)
    attend = StreamAttention(pattern, stream, kernel_size=3)
    inputs = queries_keys_values(stream, kv_heads=kv_heads)
    dense, blocks = attend.dense(*inputs), attend.by_blocks(*inputs)
    upstream = torch.randn_like(dense)
    assert torch.allclose(dense, blocks, atol=2e-6)
    for expected, actual in zip(
        torch.autograd.grad(dense, inputs, upstream), torch.autograd.grad(blocks, inputs, upstream), strict=True
    ):
        assert torch.allclose(expected, actual, atol=1e-5)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_a_layer_chooses_equals_dense_attention(pattern: Pattern) -> None:
    stream = Stream(5, 10, (12, 12), 4)
    attend = StreamAttention(pattern, stream, kernel_size=3)
    inputs = queries_keys_values(stream)
    assert attend.is_block_sparse == (pattern != "full")
    assert torch.allclose(attend(*inputs), attend.dense(*inputs), atol=2e-6)


FLEX = """
import torch
from torch.nn.attention.flex_attention import flex_attention
from trencadis.stream import Stream
from trencadis.transformer.attending import StreamAttention
from trencadis.transformer.masks import block_mask

torch.manual_seed(0)
stream = Stream(5, 10, (4, 6), 4)
queries, keys, values = torch.randn(3, 2, 4, stream.stream_len, 8)
for pattern in ("full", "row", "column", "convolutional"):
    mask = block_mask(pattern, stream, kernel_size=3, device=torch.device("cpu"))
    expected = StreamAttention(pattern, stream, kernel_size=3).dense(queries, keys, values)
    assert torch.allclose(flex_attention(queries, keys, values, block_mask=mask), expected, atol=2e-6), pattern
"""


def test_flex_attention_with_its_block_mask_equals_dense_attention() -> None:
    run_unchecked(FLEX)


def run_unchecked(script: str) -> None:
    """Run a script in a process where shapes are not checked at run time, which the compiler cannot look through."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_column_layer_is_cut_into_columns_and_a_row_layer_into_rows() -> None:
    stream = Stream(5, 10, (8, 8), 4)
    cut = {pattern: ImageBlocks.of(pattern, stream, kernel_size=3) for pattern in PATTERNS}
    assert (cut["column"].by_column, cut["column"].reach) == (True, 0)
    assert (cut["row"].by_column, cut["row"].reach) == (False, 1)
    assert (cut["convolutional"].by_column, cut["convolutional"].reach) == (False, 2)
    assert cut["full"].reach == 7


@settings(max_examples=40, deadline=None)
@given(grid=grids, half=st.integers(0, 2), pattern=st.sampled_from(PATTERNS))
def test_windows_and_read_positions_say_what_the_dense_mask_says(
    grid: tuple[int, int], half: int, pattern: Pattern
) -> None:
    stream, kernel_size = Stream(3, 10, grid, 4), 2 * half + 1
    dense = visibility(pattern, stream, kernel_size=kernel_size)[3:, 3:]
    for index in range(stream.image_len):
        assert (
            positions_read(pattern, stream, index, kernel_size=kernel_size) == dense[index].nonzero().flatten().tolist()
        )
    blocks = ImageBlocks.of(pattern, stream, kernel_size=kernel_size)
    assert blocks.mask.sum() == dense.sum() == image_to_image(pattern, stream, kernel_size=kernel_size).sum()


@settings(max_examples=60, deadline=None)
@given(positions=st.sets(st.integers(0, 12), min_size=1).map(sorted))
def test_a_slice_takes_just_the_positions_or_there_is_none(positions: list[int]) -> None:
    taken = as_slice(positions)
    gaps = {after - before for before, after in itertools.pairwise(positions)}
    assert (taken is None) == (len(gaps) > 1)
    if taken is not None:
        assert list(range(20))[taken] == positions


@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize("design", DESIGNS)
def test_steps_and_reads_of_several_tokens_give_the_logits_of_the_whole_stream(design: str, attention: str) -> None:
    model = transformer(DESIGNS[design], attention)
    text = model.stream.pad_captions([[3, 1, 4]] * 2 + [[1, 5, 9, 2, 6, 5]] * 2)
    image = torch.randint(17, (4, 30))
    with torch.inference_mode():
        whole = model(text, image.view(4, 5, 6)).image
    decoder = Decoder(model)
    cache, first = decoder.begin(text)
    steps = torch.stack([first, *(decoder.step(image[:, i], i, cache) for i in range(29))], dim=1)
    assert whole.std() > 0.1
    assert torch.allclose(steps, whole, atol=1e-4)
    cache, _ = decoder.begin(text)
    decoder.read(image[:, :8], torch.zeros(4, dtype=torch.long), cache)
    starts = torch.tensor([3, 8, 5, 7])  # some read again what was read before
    several = torch.stack([row[start : start + 6] for row, start in zip(image, starts.tolist(), strict=True)])
    logits = decoder.read(several, starts, cache)
    for row, start in enumerate(starts.tolist()):
        assert torch.allclose(logits[row], whole[row, start + 1 : start + 7], atol=1e-4)


@pytest.mark.parametrize("attention", ["sparse", "full"])
def test_a_step_with_its_index_on_the_device_is_the_same_step(attention: str) -> None:
    model = transformer(DESIGNS["grouped"], attention)
    text, image = model.stream.pad_captions([[3, 1], [3, 1], []]), torch.randint(17, (3, 30))
    decoder = Decoder(model)
    (one, _), (other, _) = decoder.begin(text), decoder.begin(text)
    for index in range(29):
        by_host = decoder.step(image[:, index], index, one)
        with torch.inference_mode():
            on_device = decoder.step_by_table(image[:, index], torch.tensor([index]), other)
        assert torch.allclose(by_host, on_device, atol=1e-4), index


COMPILED = """
import torch
from torch._dynamo.testing import CompileCounter
from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.transformer import Decoder, KeyValueCache, Transformer

config = TransformerConfig(text_len=4, text_vocab_size=9, grid_size=(3, 4), image_vocab_size=7, num_layers=5,
                           num_heads=2, head_dim=8, kernel_size=3, design=MODERN_DESIGN)
model = Transformer(config).eval()
torch.nn.init.normal_(model.image_head.weight)
decoder, counter = Decoder(model), CompileCounter()
cache, _ = decoder.begin(model.stream.pad_captions([[1, 2]] * 2))
tokens = torch.randint(7, (12, 2))
with torch.inference_mode():
    expected = [decoder.step(tokens[i], i, cache) for i in range(11)]
    step = torch.compile(
        lambda tokens, index, text, image: decoder.step_by_table(tokens, index, KeyValueCache(text, image)),
        backend=counter, fullgraph=True, dynamic=False,
    )
    for i in range(11):
        logits = step(tokens[i], torch.tensor([i]), cache.text, cache.image)
        assert torch.allclose(logits, expected[i], atol=1e-4), i
assert counter.frame_count == 1, counter.frame_count
"""


def test_a_compiled_step_is_one_graph_and_is_compiled_once() -> None:
    run_unchecked(COMPILED)


def test_equal_captions_are_read_once_and_kept_once_where_they_lie_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    model = transformer(MODERN_DESIGN)
    decoder, pad = Decoder(model), model.stream.pad_captions
    runs, mixed, odd = pad([[1]] * 3 + [[]] * 3), pad([[1], [], [1], []]), pad([[1], [1], [2]])
    falling = pad([[]] * 2 + [[2]] * 2 + [[1]] * 2)
    read: list[int] = []
    embed_text = model.embed_text

    def counted(text_tokens: Tensor) -> Tensor:
        read.append(len(text_tokens))
        return embed_text(text_tokens)

    monkeypatch.setattr(model, "embed_text", counted)
    for text, captions, distinct in ((runs, 2, 2), (mixed, 4, 2), (odd, 3, 2), (falling, 3, 3)):
        cache, logits = decoder.begin(text)
        assert read[-1] == distinct
        assert (cache.captions, cache.streams) == (captions, len(text))
        with torch.inference_mode():
            first = model(text, torch.zeros(len(text), 5, 6, dtype=torch.long)).image[:, 0]
        assert torch.allclose(logits, first, atol=1e-4)
        step = decoder.step(torch.zeros(len(text), dtype=torch.long), 0, cache)
        with torch.inference_mode():
            second = model(text, torch.zeros(len(text), 5, 6, dtype=torch.long)).image[:, 1]
        assert torch.allclose(step, second, atol=1e-4)


@pytest.mark.parametrize("pattern", ["row", "column", "full"])
def test_windows_are_read_without_a_copy(pattern: Pattern) -> None:
    model = transformer(DesignConfig())
    assert all(isinstance(reads, slice) for reads in Windows(model, pattern).reads)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("design", DESIGNS)
def test_smaller_weights_stay_near_the_whole_streams_logits(design: str, weights: Weights) -> None:
    if weights == "int8" and not torch.cpu._is_vnni_supported():
        pytest.skip("this processor has no 8-bit products")
    model = transformer(DESIGNS[design])
    text, image = model.stream.pad_captions([[3, 1, 4]] * 3), torch.randint(17, (3, 30))
    decoder = Decoder(model, weights)
    cache, _ = decoder.begin(text)
    decoder.read(image[:, :12], torch.zeros(3, dtype=torch.long), cache)
    logits = decoder.step(image[:, 12], 12, cache)
    with torch.inference_mode():
        whole = model(text, image.view(3, 5, 6)).image[:, 13]
    distance = (logits - whole).std() / whole.std()
    assert 1e-5 < distance < 0.1  # they are rounded, but not by much


@pytest.mark.parametrize("kind", [Int8Linear, Int8WeightLinear])
@pytest.mark.parametrize("bias", [True, False])
def test_an_int8_row_is_near_and_does_not_depend_on_its_neighbours(kind: type[torch.nn.Module], bias: bool) -> None:
    if not torch.cpu._is_vnni_supported():
        pytest.skip("this processor has no 8-bit products")
    torch.manual_seed(0)
    linear = Linear(64, 48, bias=bias)
    layer = kind(linear)
    x = torch.randn(9, 64) * torch.tensor([1e-3, 1.0, 1e3, 1.0, 7.0, 1.0, 1.0, 1.0, 2.0])[:, None]
    with torch.no_grad():
        together, exact = layer(x), linear(x)
        for row in range(9):
            alone = layer(x[row : row + 1])[0]
            # Sums and scales are the same; only bfloat16's rounding of them may fall another way.
            assert torch.allclose(alone, together[row], rtol=2**-7, atol=2**-7 * float(exact[row].std()))
            assert (alone - exact[row]).norm() / exact[row].norm() < 0.02


@pytest.mark.parametrize("device", ["cpu", "plain"])
def test_attention_in_two_parts_joined_is_attention_to_both(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    queries, keys, values = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    if device == "plain":
        monkeypatch.setattr("trencadis.transformer.decoding.has_flash_attention", lambda _: False)
    first, first_lse = attention_with_lse(queries, keys[:, :, :5], values[:, :, :5], None)
    second, second_lse = attention_with_lse(queries, keys[:, :, 5:], values[:, :, 5:], None)
    joined = torch.lerp(first, second, torch.sigmoid(second_lse - first_lse)[..., None])
    expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
    assert torch.allclose(joined, expected, atol=1e-6)
