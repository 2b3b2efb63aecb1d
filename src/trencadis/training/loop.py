"""The training loop: one for every model."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from trencadis.progress import progress
from trencadis.run_directory import RunDirectory
from trencadis.run_log import RunLog
from trencadis.storage import write_picture
from trencadis.training.stage import Stage
from trencadis.training.trainer import Trainer

LOG_LINES = 400  # of a stage, about
VALIDATIONS = 12  # of a stage
SAVING_SHARE = 0.02  # of the time; a checkpoint of a large model takes a minute to write


def fit(stage: Stage[Any], steps: int, run: RunDirectory, log: RunLog, *, save_every_s: float) -> None:
    """Train a stage to its last step, from its newest checkpoint.

    In the end the stage's model holds the averaged weights and is in evaluation mode.

    Args:
        run: Where checkpoints and samples go.
        log: Where metrics go; lines of lost updates are dropped.
        save_every_s: Least seconds between two checkpoints; more where saving would take over 2 % of the time.

    Raises:
        CheckpointError: There are checkpoints and none is valid.
        DivergenceError: The gradient was not finite again and again.
        StorageError: The run's directory cannot be written.
    """
    trainer = Trainer(stage, steps)
    checkpoints = run.checkpoints(stage.name)
    means = Means(trainer.resume(checkpoints).get("means", {}))
    log.truncate(stage.name, trainer.step)
    saving = SavingTimes(save_every_s)
    with (
        closing(stage.batches(trainer.step, steps)) as batches,
        progress(f"training {stage.name}", steps, done=trainer.step) as advance,
    ):
        for microbatches in batches:
            stage.model.train()
            metrics = trainer.update(microbatches)
            means.add(metrics)
            advance(1, loss=float(metrics["loss"]))
            if _is_due(trainer.step, steps, LOG_LINES):
                log.append(stage.name, trainer.step, means.take())
            if _is_due(trainer.step, steps, VALIDATIONS):
                _validate(trainer, run, log)
            if trainer.step == steps or saving.is_due():
                with saving:
                    log.flush()
                    trainer.save(checkpoints, means=means.sums)
    stage.model.load_state_dict(trainer.ema.state_dict(), strict=False)
    stage.model.eval()


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


def _is_due(step: int, steps: int, times: int) -> bool:
    """Return whether something done `times` in `steps`, evenly and at the end, is done after this step."""
    return step * times // steps > (step - 1) * times // steps


def _validate(trainer: Trainer, run: RunDirectory, log: RunLog) -> None:
    stage = trainer.stage
    with trainer.ema.apply_to(stage.model), torch.no_grad():
        stage.model.eval()
        log.append(stage.name, trainer.step, stage.validate())
        picture = stage.sample()
    if picture is not None:
        write_picture(run.sample(stage.name, trainer.step), picture)
