"""Multi-head attention but for the attending itself, which differs between training and decoding."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from trencadis.config import TransformerConfig
from trencadis.transformer.positions import rotate
from trencadis.transformer.products import Linear, RMSNorm

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values of the new positions to what they see, all (batch, heads, new, head_dim)."""

Turn = tuple[Tensor, Tensor]
"""Cosine and sine of the new positions' rotary angles."""


class Attention(nn.Module):
    """Queries, keys and values, and the way back into the residual stream.

    Args:
        config: Sizes and design.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        design, head_dim = config.design, config.head_dim
        self.num_heads = self.num_kv_heads = config.num_heads
        self.qkv_rows = (self.num_heads * head_dim, self.num_kv_heads * head_dim, self.num_kv_heads * head_dim)
        self.qkv = Linear(config.dim, sum(self.qkv_rows), bias=design.biases)
        self.out = Linear(self.num_heads * head_dim, config.dim, bias=design.biases)
        self.query_norm = RMSNorm(head_dim) if design.qk_norm else None
        self.key_norm = RMSNorm(head_dim) if design.qk_norm else None

    def forward(
        self, x: Float[Tensor, "batch new dim"], turn: Turn | None, attend: Attend
    ) -> Float[Tensor, "batch new dim"]:
        """Attend from new positions to all that `attend` lets them see.

        Args:
            x: Normalised states of the new positions.
            turn: Their rotary angles, where the design has them.
            attend: Masked attention over a whole stream, or attention to what a cache holds.
        """
        # Views by hand: a step of decoding is so short that einops' parsing would show in it.
        batch, new, _ = x.shape
        heads = self.qkv(x).view(batch, new, self.num_heads + 2 * self.num_kv_heads, -1).transpose(1, 2)
        queries, keys, values = heads.split([self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        if turn is not None:
            queries, keys = rotate(queries, *turn), rotate(keys, *turn)
        # Norms and angles are taken in 32 bits, attention in what the products are in.
        seen = attend(queries.to(values.dtype), keys.to(values.dtype), values)
        return self.out(seen.transpose(1, 2).reshape(batch, new, -1))  # type: ignore[no-any-return]
