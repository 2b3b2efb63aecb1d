"""Batches of captioned pictures, each a pure function of its step."""

from collections.abc import Generator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.data.crops import Pictures
from trencadis.data.order import SampleOrder
from trencadis.data.prefetch import prefetch
from trencadis.errors import ConfigError


@dataclass(frozen=True)
class PairBatch:
    """Captioned pictures of one step.

    Args:
        images: Random crops, RGB in [0, 1].
        captions: One of each pair's.
        sample_ids: The pairs' names.
        positions: The pairs' places among those that are trained on.
        epochs: In which epoch each is seen, from 0; with the seed and the sample id it fixes crop and caption.
    """

    images: Float[Tensor, "batch 3 height width"]
    captions: tuple[str, ...]
    sample_ids: tuple[str, ...]
    positions: tuple[int, ...]
    epochs: tuple[int, ...]


class PairBatches:
    """All the batches of a training run.

    Args:
        pictures: The pairs that are trained on.
        batch_size: Samples of a step, over all ranks.
        seed: Of the order, the crops and the choice among captions.
        min_crop: Shortest side of a random crop, as a share of the largest that fits.
        flip: Mirror half of the crops.
        rank: Which of `world_size` even parts of each batch this process takes.
        world_size: How many processes share a batch.

    Raises:
        ConfigError: There is no pair, or the batch size is not a multiple of `world_size`.
    """

    def __init__(
        self,
        pictures: Pictures,
        *,
        batch_size: int,
        seed: int,
        min_crop: float,
        flip: bool,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            given = f"batch_size {batch_size} over {world_size} processes"
            raise ConfigError(given, expected="a multiple of the processes", remedy="change batch_size")
        self._pictures, self._seed, self._min_crop, self._flip = pictures, seed, min_crop, flip
        self._part = slice(rank, None, world_size)
        pairs = pictures.pairs
        self.order = SampleOrder([pair.sample_id for pair in pairs], [pair.weight for pair in pairs], batch_size, seed)

    def batch(self, step: int) -> PairBatch:
        """Return the batch of a step, counted from 0."""
        places = self.order.positions(step)[self._part]
        pairs = [self._pictures.pairs[position] for _, position in places]
        return PairBatch(
            images=torch.stack([self._crop(epoch, position) for epoch, position in places]),
            captions=tuple(pair.caption(self._seed, epoch) for pair, (epoch, _) in zip(pairs, places, strict=True)),
            sample_ids=tuple(pair.sample_id for pair in pairs),
            positions=tuple(position for _, position in places),
            epochs=tuple(epoch for epoch, _ in places),
        )

    def iterate(self, from_step: int, to_step: int, workers: int = 1) -> Generator[PairBatch, None, None]:
        """Yield the batches of the steps `from_step` to `to_step - 1`, prepared by threads.

        The batches are the same for any number of workers. Close the iterator to leave before its end.
        """
        return prefetch(self.batch, range(from_step, to_step), workers=workers)

    def _crop(self, epoch: int, position: int) -> Float[Tensor, "3 height width"]:
        key = (self._seed, epoch, self._pictures.pairs[position].sample_id)
        return self._pictures.crop(position, min_crop=self._min_crop, flip=self._flip, key=key)
