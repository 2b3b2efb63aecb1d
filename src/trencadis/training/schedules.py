"""How a quantity moves while training goes on."""

import math


def cosine_schedule(step: int, *, start: float, end: float, steps: int) -> float:
    """Return half a cosine from `start` at step 0 to `end` at step `steps` and after it.

    Source: Ramesh et al. 2021, appendix A.2, for τ, β and the learning rate of the discrete VAE.
    """
    if step >= steps:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


def linear_schedule(step: int, *, start: float, end: float, steps: int) -> float:
    """Do so in a straight line. Source: Bergsma et al. 2025, for learning rates that fall to nearly nothing."""
    return end if step >= steps else end + (start - end) * (1 - step / steps)
