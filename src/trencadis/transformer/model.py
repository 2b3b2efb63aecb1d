"""The decoder-only transformer over the stream of caption and picture."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import TransformerConfig
from trencadis.parts import register
from trencadis.pretrained import Pretrained
from trencadis.stream import Stream
from trencadis.transformer.attending import StreamAttention
from trencadis.transformer.attention import Attend, Attention, Turn
from trencadis.transformer.losses import linear_cross_entropy
from trencadis.transformer.masks import layer_patterns
from trencadis.transformer.positions import rotary_angles
from trencadis.transformer.products import MLP, Linear, RMSNorm, checkpoint_block

INIT_STD = 0.02


class Logits(NamedTuple):
    """What the two heads predict: text tokens 1 … text_len-1, and every image token."""

    text: Float[Tensor, "batch text_len-1 text_id_count"]
    image: Float[Tensor, "batch image_len image_vocab_size"]


class Losses(NamedTuple):
    """Cross-entropies in nats, each a sum over the counted tokens of its own kind."""

    text: Float[Tensor, ""]
    text_count: int
    image: Float[Tensor, ""]
    image_count: int


class Block(nn.Module):
    """One residual layer: attention, then the MLP, each on normalised input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        design = config.design
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(config.dim, config.mlp_dim or 4 * config.dim, design.activation, bias=design.biases)

    def forward(
        self, x: Float[Tensor, "batch new dim"], turn: Turn | None, attend: Attend
    ) -> Float[Tensor, "batch new dim"]:
        """Return the residual stream after this layer.

        Args:
            x: The residual stream before it.
            turn: See `Attention.forward`.
            attend: Likewise.
        """
        x = x + self.attention(self.attention_norm(x), turn, attend)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


def make_norm(config: TransformerConfig) -> nn.Module:
    """Return the design's norm of the residual stream."""
    return RMSNorm(config.dim) if config.design.norm == "rms" else nn.LayerNorm(config.dim)


@register("transformer")
class Transformer(nn.Module, Pretrained):
    """DALL·E's transformer, in the paper's design or a modern one. Source: Ramesh et al. 2021, section 2.2, appendix B.

    Called on text and image tokens it returns the logits of both, or the losses when asked. Image tokens are drawn by
    a `Decoder`, which reads them one after another.

    Attributes:
        checkpointed_blocks: So many blocks, evenly spread, keep no inner states in training and are computed twice.
    """

    config_type = TransformerConfig
    rows: Tensor
    columns: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.stream = stream = Stream.of(config)
        self.text_embedding = nn.Embedding(stream.text_id_count, config.dim)
        self.image_embedding = nn.Embedding(stream.image_vocab_size, config.dim)
        if config.design.positions != "rotary":
            self.text_positions = nn.Embedding(stream.text_len, config.dim)
            self.row_positions = nn.Embedding(stream.grid_size[0], config.dim)
            self.column_positions = nn.Embedding(stream.grid_size[1], config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = make_norm(config)
        self.text_head = Linear(config.dim, stream.text_id_count, bias=config.design.biases)
        self.image_head = Linear(config.dim, stream.image_vocab_size, bias=config.design.biases)
        self.patterns = layer_patterns(config)
        self.attend = nn.ModuleDict(
            {
                pattern: StreamAttention(pattern, stream, kernel_size=config.kernel_size)
                for pattern in sorted(set(self.patterns))
            }
        )
        self.register_buffer("rows", stream.rows(), persistent=False)
        self.register_buffer("columns", stream.columns(), persistent=False)
        angles = rotary_angles(stream, config.head_dim)
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        self.checkpointed_blocks = 0
        self._initialise()

    def _initialise(self) -> None:
        """Draw small weights; those that write into the residual stream are smaller, for their sum to stay near 1.

        Where the design says so, these and the heads are zero instead.
        """
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        residual_std = INIT_STD / (2 * self.config.num_layers) ** 0.5
        zero_init = self.config.design.zero_init
        for name, parameter in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.2.weight")):
                nn.init.normal_(parameter, std=residual_std)
                if zero_init:
                    nn.init.zeros_(parameter)
            elif zero_init and name.endswith("_head.weight"):
                nn.init.zeros_(parameter)

    def hidden_matrices(self) -> list[tuple[Tensor, tuple[int, ...]]]:
        """Return the weight of every linear layer in the blocks, and the rows of its parts: queries, keys and values.

        They are what Muon trains.
        """
        attentions = [module for module in self.blocks.modules() if isinstance(module, Attention)]
        parts = {id(attention.qkv): attention.qkv_rows for attention in attentions}
        return [
            (layer.weight, parts.get(id(layer), (layer.out_features,)))
            for layer in self.blocks.modules()
            if isinstance(layer, nn.Linear)
        ]

    def embed_text(self, text_tokens: Int[Tensor, "batch text_len"]) -> Float[Tensor, "batch text_len dim"]:
        """Return the residual stream's first states at the text positions."""
        x: Tensor = self.text_embedding(text_tokens)
        return x if self.config.design.positions == "rotary" else x + self.text_positions.weight

    def embed_image(
        self, image_tokens: Int[Tensor, "batch new"], index: Int[Tensor, "*#batch new"] | slice
    ) -> Float[Tensor, "batch new dim"]:
        """Return the residual stream's first states at image positions.

        Args:
            image_tokens: The tokens there.
            index: Their raster indices.
        """
        x: Tensor = self.image_embedding(image_tokens)
        if self.config.design.positions == "rotary":
            return x
        positions: Tensor = self.row_positions(self.rows[index]) + self.column_positions(self.columns[index])
        return x + positions

    def forward(
        self,
        text_tokens: Int[Tensor, "batch text_len"],
        image_tokens: Int[Tensor, "batch rows columns"],
    ) -> Logits:
        """Return the logits of both kinds."""
        of_text, of_image = self._states(text_tokens, image_tokens)
        return Logits(self.text_head(of_text), self.image_head(of_image))

    def losses(
        self,
        text_tokens: Int[Tensor, "batch text_len"],
        image_tokens: Int[Tensor, "batch rows columns"],
        *,
        samples: int | None = None,
    ) -> Losses:
        """Return the cross-entropies; the logits of both vocabularies are never held.

        Args:
            text_tokens: Padded as `Stream.pad_captions` does.
            image_tokens: The picture's grid.
            samples: Only so many of the batch count, the first ones; the others keep its shape.
        """
        of_text, of_image = (states[:samples] for states in self._states(text_tokens, image_tokens))
        text_tokens, image_tokens = text_tokens[:samples], image_tokens[:samples]
        counted = self.stream.text_targets(text_tokens)
        text, image = (
            linear_cross_entropy(states, head.weight, head.bias, targets, reduction="sum")
            for head, states, targets in zip(
                (self.text_head, self.image_head),
                (of_text[counted], of_image.flatten(0, 1)),
                (text_tokens[:, 1:][counted], image_tokens.flatten()),
                strict=True,
            )
        )
        return Losses(text, int(counted.sum()), image, image_tokens.numel())

    def _states(self, text_tokens: Tensor, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
        raster = image_tokens.flatten(1)
        x = torch.cat([self.embed_text(text_tokens), self.embed_image(raster, slice(None))], dim=1)
        turn = None if self.config.design.positions == "learned" else (self.cosine, self.sine)
        for layer, block in enumerate(self.blocks):
            x = self._run_block(layer, block, x, turn)
        x = self.norm(x)
        return x[:, : self.stream.text_len - 1], x[:, self.stream.text_len - 1 : -1]

    def _run_block(self, layer: int, block: nn.Module, x: Tensor, turn: Turn | None) -> Tensor:
        arguments = x, turn, self.attend[self.patterns[layer]]
        before, after = (self.checkpointed_blocks * count // len(self.blocks) for count in (layer, layer + 1))
        if after > before:
            return checkpoint_block(block, *arguments)  # type: ignore[no-any-return]
        return block(*arguments)  # type: ignore[no-any-return]
