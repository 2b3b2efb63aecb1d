"""Keys and values of the positions that decoding has passed."""

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.config import TransformerConfig


class KeyValueCache:
    """Keys and values of every layer, allocated once for the whole stream.

    Args:
        keys: Room for every position; what lies beyond `length` is undefined.
        values: Likewise.
    """

    def __init__(
        self,
        keys: Float[Tensor, "layers batch heads stream_len head_dim"],
        values: Float[Tensor, "layers batch heads stream_len head_dim"],
    ) -> None:
        self.keys, self.values = keys, values
        self.length = 0

    @classmethod
    def allocate(
        cls, config: TransformerConfig, batch: int, *, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> "KeyValueCache":
        """Return an empty cache for `batch` streams."""
        stream_len = config.text_len + config.grid_size[0] * config.grid_size[1]
        shape = (config.num_layers, batch, config.num_heads, stream_len, config.head_dim)
        return cls(torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "batch heads new head_dim"],
        values: Float[Tensor, "batch heads new head_dim"],
    ) -> tuple[Float[Tensor, "batch heads seen head_dim"], Float[Tensor, "batch heads seen head_dim"]]:
        """Write a layer's new positions after the first `length`, and return all of that layer's so far."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]
