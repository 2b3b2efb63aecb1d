"""Every form of a pattern against the dense mask: blocks, FlexAttention, and attention over the KV cache."""

from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trencadis.config import DesignConfig, TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.stream import Stream
from trencadis.transformer import ImageBlocks, KVDecoder, Pattern, Reads, Transformer, Weights
from trencadis.transformer.attention import PatternAttention
from trencadis.transformer.kernels.block_sparse import block_sparse_attention
from trencadis.transformer.kernels.cache_attention import CaptionGroups, Windows, attention_with_lse, join
from trencadis.transformer.masks import image_to_image, visibility

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
DESIGNS = {"paper": DesignConfig(), "modern": MODERN_DESIGN}
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


def queries_keys_values(stream: Stream) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, 4, stream.stream_len, 8, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid_size", [(4, 6), (7, 3), (12, 12)])
def test_block_sparse_attention_equals_dense_attention_with_its_gradients(
    pattern: Pattern, grid_size: tuple[int, int], dtype: torch.dtype
) -> None:
    stream = Stream(5, 10, grid_size, 4)
    attend = PatternAttention(pattern, stream, kernel_size=3)
    inputs = queries_keys_values(stream)
    rounded = [tensor.to(dtype) for tensor in inputs]
    dense = attend.dense(*(tensor.float() for tensor in rounded))
    blocks = block_sparse_attention(rounded[0], rounded[1], rounded[2], stream, attend.blocks)
    upstream = torch.randn_like(dense)
    tolerance = 2e-6 if dtype == torch.float32 else 0.02
    assert torch.allclose(dense, blocks.float(), atol=tolerance)
    for expected, actual in zip(
        torch.autograd.grad(dense, inputs, upstream),
        torch.autograd.grad(blocks, inputs, upstream.to(dtype)),
        strict=True,
    ):
        assert torch.allclose(expected, actual, atol=1e-5 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_a_layer_chooses_equals_dense_attention(pattern: Pattern) -> None:
    stream = Stream(5, 10, (12, 12), 4)
    attend = PatternAttention(pattern, stream, kernel_size=3)
    queries, keys, values = queries_keys_values(stream)
    assert attend.is_block_sparse == (pattern != "full")
    assert torch.allclose(attend(queries, keys, values), attend.dense(queries, keys, values), atol=2e-6)


def test_a_column_layer_is_cut_into_columns_and_a_row_layer_into_rows() -> None:
    stream = Stream(5, 10, (8, 8), 4)
    cut = {pattern: ImageBlocks.of(pattern, stream, kernel_size=3) for pattern in PATTERNS}
    assert (cut["column"].by_column, cut["column"].reach) == (True, 0)
    assert (cut["row"].by_column, cut["row"].reach) == (False, 1)
    assert (cut["convolutional"].by_column, cut["convolutional"].reach) == (False, 2)
    assert cut["full"].reach == 7


@settings(max_examples=40, deadline=None)
@given(grid=grids, half=st.integers(0, 2), pattern=st.sampled_from(PATTERNS))
def test_blocks_and_windows_say_what_the_dense_mask_says(grid: tuple[int, int], half: int, pattern: Pattern) -> None:
    stream, kernel_size = Stream(3, 10, grid, 4), 2 * half + 1
    dense = visibility(pattern, stream, kernel_size=kernel_size)[3:, 3:]
    blocks = ImageBlocks.of(pattern, stream, kernel_size=kernel_size)
    assert blocks.mask.sum() == dense.sum() == image_to_image(pattern, stream, kernel_size=kernel_size).sum()
    windows = Windows(pattern, stream, kernel_size=kernel_size, device=torch.device("cpu"))
    raster = torch.empty(stream.image_len, dtype=torch.long)
    raster[windows.place_table] = torch.arange(stream.image_len)
    for index in range(stream.image_len):
        read, bias = raster[windows.slices[index]], windows.biases[index]
        read = read if bias is None else read[bias.flatten() == 0]
        assert sorted(read.tolist()) == dense[index].nonzero().flatten().tolist()


@pytest.mark.parametrize("pattern", ["row", "column", "convolutional"])
def test_the_windows_of_a_sparse_pattern_are_short(pattern: Pattern) -> None:
    windows = Windows(pattern, Stream(3, 10, (16, 16), 4), kernel_size=3, device=torch.device("cpu"))
    assert max(window.stop - window.start for window in windows.slices) == {
        "row": 17, "column": 16, "convolutional": 18
    }[pattern]  # fmt: skip
    assert all(bias is None for bias in windows.biases) == (pattern != "convolutional")


def caches(decoder: KVDecoder, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the logits of two captions' two pictures each, by the four ways to read image tokens."""
    streams, captions, steps = (0, 1, 2, 3), (0, 0, 1, 1), image.shape[1] - 1
    one, several, compiled, prefix = (decoder.new_cache(4, 2) for _ in range(4))
    for cache in (one, several, compiled, prefix):
        first = torch.stack([decoder.read_caption(text[caption], cache, caption) for caption in (0, 1)])
    by_one, by_several, by_tensor = [first[[0, 0, 1, 1]]], [first[[0, 0, 1, 1]][:, None]], [first[[0, 0, 1, 1]]]
    for index in range(steps):
        reads = Reads(streams, captions, ((index,),) * 4)
        by_one.append(decoder.read(image[:, index : index + 1], reads, one)[:, 0])
        with torch.inference_mode():
            position, of_stream = torch.full((4,), index), torch.tensor(captions)
            by_tensor.append(decoder.step_all(image[:, index], position, of_stream, compiled.text, compiled.image))
    for start in range(0, steps, 5):
        new = tuple(range(start, min(start + 5, steps)))
        read = decoder.read(image[:, list(new)], Reads(streams, captions, (new,) * 4), several)
        by_several.append(read)
    by_prefix = [decoder.read_prefix(image[0, :9], prefix, [0, 1], 0)]
    by_prefix.append(decoder.read(image[:1, 9:10], Reads((1,), (0,), ((9,),)), prefix)[0, 0])
    return torch.stack(by_one, 1), torch.cat(by_several, 1), torch.stack(by_tensor, 1), torch.stack(by_prefix)


@pytest.mark.parametrize("attention", ["sparse", "full"])
@pytest.mark.parametrize("design", DESIGNS)
def test_every_way_to_read_tokens_gives_the_logits_of_the_whole_stream(design: str, attention: str) -> None:
    model = transformer(DESIGNS[design], attention)
    text = model.stream.pad_captions([[3, 1, 4], [1, 5, 9, 2, 6, 5]])
    image = torch.randint(17, (4, 30))
    with torch.inference_mode():
        whole = model.logits(text[[0, 0, 1, 1]], image.view(4, 5, 6)).image
    by_one, by_several, by_tensor, by_prefix = caches(KVDecoder(model), text, image)
    assert whole.std() > 0.1
    assert torch.allclose(by_one, whole, atol=1e-4)
    assert torch.equal(by_several, by_one)  # bit for bit: Jacobi decoding relies on it
    assert torch.allclose(by_tensor, whole, atol=1e-4)
    assert torch.allclose(by_prefix, whole[0, 9:11], atol=1e-4)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("design", DESIGNS)
def test_smaller_weights_stay_near_the_whole_streams_logits(design: str, weights: Weights) -> None:
    model = transformer(DESIGNS[design])
    text, image = model.stream.pad_captions([[3, 1, 4], [1, 5]]), torch.randint(17, (4, 30))
    with torch.inference_mode():
        whole = model.logits(text[[0, 0, 1, 1]], image.view(4, 5, 6)).image
    by_one, by_several, _, _ = caches(KVDecoder(model, weights), text, image)
    assert torch.equal(by_several, by_one)
    distance = (by_one - whole).std() / whole.std()
    assert 1e-5 < distance < 0.1  # they are rounded, but not by much


@pytest.mark.parametrize("device", ["cpu", "plain"])
def test_attention_in_two_parts_joined_is_attention_to_both(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    queries, keys, values = torch.randn(2, 3, 4, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    if device == "plain":
        monkeypatch.setattr("trencadis.transformer.kernels.cache_attention.has_flash_attention", lambda _: False)
    first, first_lse = attention_with_lse(queries, keys[:, :, :5], values[:, :, :5], None)
    second, second_lse = attention_with_lse(queries, keys[:, :, 5:], values[:, :, 5:], None)
    expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
    assert torch.allclose(join(first, first_lse, second, second_lse), expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(captions=st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_rows_attend_to_their_captions_in_whatever_order_they_come(captions: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(len(captions), 2, 8, generator=generator)
    keys, values = (torch.randn(2, 6, 7, 8, generator=generator) for _ in range(2))
    seen, lse = CaptionGroups(tuple(captions), queries.device).attend(queries, keys, values)
    own_keys, own_values = (tensor[:, captions].transpose(0, 1) for tensor in (keys, values))
    expected = torch.nn.functional.scaled_dot_product_attention(queries[:, :, None], own_keys, own_values)[:, :, 0]
    scores = torch.einsum("rhd,rhkd->rhk", queries, own_keys) * 8**-0.5
    assert torch.allclose(seen, expected, atol=1e-6)
    assert torch.allclose(lse, scores.logsumexp(-1), atol=1e-5)
    alone = [CaptionGroups((caption,), queries.device) for caption in captions]
    by_row = [own.attend(queries[row, None], keys, values)[0][0] for row, own in enumerate(alone)]
    assert torch.equal(torch.stack(by_row), seen)  # bit for bit
