"""The decoder-only transformer over the stream of caption and picture."""

from typing import Literal, NamedTuple, overload

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from trencadis.config import TransformerConfig
from trencadis.errors import ConfigError
from trencadis.pretrained import Pretrained
from trencadis.stream import Stream
from trencadis.transformer.attention import Attention
from trencadis.transformer.cache import KeyValueCache
from trencadis.transformer.masks import layer_patterns, visibility

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


class Block(nn.Module):
    """One residual layer: attention, then the MLP, each on normalised input."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        mlp_dim = config.mlp_dim or 4 * config.dim
        self.attention_norm = nn.LayerNorm(config.dim)
        self.attention = Attention(config.dim, config.num_heads, config.head_dim)
        self.mlp_norm = nn.LayerNorm(config.dim)
        self.mlp = nn.Sequential(nn.Linear(config.dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, config.dim))

    def forward(
        self, x: Float[Tensor, "batch new dim"], mask: Tensor, cache: KeyValueCache | None = None, layer: int = 0
    ) -> Float[Tensor, "batch new dim"]:
        """Return the residual stream after this layer."""
        x = x + self.attention(self.attention_norm(x), mask, cache, layer)
        return x + self.mlp(self.mlp_norm(x))  # type: ignore[no-any-return]


class Transformer(nn.Module, Pretrained):
    """DALL·E's transformer. Source: Ramesh et al. 2021, section 2.2 and appendix B.

    Called on text and image tokens it returns the logits of both, or the losses when asked. `extend` runs it over the
    newest positions only, with a cache.
    """

    config_type = TransformerConfig
    rows: Tensor
    columns: Tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        check_config(config)
        self.config = config
        self.stream = stream = Stream.of(config)
        self.text_embedding = nn.Embedding(stream.text_id_count, config.dim)
        self.text_positions = nn.Embedding(stream.text_len, config.dim)
        self.image_embedding = nn.Embedding(stream.image_vocab_size, config.dim)
        self.row_positions = nn.Embedding(stream.grid_size[0], config.dim)
        self.column_positions = nn.Embedding(stream.grid_size[1], config.dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.text_head = nn.Linear(config.dim, stream.text_id_count)
        self.image_head = nn.Linear(config.dim, stream.image_vocab_size)
        self.patterns = layer_patterns(config)
        for pattern in set(self.patterns):
            mask = visibility(pattern, stream, kernel_size=config.kernel_size)
            self.register_buffer(f"{pattern}_mask", mask, persistent=False)
        self.register_buffer("rows", stream.rows(), persistent=False)
        self.register_buffer("columns", stream.columns(), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Draw small weights; those that write into the residual stream are smaller, for their sum to stay near 1."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_STD)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)
        residual_std = INIT_STD / (2 * self.config.num_layers) ** 0.5
        for name, parameter in self.named_parameters():
            if name.endswith(("attention.out.weight", "mlp.2.weight")):
                nn.init.normal_(parameter, std=residual_std)

    def _embed_text(self, text_tokens: Int[Tensor, "batch text_len"]) -> Float[Tensor, "batch text_len dim"]:
        return self.text_embedding(text_tokens) + self.text_positions.weight  # type: ignore[no-any-return]

    def _embed_image(self, image_tokens: Int[Tensor, "batch new"], start: int) -> Float[Tensor, "batch new dim"]:
        """Embed image tokens that begin at raster index `start`: token, row and column, summed."""
        end = start + image_tokens.shape[1]
        positions = self.row_positions(self.rows[start:end]) + self.column_positions(self.columns[start:end])
        return self.image_embedding(image_tokens) + positions  # type: ignore[no-any-return]

    def _mask(self, layer: int, start: int, end: int) -> Tensor:
        mask: Tensor = getattr(self, f"{self.patterns[layer]}_mask")
        return mask[start:end, :end]

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
            return_losses: Return the losses instead of the logits.
            text_weight: Share of the text loss in the total; the image loss has the rest.
        """
        raster = image_tokens.flatten(1)
        x = torch.cat([self._embed_text(text_tokens), self._embed_image(raster, 0)], dim=1)
        for layer, block in enumerate(self.blocks):
            x = block(x, self._mask(layer, 0, self.stream.stream_len))
        x = self.norm(x)
        last_text = self.stream.text_len - 1
        logits = Logits(self.text_head(x[:, :last_text]), self.image_head(x[:, last_text:-1]))
        return self._losses(logits, text_tokens, raster, text_weight) if return_losses else logits

    def _losses(self, logits: Logits, text_tokens: Tensor, raster: Tensor, text_weight: float) -> Losses:
        """Weigh the two cross-entropies; a batch of empty captions has a text loss of zero."""
        counted = self.stream.text_targets(text_tokens)
        text = F.cross_entropy(logits.text[counted].float(), text_tokens[:, 1:][counted], reduction="sum")
        text = text / counted.sum().clamp_min(1)
        image = F.cross_entropy(logits.image.flatten(0, 1).float(), raster.flatten())
        return Losses(text_weight * text + (1 - text_weight) * image, text, image)

    def begin(
        self, text_tokens: Int[Tensor, "batch text_len"], cache: KeyValueCache
    ) -> Float[Tensor, "batch image_vocab_size"]:
        """Read the captions into an empty cache and return the logits of the first image token."""
        assert cache.length == 0, "the cache already holds a stream"
        return self._newest(self._embed_text(text_tokens), cache)

    def extend(
        self, image_tokens: Int[Tensor, "batch new"], cache: KeyValueCache
    ) -> Float[Tensor, "batch image_vocab_size"]:
        """Read the next image tokens into the cache and return the logits of the one that follows."""
        return self._newest(self._embed_image(image_tokens, cache.length - self.stream.text_len), cache)

    def _newest(self, x: Float[Tensor, "batch new dim"], cache: KeyValueCache) -> Float[Tensor, "batch vocab"]:
        start, end = cache.length, cache.length + x.shape[1]
        for layer, block in enumerate(self.blocks):
            x = block(x, self._mask(layer, start, end), cache, layer)
        cache.length = end
        return self.image_head(self.norm(x[:, -1]))  # type: ignore[no-any-return]


def check_config(config: TransformerConfig) -> None:
    """Refuse sizes that no transformer can be built from.

    Raises:
        ConfigError: A count is below 1, or the convolutional kernel is even.
    """
    sizes = {
        "text_len": config.text_len,
        "text_vocab_size": config.text_vocab_size,
        "grid_size": min(config.grid_size),
        "image_vocab_size": config.image_vocab_size,
        "num_layers": config.num_layers,
        "num_heads": config.num_heads,
        "head_dim": config.head_dim,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} {size}", expected="a whole number from 1", remedy=f"set {name} higher")
    if config.kernel_size % 2 == 0 or config.kernel_size < 1:
        remedy = "set kernel_size to 11, or another odd number"
        raise ConfigError(f"kernel_size {config.kernel_size}", expected="an odd number", remedy=remedy)
