"""Statistics over repeats, and the exponent of growth."""

import math
import statistics
from collections.abc import Sequence


def median(samples: Sequence[float]) -> float:
    """Return the median; for an even number of samples, the mean of the middle two."""
    return statistics.median(samples)


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float | None:
    """Return e of the fit cost ∝ size^e: the slope of a least-squares line through the logarithms.

    Args:
        sizes: Above 0.
        costs: One for each size.

    Returns:
        None for fewer than two sizes, or if a cost is not above 0, as the difference of two nearly equal measurements
        can be.
    """
    if len(set(sizes)) < 2 or any(cost <= 0 for cost in costs):
        return None
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(cost) for cost in costs]).slope
