"""What is computed from a module's weights, and computed again when the weights have changed."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from torch import Tensor, nn

BuiltT = TypeVar("BuiltT")


class WeightCache:
    """Keeps what was built from one module's weights until one of them changes.

    It sees `load_state_dict`, updates in place, `to`, and replaced parameters. PyTorch does not count a write through
    `.data` or through a NumPy view, so neither is seen: call `clear` after it.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything, and free its memory."""
        self._built: dict[Hashable, Any] = {}
        self._state: list[tuple[Hashable, ...]] = []
        self._storages: list[object] = []

    def get(self, module: nn.Module, key: Hashable, build: Callable[[], BuiltT]) -> BuiltT:
        """Return what `build` returned for this key since the weights last changed; call it if it has not been."""
        weights = [*module.parameters(), *module.buffers()]
        state = [_state(weight) for weight in weights]
        if state != self._state:
            self.clear()
            self._state = state
            # While a storage is held, no new weight can get its address.
            self._storages = [weight.untyped_storage() for weight in weights]
        if key not in self._built:
            self._built[key] = build()
        built: BuiltT = self._built[key]
        return built


def _state(weight: Tensor) -> tuple[Hashable, ...]:
    version = 0 if weight.is_inference() else weight._version  # inference tensors have none
    return weight.data_ptr(), version, weight.device, weight.dtype, weight.shape, weight.stride()
