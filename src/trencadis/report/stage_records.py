"""How far each stage of a run has come, read for the report."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trencadis.report.pictures import Picture, chosen_pictures
from trencadis.run_directory import STAGES, RunDirectory
from trencadis.run_log import read_log


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What is known of one stage."""

    name: str
    steps: int | None  # that it is to make; None where that is not known or it makes none
    lines: Sequence[dict[str, Any]]  # its part of the log
    elapsed_s: float
    pictures: Sequence[Picture]
    is_over: bool  # a later stage has begun

    @property
    def last_step(self) -> int:
        return max((line["step"] for line in self.lines), default=0)

    @property
    def state(self) -> str:
        # A continued stage is not over, though later ones have begun before.
        if self.steps == 0:  # a part that is kept as it is in the model that the run starts from
            return "done"
        is_done = self.last_step >= self.steps if self.lines and self.steps is not None else self.is_over
        if is_done:
            return "done"
        return "training" if self.lines else "to come"

    def last(self, metric: str) -> float | int | None:
        """Return a metric's last finite value, if it has one."""
        values = [value for line in self.lines if is_number(value := line.get(metric))]
        return values[-1] if values else None


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def read_stages(run: RunDirectory, config: dict[str, Any]) -> list[StageRecord]:
    """Return the stages that the config names or the log holds, in order."""
    lines = [line for line in read_log(run) if isinstance(line["step"], int) and is_number(line["elapsed_s"])]
    logged = list(dict.fromkeys(str(line["stage"]) for line in lines))
    names = [name for name in STAGES if name in logged or _is_planned(config.get(name))]
    names += [name for name in logged if name not in names]
    stages, spent_s = [], _seconds(lines)
    for number, name in enumerate(names):
        own = [line for line in lines if line["stage"] == name]
        settings = config.get(name)
        steps = settings.get("steps") if isinstance(settings, dict) else None
        stages.append(
            StageRecord(
                name=name,
                steps=steps if isinstance(steps, int) else None,
                lines=own,
                elapsed_s=spent_s[name],
                pictures=chosen_pictures(run, name),
                is_over=any(later in logged for later in names[number + 1 :]),
            )
        )
    return stages


def _is_planned(settings: Any) -> bool:
    return isinstance(settings, dict) and settings.get("steps") != 0


def _seconds(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the seconds of each stage, from one line of the log to the next. A continued run has stages twice."""
    spent_s: dict[str, float] = defaultdict(float)
    before_s = 0.0
    for line in lines:
        spent_s[str(line["stage"])] += max(0.0, line["elapsed_s"] - before_s)
        before_s = max(before_s, line["elapsed_s"])
    return spent_s
