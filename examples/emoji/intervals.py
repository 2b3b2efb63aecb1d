"""Shares with their 95 % intervals, and gains of one choice over another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z = 1.959964
RESAMPLES, SEED = 2000, 1


@dataclass(frozen=True)
class Figure:
    """A share, or a difference of shares, with the ends of its 95 % interval.

    Attributes:
        count: The captions, or pictures, that it is of.
    """

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        """Return it in per cent, such as `40 (26–55)`."""
        return f"{100 * self.value:.0f} ({100 * self.low:.0f}–{100 * self.high:.0f})"


def share(values: Sequence[float]) -> Figure | None:
    """Return the mean of numbers in [0, 1], with Wilson's interval; None of none.

    Where they are not all 0 or 1 (means over a caption's candidates), the interval is wider than it need be.
    Source: Wilson 1927.
    """
    count = len(values)
    if not count:
        return None
    mean, square = math.fsum(values) / count, Z**2
    centre = (mean + square / (2 * count)) / (1 + square / count)
    half = Z / (1 + square / count) * math.sqrt(mean * (1 - mean) / count + square / (4 * count**2))
    return Figure(mean, max(0.0, centre - half), min(1.0, centre + half), count)


def gain(better: Sequence[float], base: Sequence[float]) -> Figure | None:
    """Return the mean difference over the same captions, with a bootstrap interval over captions; None of none."""
    differences = np.subtract(better, base)
    if not len(differences):
        return None
    drawn = np.random.default_rng(SEED).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(1), [0.025, 0.975])
    return Figure(float(differences.mean()), float(low), float(high), len(differences))
