"""The KV cache: keys and values of what decoding has read, in slots that are taken and freed."""

import torch
from torch import Tensor

from trencadis.config import TransformerConfig

Pair = tuple[Tensor, Tensor]


class KVCache:
    """Keys and values of captions, which streams share, and of the image tokens of each stream.

    Every layer has tensors of its own, so that a compiled step writes in place. Positions that were not written yet, or
    belong to a stream that has left, are finite and masked.

    Args:
        slots: Streams that the cache has room for.
        captions: Captions that it has room for.

    Attributes:
        text: Keys and values of each layer, "heads captions text_len head_dim" each.
        image: Keys and values of each layer, "slots heads image_len head_dim" each; a layer's positions are in the
            order that suits its pattern.
    """

    text: list[Pair]
    image: list[Pair]

    def __init__(
        self, config: TransformerConfig, *, slots: int, captions: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        heads, head_dim, image_len = config.num_heads, config.head_dim, config.grid_size[0] * config.grid_size[1]
        self.slots, self.captions = slots, captions

        def pairs(*shape: int) -> list[Pair]:
            zeros = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(2 * config.num_layers)]
            return list(zip(zeros[::2], zeros[1::2], strict=True))

        self.text = pairs(heads, captions, config.text_len, head_dim)
        self.image = pairs(slots, heads, image_len, head_dim)

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for pair in (*self.text, *self.image) for tensor in pair)


def slot_bytes(config: TransformerConfig, dtype: torch.dtype = torch.float32) -> int:
    """Return the bytes of the keys and values of one stream's image tokens."""
    image_len = config.grid_size[0] * config.grid_size[1]
    return 2 * config.num_layers * config.num_heads * config.head_dim * image_len * dtype.itemsize
