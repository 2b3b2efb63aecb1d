"""What a model gives to be trained: its batches, its loss, and what shows how it is doing."""

from collections.abc import Generator, Mapping
from typing import Generic, Protocol, TypeVar, runtime_checkable

from PIL import Image
from torch import Tensor, nn

from trencadis.config import StageConfig

Batch = TypeVar("Batch")


@runtime_checkable
class Stage(Protocol, Generic[Batch]):
    """One part of a run, trained by `trencadis.training.loop.fit`.

    Everything random in it is a pure function of the seed and the step, so that a resumed stage goes on exactly.
    """

    name: str

    @property
    def config(self) -> StageConfig:
        """How it is trained."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    def batches(self, from_step: int, to_step: int) -> Generator[list[Batch], None, None]:
        """Yield the microbatches of each of the steps `from_step` to `to_step - 1`."""

    def loss(self, batch: Batch, step: int, steps: int) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Return a microbatch's loss, a mean over its samples, and what is logged beside it."""

    def validate(self) -> dict[str, float]:
        """Measure the model as it is, in evaluation mode, on pairs that it is not trained on."""

    def after_backward(self, step: int, steps: int) -> None:
        """Do what is left of an update after the last microbatch's gradient, before the optimizers' part."""

    def extra_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps besides model, averaged weights and optimizers."""

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `extra_state` returned."""

    def sample(self) -> Image.Image | None:
        """Return a picture of what the model does, of the same captions or pictures each time."""


class PlainStage:
    """What a stage inherits that is trained by its optimizers alone, and keeps no state of its own."""

    def after_backward(self, step: int, steps: int) -> None:
        """Do nothing more."""

    def extra_state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load_extra_state(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing."""
        assert not state, f"a checkpoint with {sorted(state)}"
