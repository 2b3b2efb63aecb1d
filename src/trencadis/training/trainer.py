"""One update after another: a stage's model, its optimizers and its averaged weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trencadis.errors import DivergenceError
from trencadis.training.checkpoints import load_latest, save_checkpoint
from trencadis.training.optimizer_state import EMA, optimizer_tensors, restore_optimizers
from trencadis.training.optimizers import clip_gradients, learning_rate, optimizers
from trencadis.training.stage import Stage

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

    def save(self, directory: Path, **meta: Any) -> None:
        """Write a checkpoint; skipped updates leave no trace in the weights, so that they are always good ones.

        Args:
            directory: Of the stage's checkpoints.
            meta: What `resume` is to return; anything that JSON can hold.
        """
        tensors: Mapping[str, Mapping[str, Tensor]] = {
            "model": self.stage.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": optimizer_tensors(self.optimizers, self.stage.model),
        }
        extra = self.stage.extra_state()
        if extra:
            tensors = {**tensors, "extra": extra}
        save_checkpoint(directory, self.step, tensors, {"stage": self.stage.name, "steps": self.steps, **meta})

    def resume(self, directory: Path) -> dict[str, Any]:
        """Load the newest valid checkpoint and return its meta; nothing where there is none.

        Raises:
            CheckpointError: There are checkpoints and none is valid.
        """
        checkpoint = load_latest(directory)
        if checkpoint is None:
            return {}
        self.stage.model.load_state_dict(checkpoint.tensors["model"])
        self.ema.load_state_dict(checkpoint.tensors["ema"])
        restore_optimizers(self.optimizers, self.stage.model, checkpoint.tensors["optimizer"])
        self.stage.load_extra_state(checkpoint.tensors.get("extra", {}))
        self.step = checkpoint.step
        return checkpoint.meta
