"""The decoder-only transformer over the stream of caption and picture."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from trencadis.config import TransformerConfig
from trencadis.parts import register
from trencadis.pretrained import Pretrained
from trencadis.stream import Stream
from trencadis.transformer.attention import Attention, PatternAttention
from trencadis.transformer.cross_entropy import cross_entropy_sum
from trencadis.transformer.layers import MLP, Linear, RMSNorm
from trencadis.transformer.masks import layer_patterns
from trencadis.transformer.rotary import Rotary, rotary_angles

INIT_STD = 0.02


class Logits(NamedTuple):
    """What the two heads predict: text tokens 1 … text_len-1, and every image token."""

    text: Float[Tensor, "batch text_len-1 text_id_count"]
    image: Float[Tensor, "batch image_len image_vocab_size"]


class Losses(NamedTuple):
    """Cross-entropies in nats, each a sum over the tokens that are counted. Divide by the counts of a whole update."""

    text: Float[Tensor, ""]
    text_count: int
    image: Float[Tensor, ""]
    image_count: int


class Block(nn.Module):
    """One residual layer: attention, then the MLP, each on normalised input."""

    def __init__(self, config: TransformerConfig, attend: PatternAttention) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config, attend)
        self.mlp_norm = make_norm(config)
        self.mlp = MLP(
            config.dim, config.mlp_dim or 4 * config.dim, config.design.activation, bias=config.design.biases
        )

    def forward(
        self, x: Float[Tensor, "batch positions dim"], rotary: Rotary | None
    ) -> Float[Tensor, "batch positions dim"]:
        x = x + self.attention(self.attention_norm(x), rotary)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


def make_norm(config: TransformerConfig) -> nn.Module:
    """Return the design's norm of the residual stream."""
    return RMSNorm(config.dim) if config.design.norm == "rms" else nn.LayerNorm(config.dim)


@register("transformer")
class Transformer(nn.Module, Pretrained):
    """DALL·E's transformer, in the paper's design or a modern one. Source: Ramesh et al. 2021, section 2.2, appendix B.

    `logits` and `losses` take whole streams. Image tokens are drawn one after another through a `KVDecoder`.

    Attributes:
        checkpointed_blocks: So many blocks, evenly spread, store nothing for the backward pass and are computed twice.
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
        if config.design.positions == "learned":
            self.text_positions = nn.Embedding(stream.text_len, config.dim)
            self.row_positions = nn.Embedding(stream.grid_size[0], config.dim)
            self.column_positions = nn.Embedding(stream.grid_size[1], config.dim)
        self.patterns = layer_patterns(config)
        attend = {p: PatternAttention(p, stream, kernel_size=config.kernel_size) for p in set(self.patterns)}
        self.blocks = nn.ModuleList(Block(config, attend[pattern]) for pattern in self.patterns)
        self.norm = make_norm(config)
        self.text_head = Linear(config.dim, stream.text_id_count, bias=config.design.biases)
        self.image_head = Linear(config.dim, stream.image_vocab_size, bias=config.design.biases)
        angles = rotary_angles(stream, config.head_dim)
        buffers = {"rows": stream.rows(), "columns": stream.columns(), "cosine": angles.cos(), "sine": angles.sin()}
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)
        self.checkpointed_blocks = 0
        self._initialise()

    def logits(
        self, text_tokens: Int[Tensor, "batch text_len"], image_tokens: Int[Tensor, "batch rows columns"]
    ) -> Logits:
        """Return the logits of every text token but the first, and of every image token.

        Args:
            text_tokens: Padded as `Stream.pad_captions` does.
            image_tokens: The picture's grid.
        """
        before_text, before_image = self._hidden_states(text_tokens, image_tokens)
        return Logits(self.text_head(before_text), self.image_head(before_image))

    def image_logits(
        self, text_tokens: Int[Tensor, "batch text_len"], image_tokens: Int[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch image_len image_vocab_size"]:
        """Return those of `logits` that predict image tokens."""
        return self.image_head(self._hidden_states(text_tokens, image_tokens)[1])  # type: ignore[no-any-return]

    def losses(
        self,
        text_tokens: Int[Tensor, "batch text_len"],
        image_tokens: Int[Tensor, "batch rows columns"],
        *,
        image_inputs: Int[Tensor, "batch rows columns"] | None = None,
        samples: int | None = None,
    ) -> Losses:
        """Return the cross-entropies of `logits` as sums; the logits of a large batch are never held at once.

        Text counts up to the padding id that ends a caption; a batch of empty captions has none.

        Args:
            text_tokens: Padded as `Stream.pad_captions` does.
            image_tokens: The picture's grid.
            image_inputs: What the model is shown in its place; the grid is predicted all the same.
            samples: Only the first ones of the batch count, so many; the others keep its shape.
        """
        shown = image_tokens if image_inputs is None else image_inputs
        before_text, before_image = (states[:samples] for states in self._hidden_states(text_tokens, shown))
        text_tokens, image_tokens = text_tokens[:samples], image_tokens[:samples]
        counted = self.stream.text_targets(text_tokens)
        text_targets, image_targets = text_tokens[:, 1:][counted], image_tokens.flatten()
        ids, codes = self.stream.text_id_count, self.stream.image_vocab_size
        text = cross_entropy_sum(self.text_head, before_text[counted], text_targets, ids)
        image = cross_entropy_sum(self.image_head, before_image.flatten(0, 1), image_targets, codes)
        return Losses(text, len(text_targets), image, len(image_targets))

    def _hidden_states(self, text_tokens: Tensor, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last states of the positions before text tokens 1 … text_len-1, and before each image token."""
        raster = image_tokens.flatten(1)
        x = torch.cat([self.embed_text(text_tokens), self.embed_image(raster, slice(None))], dim=1)
        for layer, block in enumerate(self.blocks):
            if self._is_checkpointed(layer):
                x = checkpoint(block, x, self.rotary(slice(None)), use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, self.rotary(slice(None)))
        x = self.norm(x)
        return x[:, : self.stream.text_len - 1], x[:, self.stream.text_len - 1 : -1]

    def embed_text(self, text_tokens: Int[Tensor, "batch text_len"]) -> Float[Tensor, "batch text_len dim"]:
        """Return the residual stream's first states at the text positions."""
        x: Tensor = self.text_embedding(text_tokens)
        return x + self.text_positions.weight if self.config.design.positions == "learned" else x

    def embed_image(
        self, image_tokens: Int[Tensor, "batch new"], index: Int[Tensor, "*#batch new"] | slice
    ) -> Float[Tensor, "batch new dim"]:
        """Return the residual stream's first states at image positions.

        Args:
            image_tokens: The tokens there.
            index: Their raster indices.
        """
        x: Tensor = self.image_embedding(image_tokens)
        if self.config.design.positions != "learned":
            return x
        positions: Tensor = self.row_positions(self.rows[index]) + self.column_positions(self.columns[index])
        return x + positions

    def rotary(self, positions: Int[Tensor, "*positions"] | slice) -> Rotary | None:
        """Return cosine and sine of stream positions' angles, where the design has rotary positions."""
        if self.config.design.positions == "learned":
            return None
        return self.cosine[positions], self.sine[positions]

    def hidden_matrices(self) -> list[tuple[Tensor, tuple[int, ...]]]:
        """Return the weights that Muon trains, every linear layer's in the blocks, and the rows of each one's parts."""
        thirds = {id(module.qkv): 3 for module in self.blocks.modules() if isinstance(module, Attention)}
        layers = [layer for layer in self.blocks.modules() if isinstance(layer, nn.Linear)]
        return [(x.weight, (x.out_features // thirds.get(id(x), 1),) * thirds.get(id(x), 1)) for x in layers]

    def _is_checkpointed(self, layer: int) -> bool:
        before, after = (self.checkpointed_blocks * count // len(self.blocks) for count in (layer, layer + 1))
        return after > before and torch.is_grad_enabled()

    def _initialise(self) -> None:
        """Draw small weights; those that write into the residual stream are smaller, for their sum to stay near 1.

        Where the design says so, these and the heads are zero instead.
        """
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
            if isinstance(module, nn.Linear) and module.bias is not None:
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
