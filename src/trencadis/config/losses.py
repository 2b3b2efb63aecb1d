"""The terms of the image tokenizer's loss: weight, meaning and panel of each, declared once.

`image/loss_terms.py` computes them under the same names, and the report draws each in its panel.
"""

from dataclasses import dataclass, field, fields
from typing import Any

from trencadis.config.checks import AT, SettingError, check_least, check_ranges


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


def _term(weight: float, title: str, unit: str, *, sees_pixels: bool = False) -> Any:
    """Return the field of a term's weight, in 0..∞."""
    return field(default=weight, metadata={"term": LossTerm(title, unit, sees_pixels)})


@dataclass(frozen=True, kw_only=True)
class ImageLossConfig:
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
        perceptual_network: Network of these features: a model directory with a ranker, a CLIP directory, or a file with
            VGG-16's weights. Without it there is no such term, and the plan says so.
        adversarial: Weight of the discriminator's logits of patches, besides an adaptive weight that brings its
            gradient to the scale of the other terms'.
        adversarial_start: Share of the steps before the discriminator begins.
        lecam: Weight of the discriminator's regularization, which matters for small data sets.
        discriminator_dim: Channels of the discriminator's first layer.
        discriminator_layers: Strided layers of the discriminator.
    """

    likelihood: float = _term(1.0, "Likelihood term", "nats a sub-pixel", sees_pixels=True)
    l1: float = _term(0.0, "L1 term", "mean absolute error", sees_pixels=True)
    l2: float = _term(0.0, "L2 term", "mean squared error", sees_pixels=True)
    rmse: float = _term(0.0, "RMSE term", "root of the mean squared error", sees_pixels=True)
    kl: float = _term(6.6, "KL from uniform codes", "nats a token")
    kl_steps: float = 0.1
    entropy: float = _term(0.0, "Entropy term", "nats a token")
    entropy_temperature: float = 0.01
    commitment: float = _term(0.25, "Commitment term", "squared distance to the codes")
    codebook: float = _term(1.0, "Codebook term", "squared distance to the vectors")
    perceptual: float = _term(0.0, "Perceptual term", "distance of features", sees_pixels=True)
    perceptual_network: str | None = None
    adversarial: float = _term(0.0, "Adversarial term", "logits of the discriminator, negated")
    adversarial_start: float = 0.3
    lecam: float = 0.0
    discriminator_dim: int = 64
    discriminator_layers: int = 3

    def __post_init__(self) -> None:
        check_least(self, 0, *LOSS_TERMS, "lecam")
        check_ranges(self, kl_steps=(0, 1), adversarial_start=(0, 1), entropy_temperature=(1e-4, 100))
        check_least(self, 1, "discriminator_dim")
        check_ranges(self, discriminator_layers=(1, 8))
        if self.perceptual_network is not None and not self.perceptual:
            given = f"{AT}perceptual_network {self.perceptual_network} with {AT}perceptual 0"
            remedy = f"raise {AT}perceptual, or drop the network"
            raise SettingError(given, expected="a weight above 0", remedy=remedy)
        if not any(getattr(self, name) for name in PIXEL_TERMS):
            expected = f"one of {', '.join(AT + name for name in PIXEL_TERMS)} above 0"
            raise SettingError("a loss without any pixel term", expected=expected, remedy="raise one of them")


LOSS_TERMS: dict[str, LossTerm] = {
    each.name: each.metadata["term"] for each in fields(ImageLossConfig) if "term" in each.metadata
}
"""By name; the weight is the field of this name."""
PIXEL_TERMS = tuple(name for name, term in LOSS_TERMS.items() if term.sees_pixels)
