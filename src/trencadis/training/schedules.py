"""How a quantity moves while training goes on."""

import math
from dataclasses import dataclass


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


@dataclass(frozen=True)
class Rewarming:
    """How a learning rate gets from the end of one schedule into the middle of a longer one: in a straight line.

    Args:
        step: The first update under the longer schedule.
        share: Learning rate of the update before it, as a share of the peak.
        steps: Updates that the way takes; after them the longer schedule holds.
    """

    step: int
    share: float
    steps: int

    def rate(self, scheduled: float, step: int, *, peak: float) -> float:
        """Return the learning rate of an update for which the longer schedule has `scheduled`."""
        done = min(1.0, (step - self.step + 1) / (self.steps + 1))
        return self.share * peak + (scheduled - self.share * peak) * done
