"""Sparse attention on a CPU: the text, and for each block of the picture its window, by torch's flash attention."""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from trencadis.stream import Stream
from trencadis.transformer.masks import ImageBlocks


def block_sparse_attention(
    queries: Float[Tensor, "batch heads stream_len head_dim"],
    keys: Float[Tensor, "batch heads stream_len head_dim"],
    values: Float[Tensor, "batch heads stream_len head_dim"],
    stream: Stream,
    blocks: ImageBlocks,
) -> Float[Tensor, "batch heads stream_len head_dim"]:
    """Attend to the text and to a window of the picture separately, and join the two by their log-sum-exps."""
    text_len = stream.text_len
    of_text = F.scaled_dot_product_attention(
        queries[:, :, :text_len], keys[:, :, :text_len], values[:, :, :text_len], is_causal=True
    )
    of_image = _BlockAttention.apply(queries, keys, values, stream, blocks)  # type: ignore[no-untyped-call]
    return torch.cat([of_text, of_image], dim=2)


class _BlockAttention(torch.autograd.Function):
    """Attention of the image positions: to all of the text, and to a window of the picture.

    The backward pass of each part gets the joint log-sum-exps, so that it returns the gradient of the whole softmax for
    its own keys. Source: Liu et al. 2023, "Ring attention", for the joining.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, stream: Stream, blocks: ImageBlocks) -> Tensor:
        text_len = stream.text_len
        parts = _Parts(stream, blocks, queries.shape[0])
        bias = torch.zeros(blocks.mask.shape, dtype=queries.dtype).masked_fill_(~blocks.mask, -torch.inf)[None]
        image = [parts.blocked(tensor[:, :, text_len:]) for tensor in (queries, keys, values)]
        windows = [parts.windows(tensor) for tensor in image[1:]]
        text_keys, text_values = (tensor[:, :, :text_len] for tensor in (keys, values))
        seen_text, text_lse = _flash(queries[:, :, text_len:], text_keys, text_values)
        seen_image, image_lse = _flash(image[0], windows[0], windows[1], bias)
        seen_image, image_lse = parts.unblocked(seen_image), parts.unblocked(image_lse[..., None])[..., 0]
        text_lse = text_lse.to(image_lse.dtype)
        lse = torch.logaddexp(text_lse, image_lse)
        seen = seen_text * (text_lse - lse).exp().to(seen_text.dtype)[..., None]
        seen.addcmul_(seen_image, (image_lse - lse).exp().to(seen.dtype)[..., None])
        ctx.parts, ctx.text_len = parts, text_len
        ctx.save_for_backward(queries, keys, values, seen, lse, bias)
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, seen, lse, bias = ctx.saved_tensors
        parts, text_len = ctx.parts, ctx.text_len
        of_queries, of_keys, of_values = (torch.zeros_like(tensor) for tensor in (queries, keys, values))
        grad = grad.contiguous()
        text_keys, text_values = (tensor[:, :, :text_len] for tensor in (keys, values))
        of_text = _flash_backward(grad, queries[:, :, text_len:], text_keys, text_values, seen, lse)
        image = [parts.blocked(tensor[:, :, text_len:]) for tensor in (queries, keys, values)]
        windows = [parts.windows(tensor) for tensor in image[1:]]
        image_grad, image_seen, image_lse = (parts.blocked(tensor) for tensor in (grad, seen, lse[..., None]))
        of_image = _flash_backward(image_grad, image[0], windows[0], windows[1], image_seen, image_lse[..., 0], bias)
        torch.add(of_text[0], parts.unblocked(of_image[0]), out=of_queries[:, :, text_len:])
        for whole, text_part, image_part in zip((of_keys, of_values), of_text[1:], of_image[1:], strict=True):
            whole[:, :, :text_len] = text_part
            whole[:, :, text_len:] = parts.unblocked(parts.folded(image_part))
        return of_queries, of_keys, of_values, None, None


class _Parts:
    """Converts image positions between raster order and blocks."""

    def __init__(self, stream: Stream, blocks: ImageBlocks, batch: int) -> None:
        self.rows, self.columns = stream.grid_size
        self.by_column, self.reach, self.batch = blocks.by_column, blocks.reach, batch

    def blocked(self, x: Float[Tensor, "batch heads image_len dim"]) -> Float[Tensor, "both blocks block_len dim"]:
        """Cut raster positions into blocks; batch and heads become one."""
        way = "b h (r c) d -> (b h) c r d" if self.by_column else "b h (r c) d -> (b h) r c d"
        return rearrange(x, way, r=self.rows).contiguous()

    def unblocked(self, x: Float[Tensor, "both blocks block_len dim"]) -> Float[Tensor, "batch heads image_len dim"]:
        """Undo `blocked`."""
        way = "(b h) c r d -> b h (r c) d" if self.by_column else "(b h) r c d -> b h (r c) d"
        return rearrange(x, way, b=self.batch)

    def windows(self, x: Float[Tensor, "both blocks block_len dim"]) -> Float[Tensor, "both blocks window dim"]:
        """Return each block with the `reach` before it, as a view of the padded blocks."""
        if not self.reach:
            return x
        both, blocks, block_len, dim = x.shape
        padded = F.pad(x, (0, 0, 0, 0, self.reach, 0))
        per_block, per_both = block_len * dim, (blocks + self.reach) * block_len * dim
        shape = (both, blocks, (self.reach + 1) * block_len, dim)
        return padded.as_strided(shape, (per_both, per_block, dim, 1))

    def folded(self, x: Float[Tensor, "both blocks window dim"]) -> Float[Tensor, "both blocks block_len dim"]:
        """Sum what the windows hold of each block: the gradient of `windows`."""
        if not self.reach:
            return x
        both, blocks, window, dim = x.shape
        block_len = window // (self.reach + 1)
        whole = x.new_zeros(both, blocks + self.reach, block_len, dim)
        for back in range(self.reach + 1):
            whole[:, back : back + blocks] += x[:, :, back * block_len : (back + 1) * block_len]
        return whole[:, self.reach :]


def _flash(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return torch's flash attention on a CPU, and each query's log-sum-exp."""
    seen, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(queries, keys, values, attn_mask=bias)
    return seen, lse


def _flash_backward(
    grad: Tensor,
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    seen: Tensor,
    lse: Tensor,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad, queries, keys, values, seen, lse, 0.0, False, attn_mask=bias
    )
    return gradients
