"""Attention of decoding, over a KV cache: the caption and the picture separately, joined by their log-sum-exps.

A row's result must not depend on the other rows, so that a seed's picture is the same in any batch. Queries to a
caption therefore go in groups of a fixed size. A query to the picture goes alone, over a window whose length depends on
its own position only.
"""

from functools import cached_property
from itertools import groupby

import torch
import torch.nn.functional as F
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


class CaptionGroups:
    """Queries of some rows to their captions, in groups of `GROUP` rows of one caption each.

    Args:
        captions: Of each row; rows of one caption lie together.
    """

    def __init__(self, captions: tuple[int, ...], device: torch.device) -> None:
        runs = [(caption, len(list(members))) for caption, members in groupby(captions)]
        self._sizes = [size for _, size in runs]
        self._groups = [caption for caption, size in runs for _ in range(-(-size // GROUP))]
        first = self._groups[0]
        in_order = self._groups == list(range(first, first + len(self._groups)))
        # In order, the groups' keys are a view of the cache; a single caption's are one, repeated.
        self._slice = slice(first, first + len(self._groups)) if in_order else None
        self._index = torch.tensor(self._groups, device=device)

    def attend(
        self,
        queries: Float[Tensor, "rows heads head_dim"],
        keys: Float[Tensor, "heads captions text_len head_dim"],
        values: Float[Tensor, "heads captions text_len head_dim"],
    ) -> tuple[Float[Tensor, "rows heads head_dim"], Float[Tensor, "rows heads"]]:
        """Return the attention of each row to its caption, and the log-sum-exps."""
        grouped = self._padded(queries).view(-1, GROUP, *queries.shape[1:]).transpose(1, 2)
        own_keys, own_values = (self._of_groups(tensor).transpose(0, 1) for tensor in (keys, values))
        seen, lse = attention_with_lse(grouped, own_keys, own_values, None)
        return self._unpadded(seen), self._unpadded(lse)

    def _of_groups(self, tensor: Tensor) -> Float[Tensor, "heads groups text_len head_dim"]:
        if self._slice is not None:
            return tensor[:, self._slice]
        if len(self._sizes) == 1:
            return tensor[:, self._groups[0], None].expand(-1, len(self._groups), -1, -1)
        return tensor.index_select(1, self._index)

    def _padded(self, rows: Float[Tensor, "rows heads head_dim"]) -> Float[Tensor, "padded heads head_dim"]:
        if not any(size % GROUP for size in self._sizes):
            return rows
        runs = torch.split(rows, self._sizes) if len(self._sizes) > 1 else [rows]
        padded = [F.pad(run, (0, 0, 0, 0, 0, -len(run) % GROUP)) for run in runs]
        return padded[0] if len(padded) == 1 else torch.cat(padded)

    def _unpadded(self, grouped: Float[Tensor, "groups heads queries *rest"]) -> Float[Tensor, "rows heads *rest"]:
        rows = grouped.transpose(1, 2).flatten(0, 1)
        if len(self._sizes) == 1:
            return rows[: self._sizes[0]]
        padded = torch.split(rows, [-(-size // GROUP) * GROUP for size in self._sizes])
        return torch.cat([run[:size] for run, size in zip(padded, self._sizes, strict=True)])


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
