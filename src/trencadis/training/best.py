"""The averaged weights that did best on the held-out pairs, so that no stage ends with those of overfitting."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor

from trencadis.errors import CheckpointError
from trencadis.training import processes
from trencadis.training.checkpoints import CheckpointWarning, load_latest, save_checkpoint
from trencadis.training.stage import Criterion

WORSE_IN_A_ROW = 3  # validations, each worse than the one before, after which a stage overfits


@dataclass(frozen=True)
class Record:
    """The best validation so far."""

    step: int
    value: float


class Best:
    """Keeps one copy of the best weights in a directory; `record` is a part of each checkpoint.

    After a kill the directory may hold weights of a later step than the checkpoint that the stage goes on from. The
    same updates then lead to the same weights, which replace them.

    Args:
        directory: Beside the stage's checkpoints.
        criterion: Which metric of a validation counts; None keeps nothing.
        stored: The record of the checkpoint that the stage goes on from.
    """

    def __init__(self, directory: Path, criterion: Criterion | None, stored: Mapping[str, Any] | None) -> None:
        self._directory, self._criterion = directory, criterion
        is_there = stored is not None and directory.is_dir()
        self.record = Record(**stored) if stored is not None and is_there else None

    @property
    def stored(self) -> dict[str, Any] | None:
        """Return the record as a checkpoint holds it."""
        return None if self.record is None else asdict(self.record)

    def measure_again(self, metrics: Mapping[str, float]) -> None:
        """Take what the best weights reach on other held-out pairs, or with other image tokens, than before."""
        if self._criterion is not None and self.record is not None:
            self.record = Record(self.record.step, metrics[self._criterion.metric])

    def consider(self, step: int, metrics: Mapping[str, float], weights: Mapping[str, Tensor]) -> None:
        """Keep the weights of a validation if it is the best one; one that is not finite never is."""
        if self._criterion is None:
            return
        value = metrics[self._criterion.metric]
        if not math.isfinite(value):
            return
        if self.record is None or self._criterion.is_better(value, self.record.value):
            if processes.is_first():
                save_checkpoint(self._directory, step, {"model": weights}, {"value": value}, keep=1)
            self.record = Record(step, value)

    def weights(self) -> dict[str, Tensor] | None:
        """Return the best weights; None where nothing is kept or, with a warning, where it is damaged."""
        if self.record is None:
            return None
        try:
            checkpoint = load_latest(self._directory)
        except CheckpointError as error:
            warnings.warn(f"{error}; the last weights are used instead", CheckpointWarning, stacklevel=2)
            return None
        return None if checkpoint is None else checkpoint.tensors["model"]


def is_overfitting(values: Sequence[float], criterion: Criterion) -> bool:
    """Return whether the last validations became worse and worse.

    Args:
        values: Of the criterion's metric, in the order of the validations.
    """
    last = values[-1 - WORSE_IN_A_ROW :]
    falls = (criterion.is_better(before, after) for before, after in pairwise(last))
    return len(last) > WORSE_IN_A_ROW and all(falls)
