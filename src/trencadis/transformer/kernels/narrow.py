"""Norms and rotations of training in 16 bits on a CPU, block by block, so that intermediate results stay in the cache.

What is read and written in memory is in 16 bits, except the residual stream; within a block all is float32.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-6
"""Added to mean squares, so that a row of zeros stays one."""

BLOCK = 2**18
"""Numbers of a block: 1 MiB in float32."""


def suits_blocks(x: Tensor) -> bool:
    """Return whether these kernels compute under the present autocast: in bfloat16 on a CPU.

    A subclass, such as the plan's fake tensors, is refused.
    """
    is_plain = x.device.type == "cpu" and type(x) in (Tensor, torch.nn.Parameter)
    return is_plain and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def blocks_of(count: int, size: int) -> Iterator[slice]:
    """Yield slices of `count` rows of `size` numbers each."""
    step = max(1, BLOCK // max(1, size))
    return (slice(start, start + step) for start in range(0, count, step))


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().mul_(1 / x.shape[-1])
    inverse: Tensor = mean_square.add_(eps).rsqrt_()
    return inverse


def narrow_rms_norm(
    x: Float[Tensor, "*batch dim"], weight: Float[Tensor, " dim"], *, eps: float = EPS
) -> Float[Tensor, "*batch dim"]:
    """Return `rms_norm` in bfloat16; x is float32 or bfloat16."""
    y: Tensor = _NarrowRMSNorm.apply(x.reshape(-1, x.shape[-1]), weight, eps)  # type: ignore[no-untyped-call]
    return y.view(x.shape)


class _NarrowRMSNorm(torch.autograd.Function):
    """Stores the input and one number per row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        y, inverse = torch.empty_like(x, dtype=torch.bfloat16), x.new_empty(len(x), 1, dtype=torch.float32)
        for block in blocks_of(*x.shape):
            wide = x[block].float()
            inverse[block] = _inverse_rms(wide, eps)
            y[block] = (wide * inverse[block]).mul_(weight)
        ctx.save_for_backward(x, weight, inverse)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """As in `kernels.cpu`: with r = 1/rms and g the gradient of x·r, that of x is r·(g - x·r²·mean(x·g))."""
        x, weight, inverse = ctx.saved_tensors
        of_x, of_weight = torch.empty_like(x), torch.zeros_like(weight)
        for block in blocks_of(*x.shape):
            wide, of_y, scale = x[block].float(), grad[block].float(), inverse[block]
            weighted = wide * of_y
            of_weight.addmv_(weighted.t(), scale.flatten())
            share = scale.square().mul_(torch.mv(weighted, weight)[:, None]).mul_(-1 / x.shape[-1])
            of_x[block] = of_y.mul_(weight).addcmul_(wide, share).mul_(scale)
        return of_x, of_weight, None


def narrow_heads(
    qkv: Float[Tensor, "batch positions qkv_dim"],
    gains: Float[Tensor, "2 head_dim"],
    turns: Complex[Tensor, "positions half_head_dim"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalised and rotated queries and keys, and the values, each (batch, heads, positions, head_dim).

    Args:
        qkv: The projection's bfloat16 output; queries, keys and values of all heads, one behind the other.
        gains: Of the norms of queries and of keys.
        turns: Of absolute value 1; pairs of neighbouring numbers are multiplied by them.
    """
    batch, positions, _ = qkv.shape
    heads = qkv.view(batch, positions, 3, -1, gains.shape[-1])
    return _NarrowHeads.apply(heads, gains, turns)  # type: ignore[no-any-return, no-untyped-call]


class _NarrowHeads(torch.autograd.Function):
    """Stores the input and one number per head and position."""

    @staticmethod
    def forward(ctx: Any, heads: Tensor, gains: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, positions, _, count, dim = heads.shape
        outputs = heads.new_empty(3, batch, count, positions, dim)
        inverse = heads.new_empty(batch, positions, 2, count, 1, dtype=torch.float32)
        for block in blocks_of(batch, heads[0].numel()):
            wide = heads[block, :, :2].float()
            inverse[block] = _inverse_rms(wide, EPS)
            rotated = _rotated(wide.mul_(inverse[block]).mul_(gains[:, None]), turns)
            outputs[:2, block] = rotated.permute(2, 0, 3, 1, 4)
            outputs[2, block] = heads[block, :, 2].transpose(1, 2)
        ctx.save_for_backward(heads, gains, turns, inverse)
        queries, keys, values = outputs.unbind()
        return queries, keys, values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient is turned back, then goes through the norms as in `_NarrowRMSNorm`."""
        heads, gains, turns, inverse = ctx.saved_tensors
        of_heads, of_gains, back = torch.empty_like(heads), torch.zeros_like(gains), turns.conj().resolve_conj()
        for block in blocks_of(len(heads), heads[0].numel()):
            normed = heads[block, :, :2].float().mul_(inverse[block])
            turned = torch.empty_like(normed)
            for part in range(2):
                turned[:, :, part] = grads[part][block].transpose(1, 2)
            turned = _rotated(turned, back)
            weighted = normed * turned
            of_gains += weighted.flatten(0, 1).sum(0).sum(1)  # at once it takes several times as long
            along = weighted.mul_(gains[:, None]).mean(-1, keepdim=True)
            gradient = turned.mul_(gains[:, None]).addcmul_(normed, along, value=-1).mul_(inverse[block])
            of_heads[block, :, :2] = gradient
            of_heads[block, :, 2] = grads[2][block].transpose(1, 2)
        return of_heads, of_gains, None


def _rotated(
    x: Float[Tensor, "batch positions 2 heads head_dim"], turns: Complex[Tensor, "positions half_head_dim"]
) -> Float[Tensor, "batch positions 2 heads head_dim"]:
    """Multiply the pairs by complex numbers, in place."""
    torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)).mul_(turns[:, None, None])
    return x
