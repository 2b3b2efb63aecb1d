"""Products, MLP and RMSNorm for processors, with backward passes that store little.

In the transformer, private operators of torch are used in the files of `kernels` only.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trencadis.transformer.kernels.narrow import EPS, narrow_rms_norm, suits_blocks

Activation = Literal["gelu", "relu2"]


@functools.cache
def _matmul_is_held_back() -> bool:
    """Whether float32 products are faster by oneDNN than by MKL, which `F.linear` calls.

    MKL uses its AVX-512 kernels on Intel's CPUs only; on others oneDNN is twice as fast. The answer depends on the CPU
    alone, so that a machine repeats its results.
    """
    cpu = Path("/proc/cpuinfo")
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and cpu.is_file()
        and "GenuineIntel" not in cpu.read_text()
    )


@functools.cache
def _fuses_bfloat16() -> bool:
    """Whether oneDNN multiplies in bfloat16 and works on the product before it is written."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _fuses(x: Tensor) -> bool:
    return type(x) is Tensor and x.device.type == "cpu" and x.dtype == torch.bfloat16 and _fuses_bfloat16()


def _uses_onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0 and _matmul_is_held_back()


def product(
    x: Float[Tensor, "rows in_dim"],
    weight: Float[Tensor, "out_dim in_dim"],
    bias: Float[Tensor, " out_dim"] | None = None,
    *,
    relu: bool = False,
) -> Float[Tensor, "rows out_dim"]:
    """Return `x @ weight.T + bias`, or its positive part. Records no gradient. Transposed views cost nothing extra."""
    if _uses_onednn(x) or (relu and x.numel() > 0 and _fuses(x)):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")  # type: ignore[no-any-return]
    y = F.linear(x, weight, bias)
    return y.relu_() if relu else y


def multiplied_product(
    x: Float[Tensor, "rows in_dim"], weight: Float[Tensor, "out_dim in_dim"], factors: Float[Tensor, "rows out_dim"]
) -> Float[Tensor, "rows out_dim"]:
    """Return `factors * (x @ weight.T)`, rounded once where the type is narrow and oneDNN can. Records no gradient."""
    if x.numel() > 0 and _fuses(x):
        return torch.ops.mkldnn._linear_pointwise.binary(x, factors, weight, None, "mul")  # type: ignore[no-any-return]
    return product(x, weight).mul_(factors)


def batched_product(
    x: Float[Tensor, "count rows inner"], y: Float[Tensor, "count inner columns"]
) -> Float[Tensor, "count rows columns"]:
    """Return `x @ y`. Records no gradient."""
    if not _uses_onednn(x):
        return torch.bmm(x, y)
    return torch.stack([product(left, right.t()) for left, right in zip(x, y, strict=True)])


def added_product(
    base: Float[Tensor, "count rows columns"],
    x: Float[Tensor, "count rows inner"],
    y: Float[Tensor, "count inner columns"],
    *,
    keep: float,
    factor: float = 1.0,
) -> Float[Tensor, "count rows columns"]:
    """Return `keep * base + factor * x @ y`, rounded once where the type is narrow. Records no gradient."""
    if not _uses_onednn(x):
        return torch.baddbmm(base, x, y, beta=keep, alpha=factor)
    return batched_product(x, y).mul_(factor).add_(base, alpha=keep)


def counted_products() -> dict[Any, Callable[..., int]]:
    """Return the operations of oneDNN's product and of the CPU's attention for `FlopCounterMode`, which lacks both."""

    def attention(queries: torch.Size, keys: torch.Size, values: torch.Size, *_: object, **__: object) -> int:
        return 2 * math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1])

    def operations(x: torch.Size, *_: object, out_shape: torch.Size, **__: object) -> int:
        return 2 * math.prod(x) * out_shape[-1]

    counted: dict[Any, Callable[..., int]] = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        counted[torch.ops.mkldnn._linear_pointwise] = operations
    return counted


class _Linear(torch.autograd.Function):
    """`product` with its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        return _linear_gradients(ctx.needs_input_grad, grad, x, weight)


def _linear_gradients(
    needed: tuple[bool, ...], grad: Tensor, x: Tensor, weight: Tensor
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    return (
        product(grad, weight.t()) if needed[0] else None,
        product(grad.t(), x.t()) if needed[1] else None,
        grad.sum(0) if needed[2] else None,
    )


def linear(
    x: Float[Tensor, "*batch in_dim"],
    weight: Float[Tensor, "out_dim in_dim"],
    bias: Float[Tensor, " out_dim"] | None = None,
) -> Float[Tensor, "*batch out_dim"]:
    """Return `F.linear(x, weight, bias)` by the faster of MKL and oneDNN, forward and backward."""
    if torch.is_autocast_enabled(x.device.type) or not _uses_onednn(x):
        return F.linear(x, weight, bias)
    y: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias)  # type: ignore[no-untyped-call]
    return y.reshape(*x.shape[:-1], len(weight))


class _MLP(torch.autograd.Function):
    """The MLP; stores the input and one hidden tensor, and computes the activation again in the backward pass.

    The hidden tensor is the input of GELU. For ReLU² it is the positive part, which the square and its gradient need.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w_in: Tensor,
        b_in: Tensor | None,
        w_out: Tensor,
        b_out: Tensor | None,
        activation: Activation,
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            kept = product(x, w_in, b_in, relu=activation == "relu2")
            ctx.save_for_backward(x, w_in, w_out, kept)
            ctx.activation = activation
            return product(_activated(kept, activation), w_out, b_out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_in, w_out, kept = ctx.saved_tensors
        needed = ctx.needs_input_grad
        with torch.autocast(x.device.type, enabled=False):
            activated = _activated(kept, ctx.activation) if needed[3] else kept
            _, *outer = _linear_gradients((False, *needed[3:5]), grad, activated, w_out)
            del activated  # before the next tensors of its size
            if not any(needed[:3]):
                return None, None, None, *outer, None
            if ctx.activation == "relu2":
                hidden = multiplied_product(grad, 2 * w_out.t(), kept)
            else:
                hidden = torch.ops.aten.gelu_backward(product(grad, w_out.t()), kept)
            return *_linear_gradients(needed[:3], hidden, x, w_in), *outer, None


def _activated(kept: Tensor, activation: Activation) -> Tensor:
    return kept * kept if activation == "relu2" else F.gelu(kept)


def mlp(
    x: Float[Tensor, "*batch dim"],
    w_in: Float[Tensor, "mlp_dim dim"],
    b_in: Float[Tensor, " mlp_dim"] | None,
    w_out: Float[Tensor, "dim mlp_dim"],
    b_out: Float[Tensor, " dim"] | None,
    activation: Activation,
) -> Float[Tensor, "*batch dim"]:
    """Return `activation(x @ w_in.T + b_in) @ w_out.T + b_out`, storing one hidden tensor instead of two.

    Under autocast it is computed in autocast's type; gradients have the arguments' types.

    Args:
        activation: `gelu` is the exact one; `relu2` is the square of the positive part (So et al. 2021, "Primer").
    """
    rows = x.reshape(-1, x.shape[-1])
    arguments: list[Tensor | None] = [rows, w_in, b_in, w_out, b_out]
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        arguments = [None if argument is None else argument.to(dtype) for argument in arguments]
    y: Tensor = _MLP.apply(*arguments, activation)  # type: ignore[no-untyped-call]
    return y.reshape(x.shape)


class _RMSNorm(torch.autograd.Function):
    """Stores the input and one number per row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        mean_square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().mul_(1 / x.shape[-1])
        inverse: Tensor = mean_square.add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        y: Tensor = x * inverse
        return y if weight is None else y.mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """With r = 1/rms and g the gradient of x·r: that of x is r·(g - x·r²·mean(x·g))."""
        x, weight, inverse = ctx.saved_tensors
        dim = x.shape[-1]
        weighted = x * grad
        if weight is None:
            grad_weight, along, grad = None, weighted.sum(-1, keepdim=True), grad.clone()
        else:
            rows = weighted.reshape(-1, dim)
            grad_weight = torch.mv(rows.t(), inverse.flatten()) if ctx.needs_input_grad[1] else None
            along, grad = torch.mv(rows, weight).view_as(inverse), grad * weight
        share = inverse.square().mul_(along).mul_(-1 / dim)
        gradient: Tensor = grad.addcmul_(x, share).mul_(inverse)
        return gradient, grad_weight, None


def rms_norm(
    x: Float[Tensor, "*batch dim"], weight: Float[Tensor, " dim"] | None = None, *, eps: float = EPS
) -> Float[Tensor, "*batch dim"]:
    """Return `x` divided by its root mean square over the last dimension, times `weight`.

    It is computed in float32 under autocast, and the result is float32 too, or bfloat16 on a CPU under autocast to it.
    On a CPU, torch's own backward pass is several kernels and takes two to four times as long; elsewhere it is used.
    """
    if weight is not None and suits_blocks(x):
        return narrow_rms_norm(x, weight, eps=eps)
    if torch.is_autocast_enabled(x.device.type):
        x, weight = x.float(), None if weight is None else weight.float()
    if x.device.type != "cpu":
        return F.rms_norm(x, x.shape[-1:], weight, eps)
    return _RMSNorm.apply(x, weight, eps)  # type: ignore[no-any-return, no-untyped-call]
