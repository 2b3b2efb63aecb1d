"""The training loop: one for every model."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trencadis.progress import progress
from trencadis.run_directory import RunDirectory
from trencadis.run_log import RunLog
from trencadis.storage import write_picture
from trencadis.training import processes
from trencadis.training.best import WORSE_IN_A_ROW, Best, is_overfitting
from trencadis.training.pace import Budget, Pace
from trencadis.training.schedules import is_due
from trencadis.training.stage import Stage
from trencadis.training.trainer import Trainer

LOG_LINES = 400  # of a stage, about
VALIDATIONS = 12  # of a stage
SAVING_SHARE = 0.02  # of the time; a checkpoint of a large model takes a minute to write

Replanned = Callable[[int, str], None]
"""Called with the number of steps that a stage now makes, and why."""


def fit(
    stage: Stage[Any],
    steps: int,
    run: RunDirectory,
    log: RunLog,
    *,
    save_every_s: float,
    budget: Budget | None = None,
    replanned: Replanned = lambda steps, why: None,
) -> int:
    """Train a stage to its last step, from its newest checkpoint, and return how many steps it has made.

    In the end the stage's model is in evaluation mode and holds averaged weights: those that did best on the held-out
    pairs, or the last ones where the stage has no criterion. Of several processes, each calls this and ends with the
    same weights, and the first one alone writes.

    Args:
        steps: Updates that are planned. They are made, unless there is a budget.
        run: Where checkpoints and samples go.
        log: Where metrics go; lines of lost updates are dropped.
        save_every_s: Least seconds between two checkpoints; more where saving would take over 2 % of the time.
        budget: Time into which the number of steps is fitted again and again. A stage that overfits ends before.
        replanned: Called after each change of the number of steps, which is in a checkpoint by then.

    Raises:
        CheckpointError: There are checkpoints and none is valid.
        DivergenceError: The gradient was not finite again and again.
        StorageError: The run's directory cannot be written.
    """
    trainer = Trainer(stage, steps)
    stored = trainer.resume(run.checkpoints(stage.name))
    processes.require_same_step(trainer.step)
    log.truncate(stage.name, trainer.step)
    best = Best(run.best(stage.name), stage.criterion, stored.get("best"))
    if trainer.is_continued:
        _measure_again(best, stage)
    pace = None if budget is None else Pace(budget, VALIDATIONS, lambda: log.elapsed_s)
    means, saving = Means(stored.get("means", {})), SavingTimes(save_every_s)
    fitting = _Fitting(trainer, run, log, best, pace, means, saving)
    while trainer.step < trainer.steps:
        if why := fitting.until_changed():
            replanned(trainer.steps, why)
    stage.model.load_state_dict(trainer.ema.state_dict(), strict=False)
    if weights := best.weights():
        stage.model.load_state_dict(weights)
    stage.model.eval()
    return trainer.steps


def _measure_again(best: Best, stage: Stage[Any]) -> None:
    """Validate the best weights of a finished stage on what a longer one is measured on."""
    weights = best.weights()
    if weights is None:
        return
    own = {name: tensor.clone() for name, tensor in stage.model.state_dict().items()}
    stage.model.load_state_dict(weights)
    stage.model.eval()
    with torch.no_grad():
        best.measure_again(stage.validate())
    stage.model.load_state_dict(own)


@dataclass(frozen=True)
class _Fitting:
    """A stage on its way: what trains it, and what is kept of it."""

    trainer: Trainer
    run: RunDirectory
    log: RunLog
    best: Best
    pace: Pace | None
    means: "Means"
    saving: "SavingTimes"

    def until_changed(self) -> str:
        """Make updates to the last one, or until their number is changed; return why it was."""
        trainer, stage, why = self.trainer, self.trainer.stage, ""
        with (
            closing(stage.batches(trainer.step, trainer.steps)) as batches,
            progress(f"training {stage.name}", trainer.steps, done=trainer.step) as advance,
        ):
            for microbatches in batches:
                stage.model.train()
                metrics = trainer.update(microbatches)
                self.means.add(metrics)
                advance(1, loss=float(metrics["loss"]))
                if is_due(trainer.step, trainer.steps, LOG_LINES):
                    self.log.append(stage.name, trainer.step, self.means.take())
                is_validated = is_due(trainer.step, trainer.steps, VALIDATIONS)
                if is_validated:
                    self._validate()
                if self.pace is not None:
                    why = self._change(self.pace, is_validated=is_validated)
                if trainer.step == trainer.steps or why or self.saving.is_due():
                    self._save()
                if why:
                    break
        return why

    def _validate(self) -> None:
        trainer, stage = self.trainer, self.trainer.stage
        looking = nullcontext() if self.pace is None else self.pace.looking()
        with looking, trainer.ema.apply_to(stage.model), torch.no_grad():
            stage.model.eval()
            metrics = stage.validate()
            self.best.consider(trainer.step, metrics, stage.model.state_dict())
            kept = {} if self.best.record is None else {"best_step": self.best.record.step}
            self.log.append(stage.name, trainer.step, {**metrics, **kept})
            picture = stage.sample() if processes.is_first() else None
        if picture is not None:
            write_picture(self.run.sample(stage.name, trainer.step), picture)
        processes.wait()

    def _change(self, pace: Pace, *, is_validated: bool) -> str:
        """Change the number of updates where the time or the held-out pairs ask for it; return why."""
        step, steps = self.trainer.step, self.trainer.steps
        if step == steps:
            return ""
        why = self._wanted(pace, step, steps, is_validated=is_validated) if processes.is_first() else ""
        if (agreed := processes.agreed(self.trainer.steps)) != self.trainer.steps:
            self.trainer.change_steps(agreed)
            why = "as in the first process"
        return why

    def _wanted(self, pace: Pace, step: int, steps: int, *, is_validated: bool) -> str:
        """Change the number of updates as `_change` does, in this process alone."""
        if is_validated and self._is_overfitting():
            self.trainer.change_steps(step)
            return f"instead of {steps:,}: held-out pairs became worse {WORSE_IN_A_ROW} times in a row"
        if (changed := pace.changed(step, steps)) is None:
            return ""
        self.trainer.change_steps(changed)
        return f"instead of {steps:,}, from step {step:,}: a step takes {pace.update_s * 1000:.0f} ms now"

    def _is_overfitting(self) -> bool:
        stage, rewarming = self.trainer.stage, self.trainer.rewarming
        if (criterion := stage.criterion) is None:
            return False
        since = 0 if rewarming is None else rewarming.step
        own = [line for line in self.log.read() if line["stage"] == stage.name and line["step"] > since]
        values = [line[criterion.metric] for line in own if line.get(criterion.metric) is not None]
        return is_overfitting(values, criterion)

    def _save(self) -> None:
        if not processes.is_first():
            return
        with self.saving:
            self.log.flush()
            directory = self.run.checkpoints(self.trainer.stage.name)
            self.trainer.save(directory, means=self.means.sums, best=self.best.stored)


class Means:
    """Means of metrics over the updates since the last line of the log."""

    def __init__(self, sums: Mapping[str, Sequence[float]]) -> None:
        """Begin with the `sums` of a checkpoint: by name, the sum and the number of values."""
        self._sums = {name: (torch.tensor(total, dtype=torch.float64), count) for name, (total, count) in sums.items()}

    @property
    def sums(self) -> dict[str, list[float]]:
        return {name: [float(total), count] for name, (total, count) in self._sums.items()}

    def add(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Add the metrics of an update; tensors stay on their device until `sums` or `take`."""
        for name, value in metrics.items():
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = total + torch.as_tensor(value, dtype=torch.float64), count + 1.0

    def take(self) -> dict[str, float]:
        """Return the means and begin anew."""
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self._sums.clear()
        return means


class SavingTimes:
    """Says when a checkpoint is due, and measures what it takes as a context manager."""

    def __init__(self, least_s: float) -> None:
        self._least_s, self._took_s, self._ended_s = least_s, 0.0, time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._ended_s >= max(self._least_s, self._took_s / SAVING_SHARE)

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._ended_s = time.monotonic()
        self._took_s = self._ended_s - self._began_s
