"""Training in 16 bits: which type is used where, and a gradient scale for each residual block.

The gradients of a deep transformer's activations span more powers of two than float16 has, so that no single scale
suits them all. Ramesh et al. 2021 (section 2.4, figure 4 and the appendix on mixed precision) give every block a scale
of its own. bfloat16 has the exponents of float32 and needs none of this.

The arithmetic here is tested on a CPU, with float16 tensors. It has not trained a model on a GPU.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

Precision = Literal["float32", "bfloat16", "float16"]

FIRST_SCALE = 2.0**13  # as are the next five, for each replica: Ramesh et al. 2021
LEAST_SCALE = 2.0**7
GREATEST_SCALE = 2.0**24
RISE = 2.0 ** (1 / 1000)
FALL = 2.0**-0.5
UPDATES_BETWEEN_FALLS = 125


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context that a forward pass is run in. Parameters stay in float32."""
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "float32")


def has_fast_bfloat16(device: torch.device) -> bool:
    """Return whether the device has units for bfloat16; where it has none, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def default_precision(device: torch.device) -> Precision:
    """Return what training computes in where it is not told: bfloat16 on CUDA devices that have units for it."""
    return "bfloat16" if device.type == "cuda" and has_fast_bfloat16(device) else "float32"


class GradientScales:
    """The gradient scales of a stack of residual blocks. Source: Ramesh et al. 2021, section 2.4.

    A forward pass calls `wrap` for every block. After the backward pass `unscale` puts the parameters' gradients right
    and `update` moves the scales. All of it is the identity but for rounding.

    A scale is a number of any size; what is multiplied by is the power of two at or below it, so that scaling rounds
    nothing. The paper multiplies by the number itself.

    Args:
        num_blocks: Residual blocks, an attention or an MLP each where these are wrapped one by one.
    """

    def __init__(self, num_blocks: int) -> None:
        self._scales = [FIRST_SCALE] * num_blocks
        self._since_fall = [UPDATES_BETWEEN_FALLS] * num_blocks

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self._scales)

    def factor(self, block_index: int) -> float:
        """Return what a block's gradients are multiplied by now, a power of two."""
        return float(2.0 ** math.floor(math.log2(self._scales[block_index])))

    def wrap(
        self,
        block_index: int,
        x: Float[Tensor, "*shape"],
        residual_fn: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, "*shape"]:
        """Return `x + residual_fn(x)`, of which the second term's gradient is scaled while it is inside.

        The identity path is in the type of `x`, which should be float32 or wider. The gradient that leaves the block
        has zeros where it was not finite, so that an overflow in one block does not spread to those before it.
        """
        factor = self.factor(block_index)
        inside = _LeaveBackward.apply(x, factor)  # type: ignore[no-untyped-call]
        return x + _EnterBackward.apply(residual_fn(inside), factor)  # type: ignore[no-any-return, no-untyped-call]

    @torch.no_grad()
    def unscale(self, block_parameters: Sequence[Iterable[nn.Parameter]]) -> list[bool]:
        """Divide every block's parameter gradients by its factor, and set those of a block to zero that are not finite.

        Args:
            block_parameters: Of each block, in the order of the blocks. Parameters outside blocks are not touched.

        Returns:
            Whether each block's gradients were finite; for `update`. The device is waited for once.
        """
        assert len(block_parameters) == len(self), "as many blocks as scales"
        gradients = [[p.grad for p in parameters if p.grad is not None] for parameters in block_parameters]
        for index, own in enumerate(gradients):
            for gradient in own:
                gradient.mul_(1 / self.factor(index))
        flags = _are_finite(gradients)
        for own, is_finite in zip(gradients, flags, strict=True):
            for gradient in () if is_finite else own:
                gradient.zero_()
        return flags

    def update(self, finite: Sequence[bool]) -> None:
        """Raise the scales of blocks whose gradients were finite; lower the others', at most once in 125 updates."""
        for index, is_finite in enumerate(finite):
            self._since_fall[index] += 1
            change = RISE if is_finite else 1.0
            if not is_finite and self._since_fall[index] > UPDATES_BETWEEN_FALLS:
                change, self._since_fall[index] = FALL, 0
            scale = self._scales[index] * change
            self._scales[index] = min(max(scale, LEAST_SCALE), GREATEST_SCALE)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the scales, and the updates since each was last lowered."""
        return {
            "scales": torch.tensor(self._scales, dtype=torch.float64),
            "since_fall": torch.tensor(self._since_fall, dtype=torch.int64),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` returned."""
        assert len(state["scales"]) == len(self), "a checkpoint of another number of blocks"
        self._scales, self._since_fall = state["scales"].tolist(), state["since_fall"].tolist()


def _are_finite(groups: Sequence[Sequence[Tensor]]) -> list[bool]:
    """Return whether every number of a group is finite, for each; a group of none is."""
    norms = {index: torch.nn.utils.get_total_norm(group) for index, group in enumerate(groups) if group}
    measured = torch.stack(list(norms.values())).isfinite().tolist() if norms else []
    finite = dict(zip(norms, measured, strict=True))
    return [finite.get(index, True) for index in range(len(groups))]


class _LeaveBackward(torch.autograd.Function):
    """The identity at a block's input: where the backward pass leaves the block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.nan_to_num(grad, nan=0.0, posinf=0.0, neginf=0.0).mul_(1 / ctx.factor), None


class _EnterBackward(torch.autograd.Function):
    """The identity at a block's output, in float32 or wider: where the backward pass enters the block."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, factor: float) -> Tensor:
        ctx.factor, ctx.dtype = factor, residual.dtype
        wide = torch.promote_types(residual.dtype, torch.float32)
        return residual.view_as(residual) if wide == residual.dtype else residual.to(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad * ctx.factor).to(ctx.dtype), None
