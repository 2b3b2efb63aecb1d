"""Whether a stage keeps to its time: on a busy machine it makes fewer updates than planned, on a free one more."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from trencadis.run_directory import RunDirectory
from trencadis.training.schedules import is_due

FEWEST_STEPS = 20  # of a stage, however little time it has
CHECKS = 40  # of a stage; updates are counted and timed all along
TOLERANCE = 0.12  # share by which the time needed may differ from the time left
SLACK = 0.05  # share of the whole stage's time by which they may differ
LEAST_LEFT = 0.02  # share of the planned updates that are still made where no time is left: the learning rate falls
MEASURED = 3  # updates that a rate is measured on, at least
MOST_CHANGES = 12  # of a stage, about: a rate is measured on so much of it, or noise would change the number to and fro


@dataclass(frozen=True)
class Budget:
    """The time of a stage whose steps were fitted into hours.

    Args:
        steps: Updates that were planned.
        ends_s: When it should end, in seconds of training since the run began.
        look_s: What all of its validations and samples take.
    """

    steps: int
    ends_s: float
    look_s: float


def write_budgets(run: RunDirectory, budgets: Mapping[str, Budget]) -> None:
    run.write_budgets({stage: asdict(budget) for stage, budget in budgets.items()})


def read_budgets(run: RunDirectory) -> dict[str, Budget]:
    """Return the budgets of the stages that have one; a damaged one is left out, and the stage keeps its steps."""
    budgets = {}
    for stage, stored in run.read_budgets().items():
        with suppress(TypeError, ValueError, KeyError):
            budgets[stage] = Budget(int(stored["steps"]), float(stored["ends_s"]), float(stored["look_s"]))
    return budgets


class Pace:
    """Times the updates of a stage, and says how many fit into what is left of its time.

    Args:
        budget: Of the stage.
        validations: How many there are in the stage.
        clock: Returns the seconds of training since the run began, over all its resumptions.
    """

    def __init__(self, budget: Budget, validations: int, clock: Callable[[], float]) -> None:
        self.budget, self._validations, self._clock = budget, validations, clock
        self._one_look_s = budget.look_s / validations
        self._began: tuple[int, float] | None = None  # step and time
        self._looked_s = 0.0  # since then
        self.update_s = 0.0  # of one update, when the number was last changed

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Count what happens inside as a validation and not as updates."""
        began_s = self._clock()
        yield
        self._one_look_s = self._clock() - began_s
        self._looked_s += self._one_look_s

    def changed(self, step: int, steps: int) -> int | None:
        """Return how many updates to make in all, after `step` of `steps`; None where it stays at `steps`."""
        if self._began is None:  # the first update allocates and selects kernels; the one after a change waits for data
            self._began, self._looked_s = (step, self._clock()), 0.0
            return None
        made = step - self._began[0]
        if made < max(MEASURED, steps // MOST_CHANGES) or step >= steps or not is_due(step, steps, CHECKS):
            return None
        now_s = self._clock()
        update_s = max(1e-9, (now_s - self._began[1] - self._looked_s) / made)
        looks = self._validations - step * self._validations // steps
        left_s = max(0.0, self.budget.ends_s - now_s - looks * self._one_look_s)
        needed_s = update_s * (steps - step)
        if abs(needed_s - left_s) <= max(TOLERANCE * left_s, SLACK * update_s * steps):
            return None
        least = max(min(FEWEST_STEPS, steps), step + min(steps - step, max(1, round(LEAST_LEFT * self.budget.steps))))
        fitting = max(least, step + int(left_s / update_s))
        if fitting == steps:
            return None
        self.update_s, self._began = update_s, None
        return fitting
