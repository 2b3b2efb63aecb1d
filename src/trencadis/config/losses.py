"""The terms of the image tokenizer's loss: weight, meaning and panel of each, declared once.

`image/loss_terms.py` computes them under the same names, and the report draws each in its panel.
"""

from dataclasses import dataclass
from typing import Annotated

from trencadis.config.base import Amount, Config, Count, PlaceText, Range, Share, notes


@dataclass(frozen=True)
class LossTerm:
    """What is known of a term besides its weight.

    Args:
        title: Of its panel in the report.
        unit: Of its values.
        sees_pixels: It says what a picture should look like; a loss needs at least one of these.
    """

    title: str
    unit: str
    sees_pixels: bool = False


@dataclass(frozen=True, kw_only=True)
class ImageLossConfig(Config):
    """The weight of each term of the image tokenizer's loss, and settings of the terms. A weight of 0 drops a term.

    Args:
        likelihood: Weight of −ln of the logit-Laplace density, in nats a sub-pixel; for `pixels: logit_laplace` only.
        l1: Weight of the mean absolute error of pixels in [0, 1].
        l2: Weight of the mean squared error.
        rmse: Weight of the per-image root of the mean squared error.
        kl: β, the weight of the codes' divergence from the uniform prior, in the paper's unit. It rises from 0 by a
            cosine.
        kl_steps: Share of the steps over which β rises.
        entropy: Weight of the mean entropy of tokens less the entropy of their mean; for codes that are learnt by a
            relaxation of probabilities, as `kl` is.
        entropy_temperature: Of the probabilities in the entropy term; low ones see the largest logits only.
        commitment: Weight of the squared distance from the encoder's vectors to their codes, which moves the vectors;
            for euclidean and cosine codes.
        codebook: Weight of the same distance, which moves the codes; for euclidean codes that are not moving averages.
        perceptual: Weight of the distance between features of the pictures.
        perceptual_network: Network of these features: `efficientnet-lite0` of the extra `perceptual`, a model directory
            with a ranker, a CLIP directory, or a file with VGG-16's weights. Without it there is no such term, and the
            plan says so.
        adversarial: Weight of the discriminator's logits of patches, besides an adaptive weight that brings its
            gradient to the scale of the other terms'.
        adversarial_start: Share of the steps before the discriminator begins.
        lecam: Weight of the discriminator's regularization, which matters for small data sets.
        discriminator_dim: Channels of the discriminator's first layer.
        discriminator_layers: Strided layers of the discriminator.
    """

    likelihood: Annotated[Amount, LossTerm("Likelihood term", "nats a sub-pixel", sees_pixels=True)] = 1.0
    l1: Annotated[Amount, LossTerm("L1 term", "mean absolute error", sees_pixels=True)] = 0.0
    l2: Annotated[Amount, LossTerm("L2 term", "mean squared error", sees_pixels=True)] = 0.0
    rmse: Annotated[Amount, LossTerm("RMSE term", "root of the mean squared error", sees_pixels=True)] = 0.0
    kl: Annotated[Amount, LossTerm("KL from uniform codes", "nats a token")] = 6.6
    kl_steps: Share = 0.1
    entropy: Annotated[Amount, LossTerm("Entropy term", "nats a token")] = 0.0
    entropy_temperature: Annotated[float, Range(1e-4, 100)] = 0.01
    commitment: Annotated[Amount, LossTerm("Commitment term", "squared distance to the codes")] = 0.25
    codebook: Annotated[Amount, LossTerm("Codebook term", "squared distance to the vectors")] = 1.0
    perceptual: Annotated[Amount, LossTerm("Perceptual term", "distance of features", sees_pixels=True)] = 0.0
    perceptual_network: PlaceText | None = None
    adversarial: Annotated[Amount, LossTerm("Adversarial term", "logits of the discriminator, negated")] = 0.0
    adversarial_start: Share = 0.3
    lecam: Amount = 0.0
    discriminator_dim: Count = 64
    discriminator_layers: Annotated[int, Range(1, 8)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        is_used = self.perceptual_network is None or self.perceptual > 0
        self._require(is_used, "perceptual_network", "perceptual", expected="a weight above 0 for a network")
        has_pixels = any(getattr(self, name) for name in PIXEL_TERMS)
        self._require(has_pixels, *PIXEL_TERMS, expected="a pixel term above 0")

    def suits(self, size: tuple[int, int]) -> tuple[bool, str]:
        """Return whether pictures of a size are large enough for the discriminator, and what is expected."""
        needed = 3 * 2**self.discriminator_layers
        return not self.adversarial or min(size) >= needed, f"{needed} pixels or more along each side"


LOSS_TERMS = notes(ImageLossConfig, LossTerm)
"""By name; the weight is the field of this name."""
CODE_TERMS = ("kl", "entropy", "commitment", "codebook")
"""Those that only codes have which are being learnt."""
PIXEL_TERMS = tuple(name for name, term in LOSS_TERMS.items() if term.sees_pixels)
