"""Convolution with a following ReLU or sum, in one pass over the pixels where no gradient is recorded.

On a CPU a separate ReLU or sum costs as much memory traffic as a narrow convolution. oneDNN's convolution applies both
to its output before writing it. PyTorch has no public name for that: `_OPERATORS` are all its private names used here,
as its compiler calls them. Where one is missing, PyTorch's own operators run instead.

Large weights are also kept in the layout that oneDNN reads: reordering nine million takes a third of the time of a
convolution by them over a grid of 32×32.
"""

import functools
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.weight_cache import WeightCache

Maps = Float[Tensor, "batch _ height width"]
_OPERATORS = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")
_SUM: tuple[Any, ...] = ("add", 1.0, None, [], None)  # with factor 1 and no activation

LARGE = 2**18
"""From this many weights on, a layer's reordered weights are kept."""

_reordered: WeakKeyDictionary[nn.Conv2d, WeightCache] = WeakKeyDictionary()


@functools.cache
def _has_fused() -> bool:
    """Return whether this build has oneDNN's fused convolutions, and the CPU the instructions that make them fast."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
    )


def _fuses(x: Tensor, layer: nn.Conv2d) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == layer.weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _has_fused()
    )


def convolve(layer: nn.Conv2d, x: Maps, *, relu: bool = False) -> Float[Tensor, "batch _ rows columns"]:
    """Return the layer's output, or its ReLU."""
    if not _fuses(x, layer):
        output: Tensor = layer(x)
        return F.relu(output, inplace=True) if relu else output
    weight, activation = _weight(layer, x), "relu" if relu else "none"
    ops = torch.ops.mkldnn
    return ops._convolution_pointwise(x, weight, layer.bias, *_geometry(layer), activation, [], "")  # type: ignore[no-any-return]


def add_convolved(total: Maps, layer: nn.Conv2d, x: Maps, *, gain: float, inplace: bool = False) -> Maps:
    """Return `total + gain * layer(x)`, for a layer that keeps the size; `inplace` allows overwriting `total`."""
    if not _fuses(x, layer):
        return torch.add(total, layer(x), alpha=gain)
    assert layer.bias is not None
    # oneDNN's sum has no factor; a convolution is linear.
    ops, weight, bias = torch.ops.mkldnn, _weight(layer, x, gain), layer.bias * gain
    if inplace:
        summed = ops._convolution_pointwise_.binary(total, x, weight, bias, *_geometry(layer), *_SUM)
    else:
        summed = ops._convolution_pointwise.binary(x, total, weight, bias, *_geometry(layer), *_SUM)
    return summed  # type: ignore[no-any-return]


def _geometry(layer: nn.Conv2d) -> tuple[Any, ...]:
    return layer.padding, layer.stride, layer.dilation, layer.groups


def _weight(layer: nn.Conv2d, x: Maps, gain: float = 1.0) -> Tensor:
    """Return the layer's weights times `gain`, reordered once for each change where they are large."""
    weight = layer.weight
    if weight.numel() < LARGE or weight.is_inference():  # tensors of inference mode have no version
        return weight if gain == 1 else weight * gain

    def reorder() -> Tensor:
        scaled = weight.detach() * gain
        return torch.ops.mkldnn._reorder_convolution_weight(scaled, *_geometry(layer), list(x.shape))  # type: ignore[no-any-return]

    return _reordered.setdefault(layer, WeightCache()).get(layer, gain, reorder)
