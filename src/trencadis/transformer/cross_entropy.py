"""The cross-entropy of a linear head, which never holds the logits of a large batch at once."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from trencadis.transformer.kernels.narrow import blocks_of, suits_blocks

LOGITS_AT_ONCE = 2**24
"""Most logits of a chunk: 64 MiB in float32."""


def cross_entropy_sum(
    head: nn.Module, states: Float[Tensor, "rows dim"], targets: Int[Tensor, " rows"], vocab_size: int
) -> Float[Tensor, ""]:
    """Return the sum of the rows' cross-entropies in nats, in float32; 0 for no rows.

    Where the logits would take more than `LOGITS_AT_ONCE`, the rows go in chunks whose logits are computed a second
    time in the backward pass. In bfloat16 on a CPU, each chunk's gradients are computed with its loss instead.
    """
    rows = max(1, LOGITS_AT_ONCE // vocab_size)
    if isinstance(head, nn.Linear) and len(states) and suits_blocks(states):
        arguments = (states.to(torch.bfloat16), head.weight, head.bias, targets, rows, torch.is_grad_enabled())
        return _NarrowSum.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]
    if len(states) <= rows:
        return _chunk_sum(head, states, targets)
    sums = [
        checkpoint(_chunk_sum, head, *chunk, use_reentrant=False)
        for chunk in zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
    ]
    return torch.stack(sums).sum()


def _chunk_sum(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    logits = head(states)
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(wide), targets, reduction="sum")


class _NarrowSum(torch.autograd.Function):
    """The sum with products in bfloat16; stores its own gradients, and no logits."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, rows: int, has_grad: bool
    ) -> Tensor:
        parameters = [weight] if bias is None else [weight, bias]
        gradients = [torch.zeros_like(tensor, dtype=torch.float32) for tensor in parameters] if has_grad else []
        narrow, *narrow_bias = (tensor.to(torch.bfloat16) for tensor in parameters)
        of_states, sums = torch.empty_like(states), []
        with torch.autocast("cpu", enabled=False):
            for part, labels, of_part in zip(
                *(torch.split(x, rows) for x in (states, targets, of_states)), strict=True
            ):
                padded = F.pad(part, (0, 0, 0, _rounded_up(len(part)) - len(part)))
                logits = F.linear(padded, narrow, *narrow_bias)
                sums.append(_sum_and_gradient(logits[: len(part)], labels))
                logits[len(part) :] = 0
                if has_grad:
                    of_part.copy_(torch.mm(logits, narrow)[: len(part)])
                    gradients[0] += logits.t() @ padded
                    for of_bias in gradients[1:]:
                        of_bias += logits.sum(0, dtype=torch.float32)
        ctx.save_for_backward(of_states, *gradients)
        return torch.stack(sums).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_states, of_weight, *of_bias = (stored * grad for stored in ctx.saved_tensors)
        return of_states, of_weight, of_bias[0] if of_bias else None, None, None, None


def _rounded_up(count: int) -> int:
    """Return a count of rows that is larger by an eighth or 63 at most.

    Captions differ in length, so that each update would have a shape of its own. oneDNN keeps a kernel for each shape,
    up to a thousand, and the memory of an update breaks up among them: it grew by 20 MB with every update.
    """
    step = max(64, 1 << max(0, count.bit_length() - 4))
    return -(-count // step) * step


def _sum_and_gradient(logits: Float[Tensor, "rows ids"], targets: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
    """Return the sum of cross-entropies, and overwrite the logits with its gradient."""
    sums = []
    for block in blocks_of(*logits.shape):
        wide, labels = logits[block].float(), targets[block, None]
        highest = wide.amax(1, keepdim=True)
        own = wide.gather(1, labels)
        total = wide.sub_(highest).exp_().sum(1, keepdim=True)
        sums.append((total.log() + highest - own).sum())
        logits[block] = wide.div_(total).scatter_add_(1, labels, torch.full_like(own, -1.0))
    return torch.stack(sums).sum()
