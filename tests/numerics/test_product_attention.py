"""Attention as batched products against torch's own, with its gradients, and when a layer chooses it."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from trencadis.config import TransformerConfig
from trencadis.recipes import MODERN_DESIGN
from trencadis.stream import Stream
from trencadis.transformer import Pattern, Transformer, attention
from trencadis.transformer.attention import PatternAttention
from trencadis.transformer.kernels.product_attention import CUT_FROM, LONGEST, product_attention
from trencadis.transformer.masks import visibility

PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
SHORT, CUT = Stream(5, 10, (4, 6), 4), Stream(4, 10, (23, 11), 4)  # the second is odd: its two parts differ by one


def heads(positions: int, dtype: torch.dtype) -> list[Tensor]:
    """Return queries, keys and values as a layer has them: the heads of a position lie side by side."""
    torch.manual_seed(0)
    return [torch.randn(2, positions, 3, 8, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)]


def bias_of(pattern: Pattern, stream: Stream, dtype: torch.dtype) -> Tensor:
    mask = visibility(pattern, stream, kernel_size=3)
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, -torch.inf)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("stream", [SHORT, CUT], ids=["whole", "in two parts"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.06)]
)
def test_products_are_torchs_attention_with_its_gradients(
    pattern: Pattern, stream: Stream, dtype: torch.dtype, tolerance: float
) -> None:
    assert SHORT.stream_len < CUT_FROM < CUT.stream_len < LONGEST
    inputs = heads(stream.stream_len, dtype)
    wide = [tensor.detach().double().requires_grad_() for tensor in inputs]
    mask = visibility(pattern, stream, kernel_size=3)
    expected = torch.nn.functional.scaled_dot_product_attention(wide[0], wide[1], wide[2], attn_mask=mask)
    seen = product_attention(inputs[0], inputs[1], inputs[2], bias_of(pattern, stream, dtype))
    assert seen.dtype == dtype
    torch.testing.assert_close(seen.double(), expected, atol=tolerance, rtol=tolerance)
    upstream = torch.randn_like(expected)
    gradients = torch.autograd.grad(seen, inputs, upstream.to(dtype))
    for actual, whole in zip(gradients, torch.autograd.grad(expected, wide, upstream), strict=True):
        torch.testing.assert_close(actual.double(), whole, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("dtype", "grid_size", "is_chosen"),
    [
        (torch.bfloat16, (4, 6), True),
        (torch.bfloat16, (13, 39), True),  # 512 positions
        (torch.bfloat16, (2, 254), False),  # 513
        (torch.float32, (4, 6), False),
    ],
)
def test_a_layer_computes_short_streams_in_bfloat16_by_products(
    pattern: Pattern,
    dtype: torch.dtype,
    grid_size: tuple[int, int],
    is_chosen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[int] = []

    def counted(*arguments: Tensor) -> Tensor:
        calls.append(1)
        return product_attention(*arguments)

    monkeypatch.setattr(attention, "product_attention", counted)
    stream = Stream(5, 10, grid_size, 4)
    attend = PatternAttention(pattern, stream, kernel_size=3)
    queries, keys, values = (tensor.detach() for tensor in heads(stream.stream_len, dtype))
    dense = attend.dense(queries.float(), keys.float(), values.float())
    torch.testing.assert_close(attend(queries, keys, values).float(), dense, atol=0.04, rtol=0.02)
    assert bool(calls) == is_chosen


def test_the_transformer_in_bfloat16_has_the_gradients_of_float32() -> None:
    config = TransformerConfig(
        text_len=6, text_vocab_size=20, grid_size=(5, 6), image_vocab_size=17, num_layers=3, num_heads=2, head_dim=32,
        attention="sparse", kernel_size=3, design=MODERN_DESIGN,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.1)
    text, image = model.stream.pad_captions([[3, 1, 4], [1, 5, 9]]), torch.randint(17, (2, 5, 6))
    found: list[Tensor] = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = model.losses(text, image)
        gradients = torch.autograd.grad(losses.text + losses.image, list(model.parameters()))
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert torch.nn.functional.cosine_similarity(found[0], found[1], dim=0) > 0.999
