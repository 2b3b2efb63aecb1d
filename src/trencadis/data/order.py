"""The sampling order: a pure function of the seed and the step, so that no state needs to be saved."""

import hashlib
import threading
from bisect import bisect
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trencadis.errors import ConfigError
from trencadis.randomness import derive_seed

# Bounds how many epochs in a row can be empty.
_MIN_HEAVIEST_WEIGHT = 1e-3
_CACHED_EPOCHS = 3


class SampleOrder:
    """Epochs, each a seeded permutation. A batch may hold samples of two epochs.

    Epoch `e` holds the pairs whose uniform number of (seed, e, sample id) is below their weight, so a pair of weight 1
    is seen exactly once in every epoch. The order depends on the ids, not on the order in which they are given.

    Args:
        sample_ids: Unique names.
        weights: Share of epochs in which each sample appears, in (0, 1].

    Raises:
        ConfigError: There is no sample, or a weight or the batch size is out of range.
    """

    def __init__(self, sample_ids: Sequence[str], weights: Sequence[float], batch_size: int, seed: int) -> None:
        _check(sample_ids, weights, batch_size)
        self._hashes = np.fromiter(map(_hash, sample_ids), np.uint64, len(sample_ids))
        self._weights = np.asarray(weights, np.float64)
        self._batch_size, self._seed = batch_size, seed
        self._every_epoch = bool((self._weights >= 1).all())
        self._starts = [0]  # of the epochs known so far, in samples from the beginning of training
        self._epochs: dict[int, NDArray[np.intp]] = {}
        self._lock = threading.Lock()

    def positions(self, step: int) -> list[tuple[int, int]]:
        """Return (epoch, position among the sample ids) of each sample of a step, counted from 0."""
        first, last = step * self._batch_size, (step + 1) * self._batch_size
        taken: list[tuple[int, int]] = []
        with self._lock:
            epoch = self._epoch_of(first)
            while (start := self._start(epoch)) < last:
                part = self._permutation(epoch)[max(first - start, 0) : last - start].tolist()
                taken.extend((epoch, position) for position in part)
                epoch += 1
        return taken

    def epoch_size(self, epoch: int) -> int:
        return len(self._hashes) if self._every_epoch else int(self._included(epoch).sum())

    def _epoch_of(self, sample: int) -> int:
        """Return the epoch of a sample, which is counted from the beginning of training."""
        if self._every_epoch:
            return sample // len(self._hashes)
        while self._starts[-1] <= sample:
            self._start(len(self._starts))
        return bisect(self._starts, sample) - 1

    def _start(self, epoch: int) -> int:
        if self._every_epoch:
            return epoch * len(self._hashes)
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + self.epoch_size(len(self._starts) - 1))
        return self._starts[epoch]

    def _included(self, epoch: int) -> NDArray[np.bool_]:
        mixed = _mix(self._hashes ^ np.uint64(derive_seed(self._seed, "in epoch", epoch)))
        uniform = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
        included: NDArray[np.bool_] = uniform < self._weights
        return included

    def _permutation(self, epoch: int) -> NDArray[np.intp]:
        """Return the epoch's positions in order; the last few epochs are cached."""
        if epoch not in self._epochs:
            mixed = _mix(self._hashes ^ np.uint64(derive_seed(self._seed, "order", epoch)))
            order = np.argsort(mixed, kind="stable")
            while len(self._epochs) >= _CACHED_EPOCHS:
                del self._epochs[min(self._epochs)]
            self._epochs[epoch] = order if self._every_epoch else order[self._included(epoch)[order]]
        return self._epochs[epoch]


def _check(sample_ids: Sequence[str], weights: Sequence[float], batch_size: int) -> None:
    if batch_size < 1:
        raise ConfigError(f"batch_size {batch_size}", expected="1 or more", remedy="raise it")
    if not sample_ids or len(sample_ids) != len(weights):
        given = f"{len(sample_ids)} samples and {len(weights)} weights"
        raise ConfigError(given, expected="at least one sample, and as many weights", remedy="check the dataset")
    if not (min(weights) > 0 and max(weights) <= 1):
        given = f"weights from {min(weights)} to {max(weights)}"
        raise ConfigError(given, expected="numbers above 0 and up to 1", remedy="correct the weights")
    if max(weights) < _MIN_HEAVIEST_WEIGHT:
        given = f"a heaviest weight of {max(weights)}"
        raise ConfigError(given, expected=f"{_MIN_HEAVIEST_WEIGHT} or more", remedy="multiply all weights")


def _hash(sample_id: str) -> int:
    return int.from_bytes(hashlib.sha256(sample_id.encode()).digest()[:8], "big")


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Map 64-bit numbers one to one to scrambled ones. Source: Steele et al. 2014, SplitMix64."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
