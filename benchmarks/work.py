"""The operations of a drawing and of an update, counted from the model and not measured.

Conventions. A multiplication and an addition are two operations. Only matrix products and attention count. Attention
counts only the visible pairs of positions of a layer's mask, so causal attention counts about half of the full form,
whatever the code computes. A backward pass counts as two forward passes. The caption, which all candidates of a drawing
share, counts once.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn

from trencadis.config import TransformerConfig
from trencadis.stream import Stream
from trencadis.transformer import Transformer, image_visibility, layer_patterns

QUERIES_AT_ONCE = 64
FLOAT32_BYTES = 4


Shape = tuple[int, int]


class Matrices(NamedTuple):
    """Shapes (rows, columns) of a transformer's matrices, in order of use."""

    blocks: list[Shape]
    image_head: Shape
    text_head: Shape

    @property
    def of_decoding(self) -> list[Shape]:
        """The matrices that a decoding step reads; drawing does not use the text head."""
        return [*self.blocks, self.image_head]


def matrices_of(config: TransformerConfig) -> Matrices:
    """Return the matrices of the transformer of these sizes."""
    stream = Stream.of(config)
    with torch.device("meta"):  # tensors without data: nothing is allocated
        block = Transformer(replace(config, num_layers=1)).blocks[0]
    shapes = [(layer.out_features, layer.in_features) for layer in block.modules() if isinstance(layer, nn.Linear)]
    heads = (stream.image_vocab_size, config.dim), (stream.text_id_count, config.dim)
    return Matrices(shapes * config.num_layers, *heads)


def weights_in(shapes: Iterable[Shape]) -> int:
    """Return the number of weights in matrices of these shapes."""
    return sum(rows * columns for rows, columns in shapes)


def visible_positions(config: TransformerConfig) -> Int[Tensor, "layers stream_len"]:
    """Return how many positions each position sees in each layer, including itself, from the masks' definition."""
    stream = Stream.of(config)
    text = torch.arange(1, stream.text_len + 1)
    counts: dict[str, Tensor] = {}
    for pattern in layer_patterns(config):
        if pattern not in counts:
            image = [
                image_visibility(
                    pattern,
                    queries[:, None],
                    torch.arange(int(queries[-1]) + 1)[None, :],
                    columns=stream.grid_size[1],
                    kernel_size=config.kernel_size,
                ).sum(1)
                for queries in torch.split(torch.arange(stream.image_len), QUERIES_AT_ONCE)
            ]
            counts[pattern] = torch.cat([text, stream.text_len + torch.cat(image)])
    return torch.stack([counts[pattern] for pattern in layer_patterns(config)])


def attended_bytes(config: TransformerConfig) -> Int[Tensor, " image_len"]:
    """Return the bytes of float32 keys and values that the pass of an image token must read, over all layers."""
    visible = visible_positions(config)[:, config.text_len :].sum(0)
    return visible * _bytes_of_a_position(config)


def _bytes_of_a_position(config: TransformerConfig) -> int:
    """Return the bytes of a position's key and value in one layer."""
    return 2 * config.dim * FLOAT32_BYTES


def attended_image_bytes(config: TransformerConfig) -> Int[Tensor, " image_len"]:
    """Return `attended_bytes` without the text positions, whose number does not depend on the picture."""
    return attended_bytes(config) - config.num_layers * config.text_len * _bytes_of_a_position(config)


def drawing_flops(config: TransformerConfig, candidates: int, *, guided: bool) -> float:
    """Return the operations of drawing `candidates` pictures of one caption.

    Args:
        config: Sizes.
        candidates: Pictures.
        guided: Each picture has a second stream, with the empty caption.
    """
    matrices, visible = matrices_of(config), visible_positions(config).sum(0)
    halves = 2 if guided else 1
    in_blocks, in_head = weights_in(matrices.blocks), weights_in([matrices.image_head])
    image_len = visible.shape[0] - config.text_len
    # The last image token is drawn and never read.
    text_visible, image_visible = int(visible[: config.text_len].sum()), int(visible[config.text_len : -1].sum())
    text = 2 * in_blocks * config.text_len + 2 * in_head + 4 * config.dim * text_visible
    image = 2 * (in_blocks + in_head) * (image_len - 1) + 4 * config.dim * image_visible
    return float(halves * (text + candidates * image))


def training_flops(config: TransformerConfig, batch_size: int) -> float:
    """Return the operations of one update on `batch_size` pairs: forward and backward."""
    matrices, visible = matrices_of(config), visible_positions(config)
    text_len, stream_len = config.text_len, visible.shape[1]
    # The last text position predicts the first image token, and the last image position predicts nothing.
    products = 2 * weights_in(matrices.blocks) * stream_len
    products += 2 * weights_in([matrices.text_head]) * (text_len - 1)
    products += 2 * weights_in([matrices.image_head]) * (stream_len - text_len)
    return 3.0 * batch_size * (products + 4 * config.dim * int(visible.sum()))
