"""Which positions a layer sees: the paper's row, column and convolutional patterns, each defined once.

Text sees text causally, and every image token sees every text position, in every layer; the patterns differ in which
earlier image tokens an image token sees, and `image_visibility` is the one place that says so. Every other form follows
from it: the dense mask, the blocks that training computes, FlexAttention's block mask, and what a decoding step reads.

Source: Ramesh et al. 2021, appendix B.1 and figure 11.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from trencadis.config import TransformerConfig
from trencadis.stream import Stream

Pattern = Literal["full", "row", "column", "convolutional"]

ROWS_AT_ONCE = 256


def layer_patterns(config: TransformerConfig) -> tuple[Pattern, ...]:
    """Return the pattern of each layer.

    Layer i, counted from 1, is a column layer where (i - 2) mod 4 = 0 and a row layer elsewhere; the last one is
    convolutional.
    """
    if config.attention == "full":
        return tuple("full" for _ in range(config.num_layers))
    inner: list[Pattern] = ["column" if (i - 2) % 4 == 0 else "row" for i in range(1, config.num_layers)]
    return (*inner, "convolutional")


def image_visibility(
    pattern: Pattern,
    query: Int[Tensor, "*#queries"],
    key: Int[Tensor, "*#keys"],
    *,
    columns: int,
    kernel_size: int,
) -> Bool[Tensor, "*both"]:
    """Return whether the image token at raster index `query` sees the one at `key`.

    Row and convolutional neighbourhoods are distances in raster order, so they wrap into the neighbouring row.

    Args:
        pattern: *row*: the previous `columns` tokens and itself. *column*: those above it and itself.
            *convolutional*: a square of `kernel_size` around it. *full*: all before it and itself.
    """
    distance = query - key
    causal = distance >= 0
    if pattern == "row":
        return causal & (distance <= columns)
    if pattern == "column":
        return causal & (distance % columns == 0)
    if pattern == "convolutional":
        # A distance is `above` whole rows and a step to the side, which is at most half a kernel either way.
        half = kernel_size // 2
        above = (distance + half) // columns
        to_the_side = (distance - above * columns).abs() <= half
        if columns >= kernel_size:
            return causal & to_the_side & (above <= half)
        return causal & _any_offset(distance, columns, half)
    return causal


def _any_offset(distance: Int[Tensor, "*both"], columns: int, half: int) -> Bool[Tensor, "*both"]:
    """Return which distances are within a kernel wider than the grid, where several rows' sides overlap."""
    seen = torch.zeros_like(distance, dtype=torch.bool)
    for above in range(half + 1):
        seen = seen | ((distance - above * columns).abs() <= half)
    return seen


def stream_visibility(
    pattern: Pattern,
    stream: Stream,
    query: Int[Tensor, "*#queries"],
    key: Int[Tensor, "*#keys"],
    *,
    kernel_size: int,
) -> Bool[Tensor, "*both"]:
    """Return whether the stream's position `query` sees position `key`; shapes broadcast."""
    text_len = stream.text_len
    in_image = image_visibility(
        pattern, query - text_len, key - text_len, columns=stream.grid_size[1], kernel_size=kernel_size
    )
    return torch.where((query >= text_len) & (key >= text_len), in_image, query >= key)


def visibility(pattern: Pattern, stream: Stream, *, kernel_size: int) -> Bool[Tensor, "stream_len stream_len"]:
    """Return the dense mask of a layer: row q is what position q sees."""
    mask = torch.ones(stream.stream_len, stream.stream_len, dtype=torch.bool).tril()
    mask[stream.text_len :, stream.text_len :] = image_to_image(pattern, stream, kernel_size=kernel_size)
    return mask


def image_to_image(pattern: Pattern, stream: Stream, *, kernel_size: int) -> Bool[Tensor, "image_len image_len"]:
    """Return the part of the dense mask that differs between patterns."""
    index = torch.arange(stream.image_len)
    some_rows = [
        image_visibility(pattern, queries[:, None], index, columns=stream.grid_size[1], kernel_size=kernel_size)
        for queries in torch.split(index, ROWS_AT_ONCE)  # the distances take eight times the memory of the mask
    ]
    return torch.cat(some_rows)


def block_mask(pattern: Pattern, stream: Stream, *, kernel_size: int, device: torch.device) -> BlockMask:
    """Return FlexAttention's form of the dense mask."""

    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return stream_visibility(pattern, stream, query, key, kernel_size=kernel_size)

    length = stream.stream_len
    return create_block_mask(visible, B=None, H=None, Q_LEN=length, KV_LEN=length, device=device)


@dataclass(frozen=True)
class ImageBlocks:
    """A pattern cut into rows of the grid, or columns where that is sparser: what block-sparse training computes.

    Each block of queries sees keys of its own block and of the `reach` blocks before it.

    Args:
        by_column: Blocks are columns, top to bottom, instead of rows.
        reach: How many earlier blocks a block sees into.
        mask: Which keys a query sees, of its window of `reach + 1` blocks; what lies before the picture is unseen.
    """

    by_column: bool
    reach: int
    mask: Bool[Tensor, "blocks block_len window"]

    @classmethod
    def of(cls, pattern: Pattern, stream: Stream, *, kernel_size: int) -> "ImageBlocks":
        """Cut a pattern the way whose windows are shorter."""
        rows = stream.grid_size[0]
        dense = image_to_image(pattern, stream, kernel_size=kernel_size)
        by_row = rearrange(dense, "(r c) (s d) -> r c s d", r=rows, s=rows)
        by_column = rearrange(dense, "(r c) (s d) -> c r d s", r=rows, s=rows)
        ways = [(_reach(by_row), False, by_row), (_reach(by_column), True, by_column)]
        reach, transposed, blocks = min(ways, key=lambda way: (way[0] + 1) * way[2].shape[1])
        return cls(transposed, reach, _windows(blocks, reach))


def _reach(blocks: Bool[Tensor, "blocks block_len blocks block_len"]) -> int:
    """Return how many blocks back a query sees at most."""
    seen = blocks.any(3).any(1).nonzero()
    return int((seen[:, 0] - seen[:, 1]).max())


def _windows(
    blocks: Bool[Tensor, "blocks block_len blocks block_len"], reach: int
) -> Bool[Tensor, "blocks block_len window"]:
    """Return each block's mask over its own window."""
    count, block_len = blocks.shape[:2]
    padded = torch.zeros(count, block_len, count + reach, block_len, dtype=torch.bool)
    padded[:, :, reach:] = blocks
    return torch.stack([padded[i, :, i : i + reach + 1].flatten(1) for i in range(count)])
