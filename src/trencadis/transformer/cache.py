"""Keys and values of what decoding has read: the captions' once for all that share them, and the pictures'."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from trencadis.config import TransformerConfig


@dataclass(frozen=True)
class KeyValueCache:
    """Keys and values of every layer, the pictures' allocated once for the whole grid.

    `streams` pictures have `captions` captions among them: streams 0 … n-1 have the first one, the next n the second,
    and so on. What lies where no image token was read yet is undefined, and never looked at.

    Args:
        text: Keys, then values.
        image: Keys, then values, each layer's positions in the order that suits its pattern.
    """

    text: Float[Tensor, "two layers captions kv_heads text_len head_dim"]
    image: Float[Tensor, "two layers streams kv_heads image_len head_dim"]

    @classmethod
    def allocate(
        cls, config: TransformerConfig, *, captions: int, streams: int, device: torch.device, dtype: torch.dtype
    ) -> "KeyValueCache":
        """Return a cache that nothing was read into."""
        rows, columns = config.grid_size
        shape, head = (2, config.num_layers), (config.num_heads,)
        text = torch.zeros(*shape, captions, *head, config.text_len, config.head_dim, device=device, dtype=dtype)
        image = torch.zeros(*shape, streams, *head, rows * columns, config.head_dim, device=device, dtype=dtype)
        return cls(text, image)

    @property
    def captions(self) -> int:
        """Number of captions."""
        return self.text.shape[2]

    @property
    def streams(self) -> int:
        """Number of pictures."""
        return self.image.shape[2]

    @property
    def size_bytes(self) -> int:
        """Memory that it takes."""
        return self.text.nbytes + self.image.nbytes
