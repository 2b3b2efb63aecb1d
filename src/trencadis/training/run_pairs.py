"""The pairs of a run: filtered and split once, and the same for every stage."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.config import DataConfig
from trencadis.data import (
    CropRule,
    Curated,
    KeptPair,
    PairBatches,
    Pictures,
    curate,
    is_current,
    open_source,
    require_whole,
)
from trencadis.errors import DataError
from trencadis.protocols import PairSource
from trencadis.randomness import derive_seed
from trencadis.run_directory import RunDirectory

VALIDATION_PAIRS = 256  # at most: enough for a mean, few enough to validate on a dozen times
ENOUGH_PAIRS = 32  # a small data set holds out this many,
LARGEST_SHARE = 0.1  # but no more than this share of it


@dataclass(frozen=True)
class RunPairs:
    """What a run trains and validates on."""

    source: PairSource
    train: tuple[KeptPair, ...]
    validation: tuple[KeptPair, ...]  # in random order, so that the first ones are a fair sample
    kept: int  # pairs that passed the filters: those above, and held-out ones that validation does not use
    dropped: dict[str, int]  # pairs that were left out, by reason

    def summary(self) -> dict[str, Any]:
        counts = {"train": len(self.train), "validation": len(self.validation), "kept": self.kept}
        return {**counts, "dropped": self.dropped}

    def pictures(self, pairs: tuple[KeptPair, ...], image_size: tuple[int, int], config: DataConfig) -> Pictures:
        """Return the pictures of some pairs, which are cropped later."""
        most = config.filters.max_image_pixels
        return Pictures(self.source, pairs, image_size, fit=config.fit, max_image_pixels=most)

    def batches(
        self, image_size: tuple[int, int], config: DataConfig, *, batch_size: int, seed: int, rule: CropRule
    ) -> PairBatches:
        pictures = self.pictures(self.train, image_size, config)
        return PairBatches(pictures, batch_size=batch_size, seed=seed, rule=rule)

    def middle_crops(
        self, pairs: tuple[KeptPair, ...], image_size: tuple[int, int], config: DataConfig
    ) -> Float[Tensor, "pairs 3 height width"]:
        """Return the centre crop of each picture, RGB in [0, 1]."""
        pictures = self.pictures(pairs, image_size, config)
        return torch.stack([pictures.crop(position) for position in range(len(pairs))])


def read_pairs(config: DataConfig, seed: int, run: RunDirectory, *, resumed: bool) -> RunPairs:
    """Open the dataset, filter it, and split it into training and validation pairs.

    The result is kept in the run's directory, so that a resumed run does not read every picture again.

    Raises:
        DataError: The dataset cannot be used, has fewer than two usable pairs, or has changed since the run began.
    """
    source = open_source(config.path, config)
    curated = _curated(source, config, run, resumed=resumed)
    if config.strict:
        require_whole(curated)
    few = min(LARGEST_SHARE, ENOUGH_PAIRS / len(curated.kept)) if curated.kept else 0.0
    train, validation = curated.split(max(config.held_out, few), seed)
    if not train or not validation:
        raise DataError(
            f"{len(curated.kept)} usable pairs in {config.path}",
            expected="at least 2, one of them to measure on",
            remedy="add captioned pictures, or see what `trencadis data check` says was left out",
        )
    mixed = sorted(validation, key=lambda pair: derive_seed(seed, "validation", pair.sample_id))
    return RunPairs(source, train, tuple(mixed[:VALIDATION_PAIRS]), len(curated.kept), curated.counts())


def _curated(source: PairSource, config: DataConfig, run: RunDirectory, *, resumed: bool) -> Curated:
    try:
        known = Curated.load(run.pairs)
    except DataError:
        known = None  # absent or damaged
    if known is not None and is_current(known, source, config.filters):
        return known
    curated = curate(source, config.filters, progress=True)
    if resumed and known is not None and known.kept != curated.kept:
        raise DataError(
            f"{config.path} has changed since this run began",
            expected="the pairs that the run was planned for",
            remedy="restore them, or train into another --out",
        )
    curated.save(run.pairs)
    return curated
