"""The training loop: one for every model."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from trencadis.progress import progress
from trencadis.run_log import RunLog
from trencadis.storage import write_picture
from trencadis.training.stage import Stage
from trencadis.training.trainer import Metrics, Trainer, mean_metrics

LOG_LINES = 400  # of a whole stage, about
VALIDATIONS = 12  # likewise


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
    measured: list[Metrics] = []
    saved_at_s = time.monotonic()
    with (
        closing(stage.batches(trainer.step, steps)) as batches,
        progress(f"training {stage.name}", steps, done=trainer.step) as advance,
    ):
        for microbatches in batches:
            stage.model.train()
            measured.append(trainer.update(microbatches))
            advance(1, loss=float(measured[-1]["loss"]))
            if _is_due(trainer.step, steps, LOG_LINES):
                log.append(stage.name, trainer.step, mean_metrics(measured))
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


def _look(trainer: Trainer, run_directory: Path, log: RunLog) -> None:
    """Validate and draw with the averaged weights."""
    stage = trainer.stage
    with trainer.ema.apply_to(stage.model), torch.no_grad():
        stage.model.eval()
        log.append(stage.name, trainer.step, stage.validate())
        picture = stage.sample()
    if picture is not None:
        write_picture(run_directory / "samples" / f"{stage.name}-{trainer.step:08d}.png", picture)
