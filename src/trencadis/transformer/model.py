"""The decoder-only transformer over the stream of caption and picture."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import TransformerConfig
from trencadis.errors import ConfigError
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
    """Cross-entropies in nats per token, each a mean over its own kind, and their weighted sum."""

    total: Float[Tensor, ""]
    text: Float[Tensor, ""]
    image: Float[Tensor, ""]


Add = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor]
"""How a residual branch, a function of the stream, is added to the stream."""


def plus(x: Float[Tensor, "*shape"], branch: Callable[[Tensor], Tensor]) -> Float[Tensor, "*shape"]:
    """Add a branch as it is."""
    return x + branch(x)


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
        self, x: Float[Tensor, "batch new dim"], turn: Turn | None, attend: Attend, add: tuple[Add, Add] = (plus, plus)
    ) -> Float[Tensor, "batch new dim"]:
        """Return the residual stream after this layer.

        Args:
            x: The residual stream before it.
            turn: See `Attention.forward`.
            attend: Likewise.
            add: How each of the two branches is added to the stream.
        """
        x = add[0](x, lambda x: self.attention(self.attention_norm(x), turn, attend))
        return add[1](x, lambda x: self.mlp(self.mlp_norm(x)))


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
        add: How branch number i is added to the residual stream, two branches a block. Training in float16 puts its
            gradient scales here.
    """

    config_type = TransformerConfig
    rows: Tensor
    columns: Tensor
    cosine: Tensor
    sine: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        check_config(config)
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
        self.add: Callable[[int, Tensor, Callable[[Tensor], Tensor]], Tensor] | None = None
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

    @overload
    def __call__(self, text_tokens: Tensor, image_tokens: Tensor) -> Logits: ...
    @overload
    def __call__(
        self, text_tokens: Tensor, image_tokens: Tensor, *, return_losses: Literal[True], text_weight: float = 1 / 8
    ) -> Losses: ...
    def __call__(self, *arguments: object, **options: object) -> Logits | Losses:
        """Run the whole stream; see `forward`."""
        return super().__call__(*arguments, **options)  # type: ignore[no-any-return]

    def forward(
        self,
        text_tokens: Int[Tensor, "batch text_len"],
        image_tokens: Int[Tensor, "batch rows columns"],
        *,
        return_losses: bool = False,
        text_weight: float = 1 / 8,
    ) -> Logits | Losses:
        """Run the whole stream.

        Args:
            text_tokens: Padded as `Stream.pad_captions` does.
            image_tokens: The picture's grid.
            return_losses: Return the losses instead of the logits; the logits of both vocabularies are never held.
            text_weight: Share of the text loss in the total; the image loss has the rest.
        """
        raster = image_tokens.flatten(1)
        x = torch.cat([self.embed_text(text_tokens), self.embed_image(raster, slice(None))], dim=1)
        turn = None if self.config.design.positions == "learned" else (self.cosine, self.sine)
        for layer, block in enumerate(self.blocks):
            x = self._run_block(layer, block, x, turn)
        x = self.norm(x)
        of_text, of_image = x[:, : self.stream.text_len - 1], x[:, self.stream.text_len - 1 : -1]
        if return_losses:
            return self._losses(of_text, of_image, text_tokens, raster, text_weight)
        return Logits(self.text_head(of_text), self.image_head(of_image))

    def _run_block(self, layer: int, block: nn.Module, x: Tensor, turn: Turn | None) -> Tensor:
        add = (plus, plus) if self.add is None else (partial(self.add, 2 * layer), partial(self.add, 2 * layer + 1))
        arguments = x, turn, self.attend[self.patterns[layer]], add
        before, after = (self.checkpointed_blocks * count // len(self.blocks) for count in (layer, layer + 1))
        if after > before:
            return checkpoint_block(block, *arguments)  # type: ignore[no-any-return]
        return block(*arguments)  # type: ignore[no-any-return]

    def branches(self) -> list[list[nn.Parameter]]:
        """Return the parameters of each residual branch, in order: attention and MLP of every block."""
        return [
            [*norm.parameters(), *branch.parameters()]
            for block in self.blocks
            if isinstance(block, Block)
            for norm, branch in ((block.attention_norm, block.attention), (block.mlp_norm, block.mlp))
        ]

    def _losses(
        self, of_text: Tensor, of_image: Tensor, text_tokens: Tensor, raster: Tensor, text_weight: float
    ) -> Losses:
        """Weigh the two cross-entropies; a batch of empty captions has a text loss of zero."""
        counted = self.stream.text_targets(text_tokens)
        heads = self.text_head, self.image_head
        text, image = (
            linear_cross_entropy(states, head.weight, head.bias, targets)
            for head, states, targets in zip(
                heads,
                (of_text[counted], of_image.flatten(0, 1)),
                (text_tokens[:, 1:][counted], raster.flatten()),
                strict=True,
            )
        )
        return Losses(text_weight * text + (1 - text_weight) * image, text, image)


def check_config(config: TransformerConfig) -> None:
    """Refuse sizes that no transformer can be built from.

    Raises:
        ConfigError: A count is below 1, the convolutional kernel is even, or heads do not divide as the design needs.
    """
    sizes = {
        "text_len": config.text_len,
        "text_vocab_size": config.text_vocab_size,
        "grid_size": min(config.grid_size),
        "image_vocab_size": config.image_vocab_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "head_dim": config.head_dim,
        "design.num_kv_heads": config.num_kv_heads,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} {size}", expected="a whole number from 1", remedy=f"set {name} higher")
    if config.kernel_size % 2 == 0 or config.kernel_size < 1:
        remedy = "set kernel_size to 11, or another odd number"
        raise ConfigError(f"kernel_size {config.kernel_size}", expected="an odd number", remedy=remedy)
    if config.num_heads % config.num_kv_heads:
        given = f"{config.num_kv_heads} heads of keys and values for {config.num_heads} of queries"
        remedy = "set design.num_kv_heads to a divisor of num_heads"
        raise ConfigError(given, expected="each shared by as many queries", remedy=remedy)
    if config.design.positions != "learned" and config.head_dim % 4:
        remedy = "choose a multiple of 4, or learned positions"
        raise ConfigError(
            f"head_dim {config.head_dim}", expected="two axes of pairs, for rotary positions", remedy=remedy
        )
