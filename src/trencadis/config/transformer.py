"""The transformer's config."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """How a transformer's blocks are made. The defaults are the paper's; `recipes.MODERN_DESIGN` is what came since.

    Args:
        norm: `layer` subtracts the mean, divides by the deviation and has gains and biases; `rms` divides by the root
            mean square and has gains (Zhang and Sennrich 2019).
        qk_norm: Queries and keys have their root mean square set to 1 in each head, times a gain (Henry et al. 2020).
        positions: `learned` adds an embedding for each text position, row and column; `rotary` turns queries and keys
            by angles of them (Su et al. 2021; of two axes, Heo et al. 2024); `both` does both.
        activation: `gelu`, or the square of the positive part, `relu2` (So et al. 2021).
        biases: Linear layers of the blocks and heads have biases.
        zero_init: What writes into the residual stream, and the heads, begin at zero.
        num_kv_heads: Heads of keys and values, each shared by as many queries; `num_heads` of them where None
            (Ainslie et al. 2023).
    """

    norm: Literal["layer", "rms"] = "layer"
    qk_norm: bool = False
    positions: Literal["learned", "rotary", "both"] = "learned"
    activation: Literal["gelu", "relu2"] = "gelu"
    biases: bool = True
    zero_init: bool = False
    num_kv_heads: int | None = None


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The transformer over the stream. Defaults are DALL·E's. Source: Ramesh et al. 2021, section 2.2 and appendix B.

    Args:
        text_len: Text positions of the stream, padding included.
        text_vocab_size: Ids of the text tokenizer; a padding id for each position follows them.
        grid_size: Rows and columns of image tokens.
        image_vocab_size: Number of image codes.
        num_layers: Residual blocks of attention and MLP.
        num_heads: Attention heads of each layer.
        head_dim: Width of a head.
        mlp_dim: Hidden width of the MLP; four times `dim` where None.
        attention: `sparse` for the paper's row, column and convolutional layers, `full` for full attention throughout.
        kernel_size: Side of the convolutional layers' neighbourhood, odd.
        design: How the blocks are made.
    """

    text_len: int = 256
    text_vocab_size: int = 16384
    grid_size: tuple[int, int] = (32, 32)
    image_vocab_size: int = 8192
    num_layers: int = 64
    num_heads: int = 62
    head_dim: int = 64
    mlp_dim: int | None = None
    attention: Literal["sparse", "full"] = "sparse"
    kernel_size: int = 11
    design: DesignConfig = field(default_factory=DesignConfig)

    @property
    def dim(self) -> int:
        """Width of the residual stream."""
        return self.num_heads * self.head_dim

    @property
    def num_kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.design.num_kv_heads or self.num_heads
