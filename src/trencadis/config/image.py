"""An image tokenizer's config."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class DiscreteVAEConfig:
    """An image tokenizer: how pictures become codes, and codes pictures. Every choice goes with every other.

    The defaults are the published discrete VAE. Source: Ramesh et al. 2021, appendix A.1.

    Args:
        image_size: Height and width that it is trained on, in pixels; multiples of the down-sampling factor.
        image_vocab_size: Number of codes.
        codes: `categorical` has a logit for every code, and a learnt vector behind it. `euclidean` takes the code whose
            vector is nearest (VQ-VAE; van den Oord et al. 2017), `cosine` the one at the least angle (Yu et al. 2022).
        architecture: `published` has bottleneck blocks, max-pooling and nearest up-sampling. `strided` has blocks of
            norm, activation and convolution, with 4×4 strided and transposed convolutions between groups. `attentive`
            has such blocks and attention where the grid is small (VQ-GAN; Esser et al. 2021). `lean` has blocks on the
            grid of tokens only, and the least between it and the pixels.
        hidden_dim: Width of the first group, in channels.
        width_multipliers: Width of each group in units of `hidden_dim`; pictures are halved between groups. `lean` has
            none at full size, and no use for the first.
        blocks_per_group: Residual blocks in each group; `lean` has only one, and `attentive` and `lean` one block more
            in the decoder.
        attention: Of `attentive`: `none`, in the `middle` only, or after each block of the `last` group too. Of `lean`:
            `none`, after the first block (`middle`), or after each (`last`).
        latent_dim: Channels of the grid that the decoder takes. Categorical codes have vectors of this size.
        codebook_dim: Size of the vectors of euclidean and cosine codes; a small one keeps more codes in use.
        pixels: `logit_laplace` has the paper's likelihood: pixels enter as φ(x), and the decoder gives a median and a
            scale for each. `signed` has pixels in [−1, 1] at both ends.
    """

    image_size: tuple[int, int] = (256, 256)
    image_vocab_size: int = 8192
    codes: Literal["categorical", "euclidean", "cosine"] = "categorical"
    architecture: Literal["published", "strided", "attentive", "lean"] = "published"
    hidden_dim: int = 256
    width_multipliers: tuple[int, ...] = (1, 2, 4, 8)
    blocks_per_group: int = 2
    attention: Literal["none", "middle", "last"] = "last"
    latent_dim: int = 128
    codebook_dim: int = 8
    pixels: Literal["logit_laplace", "signed"] = "logit_laplace"

    @property
    def down_factor(self) -> int:
        """Pixels a token stands for along each side."""
        return int(2 ** (len(self.width_multipliers) - 1))

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.image_size[0] // self.down_factor, self.image_size[1] // self.down_factor

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each group, of the largest grid first."""
        return tuple(self.hidden_dim * multiplier for multiplier in self.width_multipliers)
