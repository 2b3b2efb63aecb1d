"""One update after another: a stage's model, its optimizers and its averaged weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trencadis.errors import DivergenceError
from trencadis.memory import in_memory
from trencadis.training import processes
from trencadis.training.checkpoints import load_latest, save_checkpoint
from trencadis.training.optimizer_state import EMA, optimizer_tensors, reset_rows, restore_optimizers
from trencadis.training.optimizers import clip_gradients, learning_rate, optimizers, warmup
from trencadis.training.schedules import Course, Plateaus, Rewarming
from trencadis.training.stage import Stage, StageLoss, Term, Totals

MOST_SKIPPED = 20  # updates in a row
Metrics = dict[str, Tensor]
"""Of one update; they stay on the device until somebody reads them."""


class Trainer:
    """A stage's model, its optimizers, its averaged weights and its progress: all that a checkpoint holds."""

    def __init__(self, stage: Stage[Any], steps: int) -> None:
        self.stage, self.course, self.step = stage, Course(steps, steps), 0
        self.optimizers = optimizers(stage.model, stage.config.optimizer, stage.config.precision)
        self.shared_loss = processes.SharedLoss(stage.model, stage.loss)
        self.ema = EMA(stage.model, stage.config.ema_decay, stage.config.ema_every)
        self.plateaus = self._plateaus(None)  # of a stage whose learning rate falls by them
        self.skipped = 0  # updates in a row, because the gradient was not finite
        self.is_continued = False  # from a checkpoint that was planned with fewer steps
        self.rewarming: Rewarming | None = None  # of a stage that has been given more steps

    @property
    def steps(self) -> int:
        """Return how many updates are made in all."""
        return self.course.steps

    def change_steps(self, steps: int) -> None:
        """Make `steps` updates in all, no fewer than have been made; the schedules end with the last one."""
        self.course = self.course.changed(self.step, steps)

    def update(self, microbatches: Sequence[Any]) -> Metrics:
        """Make one update and return its metrics: terms of the loss as means over the update, and `gradient_norm`.

        An update whose gradient is not finite is skipped: weights, averages and the stage's own state stay.

        Raises:
            DivergenceError: Too many were skipped in a row.
            FullMemoryError: There is no room for the update.
        """
        stage, config, position = self.stage, self.stage.config.optimizer, self.course.position(self.step)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._learning_rate(self.step, self.course, peak=group["peak"])
            optimizer.zero_grad(set_to_none=True)
        doing = f"training {stage.name} on {stage.config.batch_size} samples in {len(microbatches)} parts"
        with in_memory(
            doing, remedy=f"raise {stage.name}.microbatches, or lower {stage.name}.batch_size, in a new run"
        ):
            metrics, observed = self._accumulate(microbatches, self._totals(microbatches, position), position)
        stage.after_backward()
        norm = clip_gradients(stage.model, config.max_grad_norm)
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            metrics |= self._after_update(observed, position)
            self.skipped = 0
            if self.plateaus is not None:
                self.plateaus.observe(metrics["loss"])
        else:
            self.skipped += 1
        self.step += 1
        if self.skipped >= MOST_SKIPPED:
            raise DivergenceError(
                f"{stage.name}: the gradient was not finite in the {self.skipped} updates up to step {self.step}; "
                f"the last good checkpoint is kept; lower {stage.name}.optimizer.learning_rate and train into a new run"
            )
        rate = self.optimizers[0].param_groups[0]["lr"]
        return metrics | _tensors({"learning_rate": rate, "gradient_norm": norm, "skipped": self.skipped})

    def _learning_rate(self, step: int, course: Course, *, peak: float) -> float:
        scheduled = learning_rate(course.position(step), course.planned, self.stage.config.optimizer, peak=peak)
        if self.plateaus is not None:
            scheduled *= self.plateaus.factor
        return scheduled if self.rewarming is None else self.rewarming.rate(scheduled, step, peak=peak)

    def _plateaus(self, stored: Mapping[str, Any] | None) -> Plateaus | None:
        config = self.stage.config.optimizer
        return Plateaus(config.final_learning_rate, stored) if config.decay == "plateaus" else None

    def _totals(self, microbatches: Sequence[Any], position: int) -> Totals:
        """Return the totals of the update over all processes, known before the first backward pass."""
        is_whole = len(microbatches) == processes.count() == 1
        planned = self.course.planned
        parts = [self.stage.totals(batch, position, planned, is_whole=is_whole) for batch in microbatches]
        return processes.summed({name: torch.stack([part[name] for part in parts]).sum(0) for name in parts[0]})

    def _accumulate(self, microbatches: Sequence[Any], totals: Totals, position: int) -> tuple[Metrics, list[Any]]:
        """Add up the gradient, and return the means of the terms, over all processes, and what this one observed."""
        losses: list[StageLoss] = []
        means: dict[str, list[Tensor]] = {"loss": []}
        for part, batch in enumerate(microbatches, 1):
            with self.shared_loss.of_part(is_last=part == len(microbatches)):
                loss: StageLoss = self.shared_loss(batch, totals, position, self.course.planned)
                total = weighted_sum(loss.terms, totals)
                torch.autograd.backward(total * self.shared_loss.factor)
            means["loss"].append(total.detach())
            for name, term in loss.terms.items():
                means.setdefault(name, []).append(_mean(term, totals).detach())
            losses.append(loss._replace(terms={}))
        metrics = processes.summed({name: torch.stack(parts).sum() for name, parts in means.items()})
        return metrics | _tensors(losses[-1].values), [loss.observed for loss in losses]

    def _after_update(self, observed: Sequence[Any], position: int) -> Metrics:
        """Have the stage learn what its optimizers do not, average the weights, and return the stage's metrics."""
        effects = self.stage.after_update(observed, position, self.course.planned)
        self.ema.update(self.stage.model, self.step)
        for name, rows in effects.replaced_rows.items():
            parameter = self.stage.model.get_parameter(name)
            reset_rows(self.optimizers, parameter, rows)
            self.ema.replace_rows(name, parameter, rows)
        return _tensors(effects.metrics)

    def save(self, directory: Path, **meta: Any) -> None:
        """Write a checkpoint, with `meta` for `resume` to return."""
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": self.stage.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": optimizer_tensors(self.optimizers, self.stage.model),
        }
        if extra := self.stage.extra_state():
            tensors["extra"] = extra
        rewarming = None if self.rewarming is None else asdict(self.rewarming)
        own = {"stage": self.stage.name, "course": asdict(self.course), "skipped": self.skipped, "rewarming": rewarming}
        if self.plateaus is not None:
            own["plateaus"] = self.plateaus.state
        save_checkpoint(directory, self.step, tensors, {**own, **meta})

    def resume(self, directory: Path) -> dict[str, Any]:
        """Load the newest valid checkpoint and return its meta; nothing where there is none.

        If it was planned with as many steps as this trainer, it goes on as it was, on the course that it has taken.
        If it was planned with fewer, the learning rate goes from there into the schedule of these ones.
        """
        checkpoint = load_latest(directory)
        if checkpoint is None:
            return {}
        self.stage.model.load_state_dict(checkpoint.tensors["model"])
        self.ema.load_state_dict(checkpoint.tensors["ema"])
        restore_optimizers(self.optimizers, self.stage.model, checkpoint.tensors["optimizer"])
        self.stage.load_extra_state(checkpoint.tensors.get("extra", {}))
        self.step, self.skipped = checkpoint.step, checkpoint.meta.get("skipped", 0)
        rewarming = checkpoint.meta.get("rewarming")
        self.rewarming = None if rewarming is None else Rewarming(**rewarming)
        self.plateaus = self._plateaus(checkpoint.meta.get("plateaus"))
        before = _course(checkpoint.meta, self.steps)
        self.is_continued = before.planned != self.course.planned
        if not self.is_continued:
            self.course = before
        elif 0 < self.step < self.steps:
            share = self._learning_rate(self.step - 1, before, peak=1.0)
            added = self.steps - self.step
            steps = min(added, warmup(added, self.stage.config.optimizer))
            self.rewarming = Rewarming(self.step, share, steps)
        return checkpoint.meta


def _course(meta: Mapping[str, Any], steps: int) -> Course:
    """Return the course that a checkpoint was on; earlier versions noted the steps alone."""
    course = meta.get("course")
    return Course(**course) if course is not None else Course(*[meta.get("steps", steps)] * 2)


def weighted_sum(terms: Mapping[str, Term], totals: Totals) -> Tensor:
    """Return what a microbatch contributes to the loss of its update."""
    return torch.stack([term.weight * _mean(term, totals) for term in terms.values()]).sum()


def _mean(term: Term, totals: Totals) -> Tensor:
    """Return a microbatch's share of a term's mean over the update; 0 where nothing is counted."""
    return term.sum / totals[term.unit].clamp_min(1)


def _tensors(values: Mapping[str, float | Tensor]) -> Metrics:
    return {name: torch.as_tensor(value, dtype=torch.float64) for name, value in values.items()}
