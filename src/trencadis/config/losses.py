"""The terms of the image tokenizer's loss."""

from dataclasses import dataclass

from trencadis.config.checks import AT, SettingError, check_least, check_ranges

WEIGHTS = (
    "likelihood", "l1", "l2", "rmse", "kl", "entropy", "commitment", "codebook", "perceptual", "adversarial", "lecam",
)  # fmt: skip
PIXELS = ("likelihood", "l1", "l2", "rmse", "perceptual")
"""Terms that say what a picture is to look like."""


@dataclass(frozen=True, kw_only=True)
class ImageLossConfig:
    """What the image tokenizer's loss is made of: each term's weight, 0 for a term that is not there.

    Args:
        likelihood: Of −ln of the logit-Laplace density, in nats a sub-pixel; for `pixels: logit_laplace` only.
        l1: Of the mean absolute error of pixels in [0, 1].
        l2: Of their mean squared error.
        rmse: Of its root, picture by picture.
        kl: β, of the codes' divergence from the uniform prior, in the paper's unit. It rises from 0 by a cosine.
        kl_steps: Share of the steps that the rise of β takes.
        entropy: Of how undecided each token is, less how varied they are together; of codes learnt by a relaxation of
            probabilities, as is `kl`.
        entropy_temperature: Of the probabilities in it; low ones look at the largest logits only.
        commitment: Of the distance from the encoder's vectors to the codes that they are given, which moves the
            vectors; euclidean and cosine codes only.
        codebook: Of the same distance, which moves the codes; euclidean ones only, unless they are moving averages.
        perceptual: Of the distance between features of the pictures.
        perceptual_network: What gives the features: a model directory with a ranker, a CLIP directory, or a file with
            VGG-16's weights. Without it there is no such term, and the plan says so.
        adversarial: Of a discriminator's opinion of the patches, times an adaptive factor that puts its gradient on
            the scale of the other terms'.
        adversarial_start: Share of the steps before it begins.
        lecam: Of the discriminator's regularization, which matters where there are few pictures.
        discriminator_dim: Width of the discriminator's first layer, in channels.
        discriminator_layers: Strided layers of the discriminator.
    """

    likelihood: float = 1.0
    l1: float = 0.0
    l2: float = 0.0
    rmse: float = 0.0
    kl: float = 6.6
    kl_steps: float = 0.1
    entropy: float = 0.0
    entropy_temperature: float = 0.01
    commitment: float = 0.25
    codebook: float = 1.0
    perceptual: float = 0.0
    perceptual_network: str | None = None
    adversarial: float = 0.0
    adversarial_start: float = 0.3
    lecam: float = 0.0
    discriminator_dim: int = 64
    discriminator_layers: int = 3

    def __post_init__(self) -> None:
        check_least(self, 0, *WEIGHTS)
        check_ranges(self, kl_steps=(0, 1), adversarial_start=(0, 1), entropy_temperature=(1e-4, 100))
        check_least(self, 1, "discriminator_dim")
        check_ranges(self, discriminator_layers=(1, 8))
        if self.perceptual_network is not None and not self.perceptual:
            given = f"{AT}perceptual_network {self.perceptual_network} with {AT}perceptual 0"
            remedy = f"raise {AT}perceptual, or drop the network"
            raise SettingError(given, expected="a weight above 0", remedy=remedy)
        if not any(getattr(self, name) for name in PIXELS):
            expected = f"one of {', '.join(AT + name for name in PIXELS)} above 0"
            raise SettingError("a loss without any pixel term", expected=expected, remedy="raise one of them")
