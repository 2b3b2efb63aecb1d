"""The training loop: one for every model."""

import math
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trencadis.errors import DivergenceError
from trencadis.progress import progress
from trencadis.run_log import RunLog
from trencadis.storage import write_picture
from trencadis.training.checkpoints import load_latest, save_checkpoint
from trencadis.training.optimizer_state import EMA, optimizer_tensors, restore_optimizers
from trencadis.training.optimizers import clip_gradients, learning_rate, optimizers
from trencadis.training.stage import Stage

LOG_LINES = 400  # of a whole stage, about
VALIDATIONS = 12  # likewise
MOST_SKIPPED = 20  # updates in a row


class Trainer:
    """A stage's model, its optimizers, its averaged weights and how far it has come: all that a checkpoint holds.

    Args:
        stage: What is trained.
        steps: Updates in all.
    """

    def __init__(self, stage: Stage[Any], steps: int) -> None:
        self.stage, self.steps, self.step = stage, steps, 0
        self.optimizers = optimizers(stage.model, stage.config.optimizer)
        self.ema = EMA(stage.model, stage.config.ema_decay)
        self.skipped = 0  # updates in a row, for a gradient that was not finite

    def update(self, microbatches: list[Any]) -> dict[str, float]:
        """Make one update and return its metrics.

        An update whose gradient is not finite is skipped, the averaged weights with it.

        Raises:
            DivergenceError: Too many were skipped in a row.
        """
        stage, config = self.stage, self.stage.config.optimizer
        rate = learning_rate(self.step, self.steps, config)
        metrics: dict[str, float] = {}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, self.steps, config, peak=group["peak"])
            optimizer.zero_grad(set_to_none=True)
        for batch in microbatches:
            loss, measured = stage.loss(batch, self.step, self.steps)
            torch.autograd.backward(loss / len(microbatches))
            for name, value in {"loss": loss.detach(), **measured}.items():
                metrics[name] = metrics.get(name, 0.0) + float(value) / len(microbatches)
        stage.after_backward(self.step, self.steps)
        norm = clip_gradients(stage.model, config.max_grad_norm)
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            self.ema.update(stage.model, self.step)
        self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
        self.step += 1
        if self.skipped >= MOST_SKIPPED:
            raise DivergenceError(
                f"{stage.name}: the gradient was not finite in the {self.skipped} updates up to step {self.step}; "
                f"the last good checkpoint is kept; lower {stage.name}.optimizer.learning_rate and train into a new run"
            )
        return metrics | {"learning_rate": rate, "gradient_norm": norm, "skipped": float(self.skipped)}

    def save(self, directory: Path) -> None:
        """Write a checkpoint; skipped updates leave no trace in the weights, so that they are always good ones."""
        tensors: Mapping[str, Mapping[str, Tensor]] = {
            "model": self.stage.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": optimizer_tensors(self.optimizers, self.stage.model),
        }
        extra = self.stage.extra_state()
        if extra:
            tensors = {**tensors, "extra": extra}
        save_checkpoint(directory, self.step, tensors, {"stage": self.stage.name, "steps": self.steps})

    def resume(self, directory: Path) -> None:
        """Go on from the newest valid checkpoint, if there is one.

        Raises:
            CheckpointError: There are checkpoints and none is valid.
        """
        checkpoint = load_latest(directory)
        if checkpoint is not None:
            self.stage.model.load_state_dict(checkpoint.tensors["model"])
            self.ema.load_state_dict(checkpoint.tensors["ema"])
            restore_optimizers(self.optimizers, self.stage.model, checkpoint.tensors["optimizer"])
            self.stage.load_extra_state(checkpoint.tensors.get("extra", {}))
            self.step = checkpoint.step


def fit(stage: Stage[Any], steps: int, run_directory: Path, log: RunLog, *, save_every_s: float) -> None:
    """Train a stage to its last step, from where its newest checkpoint left it.

    In the end the stage's model holds the averaged weights and is in evaluation mode.

    Raises:
        CheckpointError: There are checkpoints and none is valid.
        DivergenceError: The gradient was not finite again and again.
        StorageError: The run's directory cannot be written.
    """
    trainer = Trainer(stage, steps)
    directory = run_directory / "checkpoints" / stage.name
    trainer.resume(directory)
    log.truncate(stage.name, trainer.step)
    measured: list[dict[str, float]] = []
    saved_at_s = time.monotonic()
    with (
        closing(stage.batches(trainer.step, steps)) as batches,
        progress(f"training {stage.name}", steps, done=trainer.step) as advance,
    ):
        for microbatches in batches:
            stage.model.train()
            measured.append(trainer.update(microbatches))
            advance(1, loss=measured[-1]["loss"])
            if _is_due(trainer.step, steps, LOG_LINES):
                log.append(stage.name, trainer.step, _means(measured))
                measured.clear()
            if _is_due(trainer.step, steps, VALIDATIONS):
                _look(trainer, run_directory, log)
            if trainer.step == steps or time.monotonic() - saved_at_s >= save_every_s:
                trainer.save(directory)
                saved_at_s = time.monotonic()
    stage.model.load_state_dict(trainer.ema.state_dict(), strict=False)
    stage.model.eval()


def _is_due(step: int, steps: int, times: int) -> bool:
    """Return whether something done `times` in `steps`, evenly and at the end, is done after this step."""
    return step * times // steps > (step - 1) * times // steps


def _means(measured: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each metric."""
    return {name: sum(metrics[name] for metrics in measured) / len(measured) for name in measured[0]}


def _look(trainer: Trainer, run_directory: Path, log: RunLog) -> None:
    """Validate and draw with the averaged weights."""
    stage = trainer.stage
    with trainer.ema.apply_to(stage.model), torch.no_grad():
        stage.model.eval()
        log.append(stage.name, trainer.step, stage.validate())
        picture = stage.sample()
    if picture is not None:
        write_picture(run_directory / "samples" / f"{stage.name}-{trainer.step:08d}.png", picture)
