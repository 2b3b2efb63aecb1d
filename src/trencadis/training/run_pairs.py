"""The pairs of a run, the same for every stage, and their pictures."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.config import DataConfig
from trencadis.data import CropRule, KeptPair, PairBatches, Pictures
from trencadis.protocols import PairSource
from trencadis.training import processes


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
        """Return this process's share of all batches."""
        pictures = self.pictures(self.train, image_size, config)
        share = processes.share(batch_size)
        return PairBatches(pictures, batch_size=batch_size, seed=seed, rule=rule, share=share)

    def middle_crops(
        self, pairs: tuple[KeptPair, ...], image_size: tuple[int, int], config: DataConfig
    ) -> Float[Tensor, "pairs 3 height width"]:
        """Return the centre crop of each picture, RGB in [0, 1]."""
        pictures = self.pictures(pairs, image_size, config)
        return torch.stack([pictures.crop(position) for position in range(len(pairs))])
