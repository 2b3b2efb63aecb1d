"""How a quantity moves while training goes on."""

import math


def cosine_schedule(step: int, *, start: float, end: float, steps: int) -> float:
    """Return half a cosine from `start` to `end`: flat at both ends, steepest in the middle.

    Args:
        step: Updates done so far, 0 or more; from `steps` on the value stays at `end`.
        start: Value at step 0; it may be above or below `end`.
        end: Final value.
        steps: Updates that the way takes; 0 gives `end` at once.

    Source: Ramesh et al. 2021, appendix A.2, for τ, β and the learning rate of the discrete VAE.
    """
    if step >= steps:
        return end
    return end + (start - end) * (1 + math.cos(math.pi * step / steps)) / 2


def linear_schedule(step: int, *, start: float, end: float, steps: int) -> float:
    """Return the straight way from `start` to `end`; the arguments are those of `cosine_schedule`.

    Source: Bergsma et al. 2025, for learning rates that fall to nearly nothing.
    """
    return end if step >= steps else end + (start - end) * (1 - step / steps)
