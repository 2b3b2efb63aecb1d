"""Masked multi-head attention, over a whole stream or over its newest positions."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from trencadis.transformer.cache import KeyValueCache


class Attention(nn.Module):
    """Multi-head self-attention.

    Args:
        dim: Width of the residual stream.
        num_heads: Heads.
        head_dim: Width of a head.
    """

    def __init__(self, dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * num_heads * head_dim)
        self.out = nn.Linear(num_heads * head_dim, dim)

    def forward(
        self,
        x: Float[Tensor, "batch new dim"],
        mask: Bool[Tensor, "new seen"],
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Float[Tensor, "batch new dim"]:
        """Attend from the new positions to all that `mask` lets them see.

        Args:
            x: The newest positions; all of them where there is no cache.
            mask: True where a new position sees one of those so far, the new ones included.
            cache: Earlier positions; the new ones are appended.
            layer: Which of the cache's layers this is.
        """
        queries, keys, values = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.num_heads)
        if cache is not None:
            keys, values = cache.append(layer, keys, values)
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out(rearrange(seen, "b h n d -> b n (h d)"))  # type: ignore[no-any-return]
