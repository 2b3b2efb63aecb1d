"""What a model gives to be trained: its batches, its loss, and what shows how it is doing."""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from PIL import Image
from torch import Tensor, nn

from trencadis.config import StageConfig

Batch = TypeVar("Batch")
Totals = Mapping[str, Tensor]
"""Sums over all samples of an update, by name: how many images or tokens it has, and what else its terms depend on."""


class Term(NamedTuple):
    """One term of the loss, summed over a microbatch. Over an update it is `weight` · Σ `sum` / `totals[unit]`."""

    sum: Tensor  # over the microbatch's images, tokens or pairs
    unit: str  # what is counted: a name in the update's `Totals`
    weight: float | Tensor = 1.0  # 0 for what is only logged


class StageLoss(NamedTuple):
    """The loss of a microbatch."""

    terms: Mapping[str, Term]  # by the names that their means are logged under
    values: Mapping[str, float | Tensor] = {}  # logged as they are; the same in every microbatch
    observed: Any = None  # what `Stage.after_update` learns from, without a graph


class UpdateEffects(NamedTuple):
    """What `Stage.after_update` did: metrics to log, and rows of parameters, by name, that were written anew.

    Moments and averages of the rows before are dropped.
    """

    metrics: Mapping[str, float | Tensor] = {}
    replaced_rows: Mapping[str, Tensor] = {}


class Criterion(NamedTuple):
    """The metric of a validation by which weights are compared."""

    metric: str
    is_higher_better: bool = False

    def is_better(self, value: float, than: float) -> bool:
        """Return whether a value is better than another one; a value that is not a number is not."""
        return value > than if self.is_higher_better else value < than


@runtime_checkable
class Stage(Protocol[Batch]):
    """One part of a run, trained by `trencadis.training.loop.fit`. By default its optimizers alone train it.

    Update `step` of `steps` is where the schedules are: its number, unless the number of updates has been changed.

    Everything random is a pure function of the seed, the step and a sample's position in the update, so that a resumed
    stage continues exactly, and microbatches change nothing.
    """

    name: str
    config: StageConfig
    model: nn.Module

    @property
    def criterion(self) -> Criterion | None:
        """Return what decides which weights are kept in the end; None keeps the last ones."""
        return None

    def batches(self, from_step: int, to_step: int) -> Generator[list[Batch], None, None]:
        """Yield the microbatches of each of the steps `from_step` to `to_step - 1`."""

    def totals(self, batch: Batch, step: int, steps: int, *, is_whole: bool) -> Totals:
        """Return what a microbatch adds to the totals of update `step` of `steps`.

        If it `is_whole`, the only one, sums that `loss` can take from it are left out, and only counts remain.
        """

    def loss(self, batch: Batch, totals: Totals, step: int, steps: int) -> StageLoss:
        """Return the terms of a microbatch, given the totals of the whole update. It changes nothing."""

    def validate(self) -> dict[str, float]:
        """Measure the model in evaluation mode on held-out pairs."""

    def sample(self) -> Image.Image | None:
        """Return a picture of what the model does, for the same captions or pictures each time."""

    def after_backward(self) -> None:
        """Finish the model's gradient before it is clipped, such as by removing scales."""
        return

    def after_update(self, observed: Sequence[Any], step: int, steps: int) -> UpdateEffects:
        """Learn what is learnt by other means than the optimizers, once they have made update number `step`.

        `observed` is from the loss of each microbatch. Skipped updates do not come here.
        """
        return UpdateEffects()

    def extra_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds besides the model, averaged weights and optimizers."""
        return {}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        assert not state, f"a checkpoint with {sorted(state)}"
