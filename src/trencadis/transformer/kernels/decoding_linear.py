"""Linear layers of decoding: weights laid out once for products with few rows, in 32, 16 or 8 bits.

A decoding step multiplies every weight by as few rows as there are streams, so that reading the weights takes the time.
A row's result must not depend on how many rows there are, so that a seed's picture is the same in any batch. Kernels
differ in this from machine to machine, so each is tried: see `steady_sizes`. The choice of kernels is recorded in
docs/decisions/0009, the promise in 0013.
"""

import copy
from collections.abc import Callable
from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

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
            up, down = (DecodingLinear(layer, weights, compiles) for layer in child.layers)
            setattr(module, name, nn.Sequential(up, _ActivationModule(child.activation), down))
        elif isinstance(child, Linear):
            setattr(module, name, DecodingLinear(child, weights, compiles))
        else:
            _pack_children(child, weights, compiles)


class _ActivationModule(nn.Module):
    """The MLP's activation. GELU is written out: torch's rounds differently at the end of a tensor than elsewhere."""

    def __init__(self, kind: Activation) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x * (1 + torch.erf(x * 2**-0.5)) * 0.5 if self.kind == "gelu" else F.relu(x).square()


class DecodingLinear(nn.Module):
    """A linear layer whose every row is computed as it would be alone."""

    def __init__(self, linear: nn.Linear, weights: Weights, compiles: bool = False) -> None:
        super().__init__()
        weight = linear.weight.detach()
        is_plain = compiles or weight.device.type != "cpu"
        self.bias = None if linear.bias is None else linear.bias.detach()
        self._product = _plain(weight, weights) if is_plain else _on_cpu(weight, weights)
        self._sizes = () if is_plain else steady_sizes(self._product, weights, *weight.shape)

    def forward(self, x: Float[Tensor, "*batch in_dim"]) -> Float[Tensor, "*batch out_dim"]:
        rows = x.reshape(-1, x.shape[-1])
        y = in_sizes(self._product, rows, self._sizes) if self._sizes else self._product(rows)
        y = y.to(x.dtype) if self.bias is None else y.to(x.dtype) + self.bias
        return y.view(*x.shape[:-1], -1)


def steady_sizes(product: Product, weights: Weights, out_dim: int, in_dim: int) -> tuple[int, ...]:
    """Return those of `SIZES` at which a row's result is that of a block of `BLOCK` rows, bit for bit; by trying.

    Cached: it depends on the kernel, which depends on type, shape and threads, and not on the weights.
    """
    key = (weights, out_dim, in_dim, torch.get_num_threads())
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


_STEADY: dict[tuple[str, int, int, int], tuple[int, ...]] = {}


def in_sizes(product: Product, rows: Float[Tensor, "rows in_dim"], sizes: tuple[int, ...]) -> Tensor:
    """Compute a product with numbers of rows out of `sizes` only, padding with zeros."""
    count, largest = len(rows), sizes[-1]
    if count > largest:
        return torch.cat([in_sizes(product, part, sizes) for part in torch.split(rows, largest)])
    size = next(size for size in sizes if size >= count)
    return product(rows) if size == count else product(F.pad(rows, (0, 0, 0, size - count)))[:count]


def _on_cpu(weight: Float[Tensor, "out_dim in_dim"], weights: Weights) -> Product:
    """Return the product of a row block with the rounded weights."""
    if weights == "bfloat16":
        if torch.cpu._is_avx512_bf16_supported() and _has_onednn():
            return _onednn(weight.bfloat16())
        weight = weight.bfloat16().to(weight.dtype)
    elif weights == "int8":
        levels, scales = quantize_rows(weight.float())
        if torch.cpu._is_vnni_supported():
            return _int8(levels, scales)
        weight = (levels * scales).to(weight.dtype)
    return _onednn(weight) if weight.dtype == torch.float32 and _has_onednn() else lambda rows: F.linear(rows, weight)


@cache
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def _onednn(weight: Tensor) -> Product:
    """Return oneDNN's product, with the weights in its own layout; bfloat16 sums are rounded to bfloat16."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def product(rows: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(rows.to(weight.dtype), laid_out, None, "none", [], "")
        return y.to(rows.dtype)

    return product


def _int8(levels: Int[Tensor, "out_dim in_dim"], scales: Float[Tensor, "out_dim 1"]) -> Product:
    """Return the product of 8-bit weights and inputs, whose sums are exact; each row of inputs has its own scale."""
    laid_out = torch.ops.onednn.qlinear_prepack(levels, None)
    scale, zeros = scales[:, 0] / LEVELS, torch.zeros(len(levels), dtype=torch.long)
    offset = torch.tensor(ZERO_POINT + 0.5)  # the half rounds what the conversion cuts off

    def product(rows: Tensor) -> Tensor:
        rows = rows.float()
        largest = rows.abs().amax(-1, keepdim=True).clamp_min_(1e-30)
        inputs = torch.addcmul(offset, rows, LEVELS / largest).to(torch.uint8)
        y: Tensor = torch.ops.onednn.qlinear_pointwise(
            inputs, 1.0, ZERO_POINT, laid_out, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return y.mul_(largest)

    return product


def _plain(weight: Tensor, weights: Weights) -> Product:
    """Return torch's own product."""
    if weights == "int8":
        remedy = "draw with other weights, or on a CPU"
        raise ConfigError("int8 weights on a GPU", expected="float32 or bfloat16", remedy=remedy)
    weight = weight.bfloat16() if weights == "bfloat16" else weight
    return lambda rows: F.linear(rows.to(weight.dtype), weight).to(rows.dtype)


def quantize_rows(
    weight: Float[Tensor, "rows columns"],
) -> tuple[Int[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """Return the nearest of 255 even levels, each row's largest number at the last, and what a level is worth."""
    scales = weight.abs().amax(1, keepdim=True).clamp_min(1e-30) / LEVELS
    return (weight / scales).round().to(torch.int8), scales
