"""Which positions a layer sees: the paper's row, column and convolutional patterns, each defined once.

Text sees text causally, and every image token sees every text position, in every layer; the patterns differ in which
earlier image tokens an image token sees. Source: Ramesh et al. 2021, appendix B.1 and figure 11.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from trencadis.config import TransformerConfig
from trencadis.stream import Stream

Pattern = Literal["full", "row", "column", "convolutional"]


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
    query: Int[Tensor, "#queries #keys"],
    key: Int[Tensor, "#queries #keys"],
    *,
    columns: int,
    kernel_size: int,
) -> Bool[Tensor, "queries keys"]:
    """Return whether the image token at raster index `query` sees the one at `key`.

    Row and convolutional neighbourhoods are distances in raster order, so they wrap into the neighbouring row.

    Args:
        pattern: *row*: the previous `columns` tokens and itself. *column*: those above it and itself.
            *convolutional*: a square of `kernel_size` around it. *full*: all before it and itself.
        query: Raster indices.
        key: Raster indices.
        columns: Width of the grid.
        kernel_size: Side of the convolutional neighbourhood, odd.
    """
    distance = query - key
    causal = distance >= 0
    if pattern == "row":
        return causal & (distance <= columns)
    if pattern == "column":
        return causal & (distance % columns == 0)
    if pattern == "convolutional":
        half = kernel_size // 2
        above = torch.arange(half + 1, device=distance.device)[:, None] * columns
        offsets = (above + torch.arange(-half, half + 1, device=distance.device)).flatten()
        return causal & torch.isin(distance, offsets)
    return causal


def visibility(pattern: Pattern, stream: Stream, *, kernel_size: int) -> Bool[Tensor, "stream_len stream_len"]:
    """Return the dense mask of a layer: row q is what position q sees."""
    mask = torch.ones(stream.stream_len, stream.stream_len, dtype=torch.bool).tril()
    index = torch.arange(stream.image_len)
    mask[stream.text_len :, stream.text_len :] = image_visibility(
        pattern, index[:, None], index[None, :], columns=stream.grid_size[1], kernel_size=kernel_size
    )
    return mask
