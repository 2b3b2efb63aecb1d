"""Linear layers of decoding: weights laid out once for products with few rows, in 32, 16 or 8 bits.

A decoding step multiplies every weight by as few rows as there are streams, so that reading the weights takes the time.
A row's result must not depend on how many rows there are, so that a seed's picture is the same in any batch. Kernels
differ in this from machine to machine, so each is tried: see `steady_sizes`. The choice of kernels is recorded in
docs/decisions/0009, the promise in 0013.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.devices import has_bfloat16_units
from trencadis.errors import ConfigError
from trencadis.transformer.kernels.cpu import Activation
from trencadis.transformer.layers import MLP, Linear

Weights = Literal["float32", "bfloat16", "int8"]
Product = Callable[[Tensor], Tensor]

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of rows that products are computed with; others are padded."""

BLOCK = 16
"""The size whose results all others must equal, bit for bit."""

LEVELS = 127  # of a signed byte, the same both ways
ZERO_POINT = 128  # of an unsigned byte


def packed(module: nn.Module, weights: Weights, *, compiles: bool = False) -> nn.Module:
    """Return a copy of a module whose linear layers are laid out for decoding; other modules are shared, not copied.

    Args:
        module: In evaluation mode.
        weights: Type that the weights are rounded to. Where the processor has no units for it, products of the rounded
            weights are computed in float32.
        compiles: Use torch's own products, which compile. A row then depends on the others up to rounding.

    Raises:
        ConfigError: The type is unknown, or there are no products for it on the device.
    """
    if weights not in get_args(Weights):
        expected = f"one of {', '.join(get_args(Weights))}"
        raise ConfigError(f"weights {weights!r}", expected=expected, remedy="choose one of them")
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    replica = copy.deepcopy(module, shared)
    _pack_children(replica, weights, compiles)
    return DecodingLinear(replica, weights, compiles) if isinstance(replica, Linear) else replica


def _pack_children(module: nn.Module, weights: Weights, compiles: bool) -> None:
    for name, child in module.named_children():
        if isinstance(child, MLP):
            up, down = child.layers
            first = DecodingLinear(up, weights, compiles, child.activation)
            setattr(module, name, nn.Sequential(first, DecodingLinear(down, weights, compiles)))
        elif isinstance(child, Linear):
            setattr(module, name, DecodingLinear(child, weights, compiles))
        else:
            _pack_children(child, weights, compiles)


class DecodingLinear(nn.Module):
    """A linear layer, with the activation behind it if there is one, whose every row is computed as if alone."""

    def __init__(
        self, linear: nn.Linear, weights: Weights, compiles: bool = False, activation: Activation | None = None
    ) -> None:
        super().__init__()
        weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
        is_plain = compiles or weight.device.type != "cpu"
        layer = _Layer(weight, bias, activation)
        self._product = _plain(layer, weights) if is_plain else _on_cpu(layer, weights)
        kernel = weights, len(weight), bias is None, activation
        self._sizes = () if is_plain else steady_sizes(self._product, *kernel, in_dim=weight.shape[1])

    def forward(self, x: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        rows = x.view(-1, x.shape[-1])
        y = in_sizes(self._product, rows, self._sizes) if self._sizes else self._product(rows)
        return y.view(*x.shape[:-1], -1)


@dataclass(frozen=True)
class _Layer:
    """What a product computes: `activation(rows @ weight.T + bias)`."""

    weight: Float[Tensor, "out_dim in_dim"]
    bias: Float[Tensor, " out_dim"] | None
    activation: Activation | None

    def finished(self, y: Float[Tensor, "rows out_dim"]) -> Float[Tensor, "rows out_dim"]:
        """Return the activation. GELU is written out: torch's rounds differently at the end of a tensor."""
        if self.activation == "gelu":
            return y * (1 + torch.erf(y * 2**-0.5)) * 0.5
        return y if self.activation is None else y.relu_().square_()


def steady_sizes(product: Product, *kernel: object, in_dim: int) -> tuple[int, ...]:
    """Return those of `SIZES` at which a row's result is that of a block of `BLOCK` rows, bit for bit; by trying.

    Args:
        kernel: What the kernel depends on, beside the threads. Answers are cached by it; weights do not change them.
    """
    key = (*kernel, in_dim, torch.get_num_threads())
    if key not in _STEADY:
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(max(SIZES), in_dim, generator=generator)
        expected = torch.cat([product(block) for block in torch.split(rows, BLOCK)])
        _STEADY[key] = tuple(
            size
            for size in SIZES
            if size == BLOCK or torch.equal(torch.cat([product(part) for part in torch.split(rows, size)]), expected)
        )
    return _STEADY[key]


_STEADY: dict[tuple[object, ...], tuple[int, ...]] = {}


def in_sizes(product: Product, rows: Float[Tensor, "rows in_dim"], sizes: tuple[int, ...]) -> Tensor:
    """Compute a product with numbers of rows out of `sizes` only, padding with zeros."""
    count, largest = len(rows), sizes[-1]
    if count in sizes:
        return product(rows)
    if count > largest:
        return torch.cat([in_sizes(product, part, sizes) for part in torch.split(rows, largest)])
    size = next(size for size in sizes if size >= count)
    return product(F.pad(rows, (0, 0, 0, size - count)))[:count]


def _on_cpu(layer: _Layer, weights: Weights) -> Product:
    """Return the product of a row block with the rounded weights."""
    weight = layer.weight
    if weights == "bfloat16":
        if has_bfloat16_units(weight.device) and _has_onednn():
            return _onednn(layer, torch.bfloat16)
        weight = weight.bfloat16().to(weight.dtype)
    elif weights == "int8":
        levels, scales = quantize_rows(weight.float())
        if torch.cpu._is_vnni_supported():
            return _int8(layer, levels, scales)
        weight = (levels * scales).to(weight.dtype)
    rounded = replace(layer, weight=weight)
    if weight.dtype == torch.float32 and _has_onednn():
        return _onednn(rounded, torch.float32)
    return lambda rows: layer.finished(F.linear(rows, weight, layer.bias))


@cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def _onednn(layer: _Layer, dtype: torch.dtype) -> Product:
    """Return oneDNN's product, with the weights in its own layout, then bias and activation in the same call.

    Results are rounded to the weights' type.
    """
    laid_out = torch.ops.mkldnn._reorder_linear_weight(layer.weight.to(dtype), None)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    fused, algorithm = {None: ("none", ""), "gelu": ("gelu", "none"), "relu2": ("relu", "")}[layer.activation]

    def product(rows: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(rows.to(dtype), laid_out, bias, fused, [], algorithm)
        y = y.to(rows.dtype)
        return y.square_() if layer.activation == "relu2" else y

    return product


def _int8(layer: _Layer, levels: Int[Tensor, "out_dim in_dim"], scales: Float[Tensor, "out_dim 1"]) -> Product:
    """Return the product of 8-bit weights and inputs, whose sums are exact; each row of inputs has its own scale."""
    laid_out = torch.ops.onednn.qlinear_prepack(levels, None)
    scale, zeros = scales[:, 0] / LEVELS, torch.zeros(len(levels), dtype=torch.long)
    offset = torch.tensor(ZERO_POINT + 0.5)  # the half rounds what the conversion cuts off

    def product(rows: Tensor) -> Tensor:
        largest = torch.linalg.vector_norm(rows, math.inf, -1, keepdim=True, dtype=torch.float32).clamp_min_(1e-30)
        inputs = torch.addcmul(offset, rows, LEVELS / largest).to(torch.uint8)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            inputs, 1.0, ZERO_POINT, laid_out, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        y = y.mul_(largest) if layer.bias is None else torch.addcmul(layer.bias, y, largest)
        return layer.finished(y).to(rows.dtype)

    return product


def _plain(layer: _Layer, weights: Weights) -> Product:
    """Return torch's own product."""
    if weights == "int8":
        remedy = "draw with other weights, or on a CPU"
        raise ConfigError("int8 weights on a GPU", expected="float32 or bfloat16", remedy=remedy)
    weight = layer.weight.bfloat16() if weights == "bfloat16" else layer.weight
    bias = None if layer.bias is None else layer.bias.to(weight.dtype)
    return lambda rows: layer.finished(F.linear(rows.to(weight.dtype), weight, bias).to(rows.dtype))


def quantize_rows(
    weight: Float[Tensor, "rows columns"],
) -> tuple[Int[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """Return the nearest of 255 even levels, each row's largest number at the last, and what a level is worth."""
    scales = weight.abs().amax(1, keepdim=True).clamp_min(1e-30) / LEVELS
    return (weight / scales).round().to(torch.int8), scales
