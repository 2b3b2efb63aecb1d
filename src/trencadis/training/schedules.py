"""How a quantity moves while training goes on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


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


def constant_schedule(step: int, *, start: float, end: float, steps: int) -> float:
    """Stay at `start`."""
    return start


def is_due(step: int, steps: int, times: int) -> bool:
    """Return whether something done `times` in `steps`, evenly and at the end, is done after this step."""
    return step * times // steps > (step - 1) * times // steps


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


PLATEAU_WINDOW = 1000  # updates whose mean loss is compared
PLATEAU_PATIENCE = 5  # windows in a row without a new best, after which the loss counts as flat
PLATEAU_GAIN = 1e-3  # share by which a mean must be below the best one to be a new best


class Plateaus:
    """Halves a learning rate each time the training loss has gone flat.

    Ramesh et al. 2021, appendix B.2, halved it by eye, five times in 430,000 updates; the rule is that of
    `torch.optim.lr_scheduler.ReduceLROnPlateau` over means of the loss, and its numbers are ours.

    Args:
        least: The share of the peak below which the rate never falls, above 0.
        stored: `state` of a checkpoint.
    """

    def __init__(self, least: float, stored: Mapping[str, Any] | None = None) -> None:
        state = {"halvings": 0, "best": None, "flat": 0, "updates": 0, "sum": 0.0} | dict(stored or {})
        self._least, self.halvings = least, int(state["halvings"])
        self._best: float | None = state["best"]
        self._flat, self._updates = int(state["flat"]), int(state["updates"])
        self._sum: Tensor | float = state["sum"]

    @property
    def factor(self) -> float:
        """Return the learning rate as a share of what it would be."""
        return max(self._least, 0.5**self.halvings)

    def observe(self, loss: Tensor) -> None:
        """Take the loss of an update; it stays on its device to the end of a window."""
        self._sum, self._updates = self._sum + loss.detach().to(torch.float64), self._updates + 1
        if self._updates < PLATEAU_WINDOW:
            return
        mean = float(self._sum) / self._updates
        self._sum, self._updates = 0.0, 0
        if self._best is None or mean < self._best * (1 - PLATEAU_GAIN):
            self._best, self._flat = mean, 0
        else:
            self._flat += 1
        if self._flat > PLATEAU_PATIENCE:
            self.halvings, self._flat = self.halvings + 1, 0

    @property
    def state(self) -> dict[str, Any]:
        """Return everything, for a checkpoint's JSON."""
        own = {"halvings": self.halvings, "best": self._best, "flat": self._flat}
        return {**own, "updates": self._updates, "sum": float(self._sum)}


@dataclass(frozen=True)
class Course:
    """How many updates a stage makes, and where each of them is in the schedules.

    Schedules are functions of an update's number among the planned ones. Where the number of updates is changed on the
    way, the rest of the updates pass through the rest of the schedules evenly, so that these still end where they
    should.

    Args:
        planned: Updates that the schedules were made for.
        steps: Updates that are made.
        from_step: The last update before the number was changed; 0 where it was not.
        from_position: Where that update was in the schedules, 0..planned - 1.
    """

    planned: int
    steps: int
    from_step: int = 0
    from_position: float = 0.0

    def position(self, step: int) -> int:
        """Return the number that update `step`, `from_step`..`steps` - 1, has in the schedules, 0..planned - 1."""
        return round(self._position(step))

    def changed(self, step: int, steps: int) -> "Course":
        """Return the course of a stage that makes `steps` updates in all, of which `step` have been made."""
        before = max(0, step - 1)
        return Course(self.planned, steps, before, self._position(before))

    def _position(self, step: int) -> float:
        if step <= self.from_step:
            return self.from_position
        share = (step - self.from_step) / (self.steps - 1 - self.from_step)
        return self.from_position + share * (self.planned - 1 - self.from_position)
