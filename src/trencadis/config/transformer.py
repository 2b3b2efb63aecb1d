"""The transformer's config."""

from dataclasses import dataclass, field
from typing import Literal

from trencadis.config.base import Config, Count


@dataclass(frozen=True, kw_only=True)
class DesignConfig(Config):
    """How a transformer's blocks are made. The defaults are the paper's; `recipes.MODERN_DESIGN` is today's practice.

    Args:
        norm: `layer` is LayerNorm, with gains and biases; `rms` is RMSNorm, with gains (Zhang and Sennrich 2019).
        qk_norm: RMSNorm of queries and keys in each head (Henry et al. 2020).
        positions: `learned` adds an embedding for each text position, row and column; `rotary` rotates queries and
            keys (Su et al. 2021; over two axes, Heo et al. 2024).
        activation: `gelu`, or the square of ReLU, `relu2` (So et al. 2021).
        biases: Linear layers of blocks and heads have biases.
        zero_init: The last layer of each residual branch and the heads begin at zero.
    """

    norm: Literal["layer", "rms"] = "layer"
    qk_norm: bool = False
    positions: Literal["learned", "rotary"] = "learned"
    activation: Literal["gelu", "relu2"] = "gelu"
    biases: bool = True
    zero_init: bool = False


@dataclass(frozen=True, kw_only=True)
class TransformerSizes(Config):
    """What is the transformer's own: all but the sizes that follow from the tokenizers. Defaults are DALL·E's.

    Args:
        num_layers: Residual blocks of attention and MLP.
        num_heads: Attention heads of each layer.
        head_dim: Width of a head.
        mlp_dim: Hidden width of the MLP; None means four times `dim`.
        attention: `sparse` for the paper's row, column and convolutional layers, `full` for full attention throughout.
        kernel_size: Side of the convolutional layers' neighbourhood, odd.
        design: How the blocks are made.
    """

    num_layers: Count = 64
    num_heads: Count = 62
    head_dim: Count = 64
    mlp_dim: Count | None = None
    attention: Literal["sparse", "full"] = "sparse"
    kernel_size: Count = 11
    design: DesignConfig = field(default_factory=DesignConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.kernel_size % 2 == 1, "kernel_size", expected="an odd number")
        is_met = self.design.positions == "learned" or self.head_dim % 4 == 0
        expected = "heads in multiples of 4: rotary positions have two axes of pairs"
        self._require(is_met, "head_dim", "design.positions", expected=expected)

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class TransformerConfig(TransformerSizes):
    """The transformer over the stream. Source: Ramesh et al. 2021, section 2.2 and appendix B.

    Args:
        text_len: Text positions of the stream, padding included.
        text_vocab_size: Ids of the text tokenizer; a padding id for each position follows them.
        grid_size: Rows and columns of image tokens.
        image_vocab_size: Number of image codes.
    """

    text_len: Count = 256
    text_vocab_size: Count = 16384
    grid_size: tuple[Count, Count] = (32, 32)
    image_vocab_size: Count = 8192
