"""Training in 16 bits: which type is used where, and a gradient scale for each residual branch.

The gradients of a deep transformer's activations span more powers of two than float16 has, so no single scale suits
them all. Ramesh et al. 2021 (section 2.4, figure 4 and the appendix on mixed precision) give each branch, attention or
MLP, its own scale. bfloat16 has the exponents of float32 and needs none of this.

The arithmetic is tested on a CPU with float16 tensors. It has not trained a model on a GPU.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from trencadis.devices import has_bfloat16_units

Precision = Literal["float32", "bfloat16", "float16"]

FIRST_SCALE = 2.0**13  # this and the next four: Ramesh et al. 2021
LEAST_SCALE = 2.0**7
GREATEST_SCALE = 2.0**24
RISE = 2.0 ** (1 / 1000)
FALL = 2.0**-0.5
UPDATES_BETWEEN_FALLS = 125


def autocast(device: torch.device, precision: Precision | None) -> torch.autocast:
    """Return the context of a forward pass; None is float32. Parameters stay in float32."""
    dtype = torch.float16 if precision == "float16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision not in (None, "float32"))


def default_precision(device: torch.device) -> Precision:
    """Return the fastest type that a run can be trained in without a scale."""
    return "bfloat16" if has_bfloat16_units(device) else "float32"


class GradientScales:
    """Gradient scales for a stack of residual branches, one each. Source: Ramesh et al. 2021, section 2.4.

    Hooks on the branches' modules scale the gradient where the backward pass enters a branch and remove the scale where
    it leaves. `unscale` then corrects the parameters' gradients, and `update` adapts the scales. Up to rounding all of
    it is the identity. The identity path is in the type of the stream, which should be float32 or wider.

    A gradient that leaves a branch has zeros where it was not finite, so that an overflow does not spread to the
    branches before it. The gradient is multiplied by the power of two at or below the scale, so that scaling itself
    does not round; the paper multiplies by the scale.

    Args:
        branches: The modules of each branch, in order. The first takes the residual stream as its first argument; what
            the last returns is added to the stream.
    """

    def __init__(self, branches: Sequence[Sequence[nn.Module]]) -> None:
        self._branches = branches
        self._scales = [FIRST_SCALE] * len(branches)
        self._since_fall = [UPDATES_BETWEEN_FALLS] * len(branches)
        for index, modules in enumerate(branches):
            modules[0].register_forward_pre_hook(partial(self._before, index))
            modules[-1].register_forward_hook(partial(self._after, index))

    def factor(self, index: int) -> float:
        return float(2.0 ** math.floor(math.log2(self._scales[index])))

    def _before(self, index: int, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return _LeaveBackward.apply(arguments[0], self.factor(index)), *arguments[1:]  # type: ignore[no-untyped-call]

    def _after(self, index: int, module: nn.Module, arguments: tuple[Any, ...], residual: Tensor) -> Tensor:
        return _EnterBackward.apply(residual, self.factor(index))  # type: ignore[no-any-return, no-untyped-call]

    @torch.no_grad()
    def unscale(self) -> list[bool]:
        """Divide the gradients of each branch's parameters by its factor; set those of a branch to 0 that overflowed.

        Returns:
            Whether each branch's gradients were finite. The device is waited for once.
        """
        flags: list[Tensor] = []
        for index, modules in enumerate(self._branches):
            gradients = [p.grad for module in modules for p in module.parameters() if p.grad is not None]
            for gradient in gradients:
                gradient.mul_(1 / self.factor(index))
            is_finite = torch.nn.utils.get_total_norm(gradients).isfinite()
            for gradient in gradients:
                gradient.masked_fill_(~is_finite, 0.0)
            flags.append(is_finite)
        finite: list[bool] = torch.stack(flags).tolist() if flags else []
        return finite

    def update(self, finite: Sequence[bool]) -> None:
        """Raise the scales of branches whose gradients were finite; lower the others, at most once in 125 updates."""
        for index, is_finite in enumerate(finite):
            self._since_fall[index] += 1
            change = RISE if is_finite else 1.0
            if not is_finite and self._since_fall[index] > UPDATES_BETWEEN_FALLS:
                change, self._since_fall[index] = FALL, 0
            self._scales[index] = min(max(self._scales[index] * change, LEAST_SCALE), GREATEST_SCALE)

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "scales": torch.tensor(self._scales, dtype=torch.float64),
            "since_fall": torch.tensor(self._since_fall, dtype=torch.int64),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        assert len(state["scales"]) == len(self._scales), "a checkpoint of another number of branches"
        self._scales, self._since_fall = state["scales"].tolist(), state["since_fall"].tolist()


class _LeaveBackward(torch.autograd.Function):
    """The identity at a branch's input, where the backward pass leaves it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.nan_to_num(grad, nan=0.0, posinf=0.0, neginf=0.0).mul_(1 / ctx.factor), None


class _EnterBackward(torch.autograd.Function):
    """The identity at a branch's output, in float32 or wider, where the backward pass enters it."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, factor: float) -> Tensor:
        ctx.factor, ctx.dtype = factor, residual.dtype
        wide = torch.promote_types(residual.dtype, torch.float32)
        return residual.view_as(residual) if wide == residual.dtype else residual.to(wide)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return (grad * ctx.factor).to(ctx.dtype), None
