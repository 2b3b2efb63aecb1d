"""The image tokenizer's config: each architecture and each kind of codes has its own, told apart by `kind`."""

import math
from dataclasses import dataclass, field
from typing import Literal

from trencadis.config.base import Config, Count

BOTTLENECK = 4
"""The residual paths of the published blocks are this many times narrower than their output."""


@dataclass(frozen=True, kw_only=True)
class GroupsConfig(Config):
    """Groups of residual blocks; the picture is halved between them.

    Args:
        hidden_dim: Channels of the first group.
        width_multipliers: Channels of each group in units of `hidden_dim`, largest grid first.
        blocks_per_group: Residual blocks in each group.
    """

    hidden_dim: Count = 256
    width_multipliers: tuple[Count, ...] = (1, 2, 4, 8)
    blocks_per_group: Count = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(len(self.width_multipliers) > 0, "width_multipliers", expected="one group or more")

    @property
    def down_factor(self) -> int:
        """Pixels per token along each side."""
        return 1 << (len(self.width_multipliers) - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each group, largest grid first."""
        return tuple(self.hidden_dim * multiplier for multiplier in self.width_multipliers)


@dataclass(frozen=True, kw_only=True)
class PublishedConfig(GroupsConfig):
    """Bottleneck blocks without norms, max-pooling, nearest up-sampling. Source: Ramesh et al. 2021, appendix A.1."""

    kind: Literal["published"] = "published"

    def __post_init__(self) -> None:
        super().__post_init__()
        is_met = all(width % BOTTLENECK == 0 for width in self.widths)
        self._require(is_met, "hidden_dim", "width_multipliers", expected=f"products in multiples of {BOTTLENECK}")


@dataclass(frozen=True, kw_only=True)
class StridedConfig(GroupsConfig):
    """Blocks of norm, activation and convolution, with 4×4 strided and transposed convolutions between groups."""

    kind: Literal["strided"] = "strided"


@dataclass(frozen=True, kw_only=True)
class AttentiveConfig(GroupsConfig):
    """VQ-GAN's blocks; the decoder has one block more in each group. Source: Esser et al. 2021.

    Args:
        attention: In the `middle` only, after each block of the smallest grid's group too (`last`), or `none`.
    """

    kind: Literal["attentive"] = "attentive"
    attention: Literal["none", "middle", "last"] = "last"


@dataclass(frozen=True, kw_only=True)
class LeanConfig(Config):
    """Residual blocks on the grid of tokens only, and one strided convolution for each halving of the picture.

    Args:
        widths: Channels after each halving, largest grid first.
        blocks: Residual blocks of the encoder; the decoder has one more.
        attention_after: Where there is attention: after the `first` block, after `every` block, or `none`.
    """

    kind: Literal["lean"] = "lean"
    widths: tuple[Count, ...] = (96, 192, 384)
    blocks: Count = 1
    attention_after: Literal["none", "first", "every"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(len(self.widths) > 0, "widths", expected="one width or more")

    @property
    def down_factor(self) -> int:
        """Pixels per token along each side."""
        return 1 << len(self.widths)


@dataclass(frozen=True, kw_only=True)
class CategoricalCodes(Config):
    """A logit for every code at each place, and a learnt vector of `latent_dim` numbers for each code."""

    kind: Literal["categorical"] = "categorical"


@dataclass(frozen=True, kw_only=True)
class NearestCodes(Config):
    """The code whose vector is nearest.

    Args:
        kind: `euclidean` takes the nearest vector (VQ-VAE; van den Oord et al. 2017), `cosine` the one at the smallest
            angle (Yu et al. 2022).
        codebook_dim: Size of the vectors. A small one keeps more codes in use.
    """

    kind: Literal["euclidean", "cosine"] = "euclidean"
    codebook_dim: Count = 8


ArchitectureConfig = PublishedConfig | StridedConfig | AttentiveConfig | LeanConfig
CodesConfig = CategoricalCodes | NearestCodes


@dataclass(frozen=True, kw_only=True)
class DiscreteVAEConfig(Config):
    """An image tokenizer. Any architecture goes with any codes; the defaults are the published discrete VAE.

    Args:
        image_size: Height and width of pictures as they are encoded, in pixels; multiples of the down-sampling factor.
        image_vocab_size: Number of codes.
        latent_dim: Channels of the grid that the decoder takes.
        pixels: `logit_laplace` has the paper's likelihood: pixels enter as φ(x), and the decoder gives a median and a
            scale for each. `signed` has pixels in [−1, 1] at both ends.
        architecture: The convolutions of the encoder, and of the decoder where it has none of its own.
        codes: How a place gets its code.
        decoder: The decoder's own convolutions. With one doubling more than the encoder has halvings, decoded pictures
            have twice the side of encoded ones.
    """

    image_size: tuple[Count, Count] = (256, 256)
    image_vocab_size: Count = 8192
    latent_dim: Count = 128
    pixels: Literal["logit_laplace", "signed"] = "logit_laplace"
    architecture: ArchitectureConfig = field(default_factory=PublishedConfig)
    codes: CodesConfig = field(default_factory=CategoricalCodes)
    decoder: ArchitectureConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder is not None:
            is_met = self.decoder.down_factor % self.down_factor == 0
            expected = f"convolutions that double the grid as often as the encoder halves pictures, {self.down_factor} "
            self._require(is_met, "decoder", expected=expected + "times along each side, or more often")
        is_whole = all(side % self.down_factor == 0 for side in self.image_size)
        expected = f"height and width in multiples of {self.down_factor}, the down-sampling factor"
        self._require(is_whole, "image_size", expected=expected)

    @property
    def down_factor(self) -> int:
        """Pixels per token along each side."""
        return self.architecture.down_factor

    @property
    def decoder_architecture(self) -> ArchitectureConfig:
        return self.decoder or self.architecture

    @property
    def scale(self) -> int:
        """How many times as long the sides of decoded pictures are as those of encoded ones."""
        return self.decoder_architecture.down_factor // self.down_factor

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Height and width of decoded pictures, in pixels."""
        return self.image_size[0] * self.scale, self.image_size[1] * self.scale

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.down_factor, self.image_size[1] // self.down_factor

    @property
    def image_len(self) -> int:
        """Tokens of a picture."""
        return math.prod(self.grid_size)
