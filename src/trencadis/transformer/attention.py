"""Multi-head attention over the stream, and the patterns of what each position sees."""

from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from trencadis.config import TransformerConfig
from trencadis.stream import Stream
from trencadis.transformer.kernels.block_sparse import block_sparse_attention
from trencadis.transformer.kernels.flex import FlexAttention
from trencadis.transformer.kernels.narrow import narrow_heads, suits_blocks
from trencadis.transformer.kernels.product_attention import product_attention, suits_products
from trencadis.transformer.layers import Linear, RMSNorm
from trencadis.transformer.masks import ImageBlocks, Pattern, visibility
from trencadis.transformer.rotary import Rotary, rotate

SPARSE_ENOUGH = 4
"""Block-sparse attention is faster where a window is this many times shorter than the picture; measured on a CPU."""

Heads = Float[Tensor, "batch heads positions head_dim"]


class PatternAttention:
    """Masked attention of one pattern over a whole stream; has no weights and is shared by the pattern's layers.

    Short streams in bfloat16 on a CPU are computed by batched products. Otherwise full attention is torch's causal one,
    and the sparse patterns are computed by blocks on a CPU and by FlexAttention on CUDA; elsewhere, and on small grids,
    with the dense mask.
    """

    def __init__(self, pattern: Pattern, stream: Stream, *, kernel_size: int) -> None:
        self.pattern, self.stream, self.kernel_size = pattern, stream, kernel_size
        self._flex = FlexAttention(pattern, stream, kernel_size=kernel_size)

    @cached_property
    def blocks(self) -> ImageBlocks:
        """The pattern cut into blocks; made when it is first needed."""
        return ImageBlocks.of(self.pattern, self.stream, kernel_size=self.kernel_size)

    @cached_property
    def is_block_sparse(self) -> bool:
        """Whether computing by blocks saves enough to pay for what it adds."""
        return self.blocks.mask.shape[-1] * SPARSE_ENOUGH <= self.stream.image_len

    @cached_property
    def _mask(self) -> Tensor:
        return visibility(self.pattern, self.stream, kernel_size=self.kernel_size)

    @cached_property
    def _bias(self) -> Tensor:
        hidden = ~visibility(self.pattern, self.stream, kernel_size=self.kernel_size)
        return torch.zeros(hidden.shape, dtype=torch.bfloat16).masked_fill_(hidden, -torch.inf)

    def __call__(self, queries: Heads, keys: Heads, values: Heads) -> Heads:
        if suits_products(queries):
            return product_attention(queries, keys, values, self._bias)
        if self.pattern == "full":
            return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        if queries.device.type == "cuda":
            return self._flex(queries, keys, values)
        # A subclass, such as the plan's fake tensors, cannot go into a kernel.
        if queries.device.type == "cpu" and type(queries) is Tensor and self.is_block_sparse:
            return block_sparse_attention(queries, keys, values, self.stream, self.blocks)
        return self.dense(queries, keys, values)

    def dense(self, queries: Heads, keys: Heads, values: Heads) -> Heads:
        """Attend with the dense mask: the reference for the other forms."""
        self._mask = self._mask.to(queries.device)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=self._mask)


class Attention(nn.Module):
    """Queries, keys and values of each position, masked attention, and the projection back into the residual stream."""

    def __init__(self, config: TransformerConfig, attend: PatternAttention) -> None:
        super().__init__()
        design, width = config.design, config.num_heads * config.head_dim
        self.num_heads, self.attend = config.num_heads, attend
        self.qkv = Linear(config.dim, 3 * width, bias=design.biases)
        self.out = Linear(width, config.dim, bias=design.biases)
        self.query_norm = RMSNorm(config.head_dim) if design.qk_norm else None
        self.key_norm = RMSNorm(config.head_dim) if design.qk_norm else None

    def forward(
        self, x: Float[Tensor, "batch positions dim"], rotary: Rotary | None
    ) -> Float[Tensor, "batch positions dim"]:
        return self.merge(self.attend(*self.project(x, rotary)))

    def project(self, x: Float[Tensor, "batch positions dim"], rotary: Rotary | None) -> tuple[Heads, Heads, Heads]:
        """Return queries, keys and values of each head, normalised and rotated as the design says.

        Args:
            x: Normalised states.
            rotary: Cosine and sine of the positions' angles; None where the design has none.
        """
        # Views by hand: a decoding step is so short that einops' parsing would show in it.
        batch, positions, _ = x.shape
        qkv = self.qkv(x)
        if self.query_norm is not None and self.key_norm is not None and rotary is not None and suits_blocks(qkv):
            gains = torch.stack([self.query_norm.weight, self.key_norm.weight])
            return narrow_heads(qkv, gains, torch.complex(*rotary))
        heads = qkv.view(batch, positions, 3 * self.num_heads, -1).transpose(1, 2)
        queries, keys, values = heads.chunk(3, dim=1)
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        if rotary is not None:
            queries, keys = rotate(queries, *rotary), rotate(keys, *rotary)
        # Norms and rotations are float32 under autocast; attention has the type of the products.
        return queries.to(values.dtype), keys.to(values.dtype), values

    def merge(self, heads: Heads) -> Float[Tensor, "batch positions dim"]:
        """Join the heads and project them into the residual stream."""
        batch, _, positions, _ = heads.shape
        return self.out(heads.transpose(1, 2).reshape(batch, positions, -1))  # type: ignore[no-any-return]
