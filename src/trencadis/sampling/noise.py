"""Noise as a pure function of (seed, position, token): the same alone, in a batch, and on any device."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Odd 64-bit constants of SplitMix64 and its finaliser, as the signed numbers that torch.int64 holds.
# Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"; Stafford's variant 13.
_SEED_STEP = 0x9E3779B97F4A7C15 - 2**64
_POSITION_STEP = 0xD1342543DE82EF95 - 2**64
_TOKEN_STEP = 0x2545F4914F6CDD1D
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64
_UNIFORM_BITS = 23  # with the half added below, 24 bits: all that a float32 holds


def _shift_right(x: Int[Tensor, "*shape"], bits: int) -> Int[Tensor, "*shape"]:
    """Shift as if unsigned; torch repeats the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def uniform_noise(
    seeds: Int[Tensor, "*#batch"], position: int | Int[Tensor, "*#batch"], count: int
) -> Float[Tensor, "*batch count"]:
    """Return numbers uniform in (0, 1), both ends excluded.

    Args:
        position: Raster index of the image token that is drawn.
        count: How many numbers, one for each token of the vocabulary.
    """
    tokens = torch.arange(count, device=seeds.device)
    # Filled on the device, which nothing is copied to; tensors of 64 bits wrap where Python's numbers would grow.
    at = position if isinstance(position, Tensor) else torch.full((), position, device=seeds.device)
    bits = _mix(_mix(_mix(seeds * _SEED_STEP) + at * _POSITION_STEP)[..., None] + tokens * _TOKEN_STEP)
    return (_shift_right(bits, 64 - _UNIFORM_BITS).float() + 0.5) * 2.0**-_UNIFORM_BITS


def gumbel_noise(
    seeds: Int[Tensor, "*#batch"], position: int | Int[Tensor, "*#batch"], count: int
) -> Float[Tensor, "*batch count"]:
    """Return Gumbel noise: the argmax of logits plus it is a draw from their softmax. Source: Gumbel 1954."""
    return -torch.log(-torch.log(uniform_noise(seeds, position, count)))
