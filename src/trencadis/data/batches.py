"""Batches of captioned pictures, each a pure function of its step."""

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.data.crop_boxes import CropRule
from trencadis.data.crops import Pictures
from trencadis.data.order import SampleOrder
from trencadis.data.prefetch import prefetch


@dataclass(frozen=True)
class PairBatch:
    """Captioned pictures of one step.

    Args:
        images: Random crops, RGB in [0, 1].
        captions: One of each pair's.
        sample_ids: The pairs' names.
        epochs: The epoch in which each is seen, from 0. With the seed and the sample id it fixes crop and caption.
    """

    images: Float[Tensor, "batch 3 height width"]
    captions: tuple[str, ...]
    sample_ids: tuple[str, ...]
    epochs: tuple[int, ...]


class PairBatches:
    """All batches of a training stage.

    Args:
        pictures: The pairs to train on.
        batch_size: Samples of a step.
        seed: Of the order, the crops and the choice among captions.
        rule: How crops are drawn.

    Raises:
        ConfigError: There is no pair, or the batch size is below 1.
    """

    def __init__(self, pictures: Pictures, *, batch_size: int, seed: int, rule: CropRule) -> None:
        self._pictures, self._seed, self._rule = pictures, seed, rule
        pairs = pictures.pairs
        self.order = SampleOrder([pair.sample_id for pair in pairs], [pair.weight for pair in pairs], batch_size, seed)

    def batch(self, step: int) -> PairBatch:
        """Return the batch of a step, counted from 0."""
        places = self.order.positions(step)
        pairs = [self._pictures.pairs[position] for _, position in places]
        keys = [(self._seed, epoch, pair.sample_id) for pair, (epoch, _) in zip(pairs, places, strict=True)]
        crops = [
            self._pictures.crop(position, self._rule, key) for key, (_, position) in zip(keys, places, strict=True)
        ]
        return PairBatch(
            images=torch.stack(crops),
            captions=tuple(pair.caption(self._seed, epoch) for pair, (epoch, _) in zip(pairs, places, strict=True)),
            sample_ids=tuple(pair.sample_id for pair in pairs),
            epochs=tuple(epoch for epoch, _ in places),
        )

    def iterate(
        self, from_step: int, to_step: int, *, workers: int | None = None, pinned: bool = False
    ) -> Generator[PairBatch, None, None]:
        """Yield the batches of the steps `from_step` to `to_step - 1`, prepared by threads.

        The batches are the same for any number of workers. Close the iterator to leave before its end.

        Args:
            from_step: The first.
            to_step: The one after the last.
            workers: Threads, as in `prefetch`.
            pinned: Put the pictures into pinned memory, from which a GPU copies them while it computes.
        """

        def prepared(step: int) -> PairBatch:
            batch = self.batch(step)
            return replace(batch, images=batch.images.pin_memory()) if pinned else batch

        return prefetch(prepared, range(from_step, to_step), workers=workers)
