"""Sparse attention on CUDA by FlexAttention, which generates a kernel that skips what a mask rules out."""

from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from trencadis.stream import Stream
from trencadis.transformer.masks import Pattern, block_mask


class FlexAttention:
    """Compiled FlexAttention of one pattern.

    Args:
        backend: Of `torch.compile`; tests count graphs with another.
    """

    def __init__(self, pattern: Pattern, stream: Stream, *, kernel_size: int, backend: str | Any = "inductor") -> None:
        self._pattern, self._stream, self._kernel_size, self._backend = pattern, stream, kernel_size, backend
        self._mask: BlockMask | None = None

    @cached_property
    def _compiled(self) -> Any:
        """One compiled function a pattern, and one graph for all batch sizes: dynamo gives up after 8 graphs."""
        return torch.compile(flex_attention, backend=self._backend, dynamic=True)

    def __call__(
        self,
        queries: Float[Tensor, "batch heads stream_len head_dim"],
        keys: Float[Tensor, "batch heads stream_len head_dim"],
        values: Float[Tensor, "batch heads stream_len head_dim"],
    ) -> Float[Tensor, "batch heads stream_len head_dim"]:
        if self._mask is None:
            self._mask = block_mask(self._pattern, self._stream, kernel_size=self._kernel_size, device=queries.device)
        return self._compiled(queries, keys, values, block_mask=self._mask)  # type: ignore[no-any-return]
