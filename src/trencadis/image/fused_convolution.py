"""Convolutions together with what follows them, in one pass over the pixels where no gradient is recorded.

On a CPU a ReLU or a sum of its own costs as much memory traffic as a narrow convolution, and a fresh tensor of many
megabytes besides. oneDNN's convolution, which PyTorch holds, does both to its output before it writes it; PyTorch has
no public name for that, and its compiler calls it as is done here.

Large weights are kept a second time as the convolution reads them: to lay nine million out takes a third of the time in
which a grid of 32 × 32 is convolved by them.
"""

import functools
from collections.abc import MutableMapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

LARGE = 2**18
"""Weights from which on a layer's are kept laid out."""

_laid_out: MutableMapping[Tensor, tuple[tuple[float, ...], Tensor]] = WeakTensorKeyDictionary()
"""By the weights that a layer has: what told them from others when they were read, and they laid out."""


_OPERATORS = ("_convolution_pointwise", "_convolution_pointwise_", "_reorder_convolution_weight")


@functools.cache
def _has_fused() -> bool:
    """Return whether this build has oneDNN's fused convolutions, and the CPU the instructions that make them fast."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
        and all(hasattr(torch.ops.mkldnn, name) for name in _OPERATORS)
    )


def _fuses(x: Tensor, layer: nn.Conv2d) -> bool:
    """Return whether a convolution of `x` takes with it what follows."""
    return (
        x.device.type == "cpu"
        and x.dtype == layer.weight.dtype == torch.float32
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and _has_fused()
    )


def convolve(
    layer: nn.Conv2d, x: Float[Tensor, "batch _ height width"], *, relu: bool = False
) -> Float[Tensor, "batch _ rows columns"]:
    """Return what the layer makes of `x`, or the positive part of it."""
    if not _fuses(x, layer):
        output: Tensor = layer(x)
        return F.relu(output, inplace=True) if relu else output
    weight, activation = _weight(layer, x), "relu" if relu else "none"
    ops = torch.ops.mkldnn
    return ops._convolution_pointwise(x, weight, layer.bias, *_geometry(layer), activation, [], "")  # type: ignore[no-any-return]


def add_convolved(
    total: Float[Tensor, "batch out height width"],
    layer: nn.Conv2d,
    x: Float[Tensor, "batch _ rows columns"],
    *,
    gain: float,
    inplace: bool = False,
) -> Float[Tensor, "batch out height width"]:
    """Return `total` plus `gain` times what the layer makes of `x`.

    Args:
        total: What is added to.
        layer: The convolution.
        x: Its input.
        gain: A factor.
        inplace: `total` is no longer needed, and may be written over.
    """
    if not _fuses(x, layer):
        return torch.add(total, layer(x), alpha=gain)
    assert layer.bias is not None
    # oneDNN's sum knows no factor; a convolution is linear.
    ops, weight, bias = torch.ops.mkldnn, _weight(layer, x, gain), layer.bias * gain
    if inplace:
        summed = ops._convolution_pointwise_.binary(total, x, weight, bias, *_geometry(layer), *_SUM)
    else:
        summed = ops._convolution_pointwise.binary(x, total, weight, bias, *_geometry(layer), *_SUM)
    return summed  # type: ignore[no-any-return]


_SUM: tuple[Any, ...] = ("add", 1.0, None, [], None)  # with a factor of 1, and no activation


def _geometry(layer: nn.Conv2d) -> tuple[Any, ...]:
    return layer.padding, layer.stride, layer.dilation, layer.groups


def _weight(layer: nn.Conv2d, x: Float[Tensor, "batch _ height width"], gain: float = 1.0) -> Tensor:
    """Return the layer's weights times `gain`, as a convolution of `x` reads them fastest.

    They are made anew only where they have changed since.
    """
    weight = layer.weight
    if weight.numel() < LARGE or weight.is_inference():  # those of inference mode do not tell whether they change
        return weight if gain == 1 else weight * gain
    # The version counts changes but for those of PyTorch's fused optimizers, which the sum shows; it is quickly taken.
    state = weight.data_ptr(), weight._version, float(weight.sum()), gain
    known = _laid_out.get(weight)
    if known is None or known[0] != state:
        scaled = weight.detach() * gain
        known = state, torch.ops.mkldnn._reorder_convolution_weight(scaled, *_geometry(layer), list(x.shape))
        _laid_out[weight] = known
    return known[1]
