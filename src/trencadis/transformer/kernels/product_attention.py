"""Attention of short streams in 16 bits on a CPU: batched matrix products and a softmax.

torch's flash attention on a CPU hardly uses a processor's units for bfloat16; batched products do.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

LONGEST = 512
"""Positions up to which this is faster than flash attention, which does not store the probabilities.

Measured for each pattern on a processor with AMX; on one with AVX-512 BF16 alone, with full attention up to 296.
"""

CUT_FROM = 256
"""Positions from which the queries are cut into two: the first half does not see the second half's keys."""


def suits_products(queries: Float[Tensor, "batch heads positions head_dim"]) -> bool:
    """Return whether this form is the fastest. It depends on type and shape alone, so that a run repeats its results.

    float32 products are no faster than flash attention. A subclass, such as the plan's fake tensors, is refused.
    """
    is_plain = queries.device.type == "cpu" and type(queries) is Tensor
    return is_plain and queries.dtype == torch.bfloat16 and queries.shape[2] <= LONGEST


def product_attention(
    queries: Float[Tensor, "batch heads positions head_dim"],
    keys: Float[Tensor, "batch heads positions head_dim"],
    values: Float[Tensor, "batch heads positions head_dim"],
    bias: Float[Tensor, "positions positions"],
) -> Float[Tensor, "batch heads positions head_dim"]:
    """Attend to what the bias leaves of the positions up to one's own. Stores the probabilities in the inputs' type.

    Args:
        queries: Of all positions.
        keys: Of the same type, as are values and bias.
        values: What is averaged.
        bias: 0 where a query (row) sees a key, else minus infinity; always so for later keys.
    """
    seen: Tensor = _ProductAttention.apply(*(heads.flatten(0, 1) for heads in (queries, keys, values)), bias)  # type: ignore[no-untyped-call]
    return seen.view(queries.shape)


class _ProductAttention(torch.autograd.Function):
    """The queries in one or two parts, each with the keys up to its last position; batch and heads are one."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        scale, kept, seen = queries.shape[-1] ** -0.5, [], []
        with torch.autocast("cpu", enabled=False):
            for start, end in _parts(queries.shape[1]):
                query, key = queries[:, start:end], keys[:, :end]
                scores = torch.baddbmm(bias[start:end, :end], query, key.mT, alpha=scale)
                kept.append(torch.softmax(scores, -1))
                seen.append(torch.bmm(kept[-1], values[:, :end]))
        ctx.save_for_backward(queries, keys, values, *kept)
        return _joined(seen)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Take the last part first: it sees all keys, so that its sums are those that the other's are added to."""
        queries, keys, values, *kept = ctx.saved_tensors
        scale = queries.shape[-1] ** -0.5
        of_queries: list[Tensor] = []
        of_keys = of_values = torch.empty(0)
        with torch.autocast("cpu", enabled=False):
            for (start, end), seen in reversed(list(zip(_parts(queries.shape[1]), kept, strict=True))):
                of_seen = torch.bmm(grad[:, start:end], values[:, :end].mT)
                of_scores = torch.ops.aten._softmax_backward_data(of_seen, seen, -1, seen.dtype).mul_(scale)
                of_queries.insert(0, torch.bmm(of_scores, keys[:, :end]))
                key_part = torch.bmm(of_scores.mT, queries[:, start:end])
                value_part = torch.bmm(seen.mT, grad[:, start:end])
                if end == queries.shape[1]:
                    of_keys, of_values = key_part, value_part
                else:
                    of_keys[:, :end] += key_part
                    of_values[:, :end] += value_part
        return _joined(of_queries), of_keys, of_values, None


def _parts(positions: int) -> list[tuple[int, int]]:
    """Return where each part's queries start and end."""
    half = positions // 2
    return [(0, half), (half, positions)] if positions >= CUT_FROM else [(0, positions)]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
