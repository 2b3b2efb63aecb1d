"""Attention of decoding, over a KV cache: the caption and the picture separately, joined by their log-sum-exps.

A row's result must not depend on the other rows, so that a seed's picture is the same in any batch. Queries to a
caption therefore go in groups of a fixed size. A query to the picture goes alone, over a window whose length depends on
its own position only.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trencadis.stream import Stream
from trencadis.transformer.masks import ImageBlocks, Pattern, image_to_image

GROUP = 8
"""Queries to a caption that are computed together; fewer are padded."""


class Windows:
    """Which part of the cache each image position reads in a layer of one pattern, from the masks' one definition.

    Positions are cached column by column where that makes windows shorter. A window is a slice from the first position
    that is seen to the last. Only the convolutional pattern sees with gaps, which a bias rules out.

    Attributes:
        places: Where each raster index is cached.
        slices: The slice that each raster index reads.
        biases: 0 where the position sees, −∞ elsewhere; None where it sees the whole slice.
    """

    def __init__(self, pattern: Pattern, stream: Stream, *, kernel_size: int, device: torch.device) -> None:
        rows, columns = stream.grid_size
        raster = torch.arange(stream.image_len)
        by_column = ImageBlocks.of(pattern, stream, kernel_size=kernel_size).by_column
        places = raster % columns * rows + raster // columns if by_column else raster
        seen = image_to_image(pattern, stream, kernel_size=kernel_size)
        visible = torch.zeros_like(seen)
        visible[:, places] = seen
        self.visible: Bool[Tensor, "image_len image_len"] = visible.to(device)
        self.place_table: Int[Tensor, " image_len"] = places.to(device)
        self.places: list[int] = places.tolist()
        firsts, ends = visible.int().argmax(1), stream.image_len - visible.flip(1).int().argmax(1)
        self.slices = [slice(first, end) for first, end in zip(firsts.tolist(), ends.tolist(), strict=True)]

    @cached_property
    def biases(self) -> list[Float[Tensor, "1 1 1 window"] | None]:
        bias = torch.zeros(self.visible.shape).masked_fill_(~self.visible.cpu(), -torch.inf)
        own = (row[None, None, None, window] for row, window in zip(bias, self.slices, strict=True))
        return [row.to(self.visible.device) if row.any() else None for row in own]


def attention_with_lse(
    queries: Float[Tensor, "batch heads queries head_dim"],
    keys: Float[Tensor, "batch heads keys head_dim"],
    values: Float[Tensor, "batch heads keys head_dim"],
    bias: Float[Tensor, "1 1 1 keys"] | None,
) -> tuple[Float[Tensor, "batch heads queries head_dim"], Float[Tensor, "batch heads queries"]]:
    """Return attention and each query's log-sum-exp, by which it is joined with attention to other keys."""
    if has_flash_attention(queries):
        seen, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(queries, keys, values, attn_mask=bias)
        return seen, lse
    scores = (queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5).float()
    if bias is not None:
        scores = scores + bias
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(values.dtype) @ values, lse


def has_flash_attention(x: Tensor) -> bool:
    """Return whether torch has attention for this device that gives the log-sum-exps too, under any mask."""
    return x.device.type == "cpu"


def join(
    first: Float[Tensor, "*rows head_dim"],
    first_lse: Float[Tensor, "*rows"],
    second: Float[Tensor, "*rows head_dim"],
    second_lse: Float[Tensor, "*rows"],
) -> Float[Tensor, "*rows head_dim"]:
    """Return attention to two sets of keys from attention to each.

    The weight is written out: `sigmoid` rounds differently at the end of a tensor than elsewhere.
    """
    weight = (first_lse - second_lse).exp_().add_(1).reciprocal_().to(first.dtype)[..., None]
    return torch.lerp(first, second, weight)


def concatenated(found: list[tuple[Tensor, Tensor]], dim: int) -> tuple[Tensor, Tensor]:
    """Return attention and log-sum-exps of the calls that queries were split into along a dimension."""
    if len(found) == 1:
        return found[0]
    return torch.cat([seen for seen, _ in found], dim), torch.cat([lse for _, lse in found], dim)


class CaptionGroups:
    """Queries of some rows to their captions, in groups of `GROUP` rows of one caption each.

    Rows of one caption share groups, in whatever order they come; a group that is not full is padded with a row of its
    own. Captions are read where they are cached, not copied.

    Args:
        captions: Of each row.
    """

    def __init__(self, captions: tuple[int, ...], device: torch.device) -> None:
        rows: dict[int, list[int]] = {}
        for row, caption in enumerate(captions):
            rows.setdefault(caption, []).append(row)
        groups = [caption for caption in sorted(rows) for _ in range(-(-len(rows[caption]) // GROUP))]
        order, places = list[int](), [0] * len(captions)
        for caption in sorted(rows):
            for row in rows[caption]:
                places[row] = len(order)
                order.append(row)
            order += [order[-1]] * (-len(order) % GROUP)
        self._order, self._places = (torch.tensor(index, device=device) for index in (order, places))
        self._parts = list(_parts(groups))
        self._sizes = [size for _, _, size in self._parts]

    def attend(
        self,
        queries: Float[Tensor, "rows heads head_dim"],
        keys: Float[Tensor, "heads captions text_len head_dim"],
        values: Float[Tensor, "heads captions text_len head_dim"],
    ) -> tuple[Float[Tensor, "rows heads head_dim"], Float[Tensor, "rows heads"]]:
        """Return the attention of each row to its caption, and the log-sum-exps."""
        grouped = queries[self._order].view(-1, GROUP, *queries.shape[1:]).transpose(1, 2)
        found = []
        for part, (first, count, size) in zip(torch.split(grouped, self._sizes), self._parts, strict=True):
            own = (tensor[:, first : first + count].transpose(0, 1) for tensor in (keys, values))
            found.append(attention_with_lse(part, *(tensor.expand(size, -1, -1, -1) for tensor in own), None))
        seen, lse = concatenated(found, dim=0)
        return seen.transpose(1, 2).flatten(0, 1)[self._places], lse.transpose(1, 2).flatten(0, 1)[self._places]


def _parts(groups: list[int]) -> Iterator[tuple[int, int, int]]:
    """Yield groups whose keys are a view, of one caption or of neighbours in the cache.

    Each is (first caption, captions, groups).
    """
    start = 0
    while start < len(groups):
        end, step = start + 1, 1
        if end < len(groups):
            step = groups[end] - groups[start]
        while end < len(groups) and step < 2 and groups[end] == groups[end - 1] + step:
            end += 1
        yield groups[start], end - start if step else 1, end - start
        start = end


def masked_cache_attention(
    queries: Float[Tensor, "streams heads head_dim"],
    text: tuple[Tensor, Tensor],
    reads_caption: Bool[Tensor, "streams captions"],
    image: tuple[Tensor, Tensor],
    visible: Bool[Tensor, "streams image_len"],
) -> Float[Tensor, "streams heads head_dim"]:
    """Attend to all captions and to all of the picture's positions under masks: one plain form that compiles.

    Shapes depend on the number of streams only, and nothing of the cache is copied.

    Args:
        text: Keys and values, each "heads captions text_len head_dim".
        reads_caption: Which caption is a stream's own.
        image: Keys and values of the streams, each "streams heads image_len head_dim".
        visible: Cached positions that each stream sees.
    """
    heads, captions, text_len, head_dim = text[0].shape
    scale = head_dim**-0.5
    by_head = queries.transpose(0, 1)
    text_keys, text_values = (tensor.view(heads, captions * text_len, head_dim) for tensor in text)
    text_scores = (by_head @ text_keys.transpose(1, 2)).transpose(0, 1)
    image_scores = (image[0] @ queries[..., None])[..., 0]
    seen = torch.cat([reads_caption.repeat_interleave(text_len, 1), visible], dim=1)[:, None]
    scores = torch.cat([text_scores, image_scores], dim=2).float() * scale
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).to(queries.dtype)
    of_text, of_image = weights.split([captions * text_len, image_scores.shape[2]], dim=2)
    from_text: Tensor = (of_text.transpose(0, 1) @ text_values).transpose(0, 1)
    from_image: Tensor = (of_image[:, :, None] @ image[1])[:, :, 0]
    return torch.add(from_text, from_image)
