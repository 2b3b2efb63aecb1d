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
    """Captioned pictures of one step: random crops, RGB in [0, 1], each with one of its captions.

    Seed, sample id and epoch (from 0) fix a pair's crop and caption.
    """

    images: Float[Tensor, "batch 3 height width"]
    captions: tuple[str, ...]
    sample_ids: tuple[str, ...]
    epochs: tuple[int, ...]


class PairBatches:
    """All batches of a training stage. The seed fixes the order, the crops and the choice among captions.

    Args:
        batch_size: Samples of a step.
        share: Those of them that a batch has.

    Raises:
        ConfigError: There is no pair, or the batch size is below 1.
    """

    def __init__(
        self, pictures: Pictures, *, batch_size: int, seed: int, rule: CropRule, share: slice = slice(None)
    ) -> None:
        self._pictures, self._seed, self._rule, self._share = pictures, seed, rule, share
        pairs = pictures.pairs
        self.order = SampleOrder([pair.sample_id for pair in pairs], [pair.weight for pair in pairs], batch_size, seed)

    def batch(self, step: int) -> PairBatch:
        """Return the batch of a step, counted from 0."""
        epochs, positions = zip(*self.order.positions(step)[self._share], strict=True)
        pairs = [self._pictures.pairs[position] for position in positions]
        keys = [(self._seed, epoch, pair.sample_id) for epoch, pair in zip(epochs, pairs, strict=True)]
        crops = [self._pictures.crop(position, self._rule, key) for position, key in zip(positions, keys, strict=True)]
        return PairBatch(
            images=torch.stack(crops),
            captions=tuple(pair.caption(self._seed, epoch) for pair, epoch in zip(pairs, epochs, strict=True)),
            sample_ids=tuple(pair.sample_id for pair in pairs),
            epochs=epochs,
        )

    def iterate(
        self, from_step: int, to_step: int, *, workers: int | None = None, pinned: bool = False
    ) -> Generator[PairBatch, None, None]:
        """Yield the batches of the steps `from_step` to `to_step - 1`, prepared by threads.

        The batches are the same for any number of workers. Close the iterator to leave before its end.

        Args:
            workers: Threads, as in `prefetch`.
            pinned: Put the pictures into pinned memory, from which a GPU copies them while it computes.
        """

        def prepared(step: int) -> PairBatch:
            batch = self.batch(step)
            return replace(batch, images=batch.images.pin_memory()) if pinned else batch

        return prefetch(prepared, range(from_step, to_step), workers=workers)
