"""The terms of the image tokenizer's loss, one value per image: a mean over its pixels, tokens or patches.

Values per image add up over microbatches, so that a term is a mean over the images of a whole update. `TERMS` is the
table of them, under the names of `ImageLossConfig`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from trencadis.image.discrete_vae import Quantized
from trencadis.image.likelihood import logit_laplace_log_prob, map_pixels
from trencadis.image.perceptual import FeatureNetwork, perceptual_loss
from trencadis.image.relaxation import divided

Batch = Float[Tensor, "batch ..."]
PerImage = Float[Tensor, " batch"]
Logits = Float[Tensor, "batch rows columns vocab"]
Vectors = Float[Tensor, "batch rows columns code"]
Scalar = Float[Tensor, ""]

ADAPTIVE_WEIGHT_MOST = 1e4
ROOT_EPS = 1e-5  # added to squared errors, 50 dB: an exact reconstruction has a finite gradient


def likelihood_loss(maps: Float[Tensor, "batch 6 height width"], images: Batch) -> PerImage:
    """Return −ln of the logit-Laplace density of images in [0, 1], in nats a sub-pixel.

    The maps are medians, then ln of scales. Source: Ramesh et al. 2021, appendix A.3.
    """
    mu, log_b = maps.chunk(2, dim=1)
    return -_image_means(logit_laplace_log_prob(map_pixels(images), mu, log_b))


def l1_loss(reconstructions: Batch, images: Batch) -> PerImage:
    return _image_means(_difference(reconstructions, images).abs())


def l2_loss(reconstructions: Batch, images: Batch) -> PerImage:
    """Return the mean squared error of pixels; for pixels in [0, 1] it is 10^(−PSNR/10)."""
    return _image_means(_difference(reconstructions, images).square())


def rmse_loss(reconstructions: Batch, images: Batch) -> PerImage:
    """Return the root of the mean squared error of pixels.

    Each image counts by its distance; in the squared error the distant ones dominate, and the others' PSNR suffers.
    """
    return (l2_loss(reconstructions, images) + ROOT_EPS).sqrt()


def _difference(reconstructions: Batch, images: Batch) -> Batch:
    """Return the difference of pixels. Overshoot beyond [0, 1] is ignored where the image is at the bound."""
    is_beyond = ((images >= 1) & (reconstructions > 1)) | ((images <= 0) & (reconstructions < 0))
    return (reconstructions.float() - images.float()).masked_fill(is_beyond, 0.0)


def divergence_from_uniform(logits: Logits) -> PerImage:
    """Return KL(q ‖ uniform) in nats a token, 0..ln(image_vocab_size), in float32; without noise and temperature.

    For one token it is Σ q·ln q + ln(image_vocab_size). Source: Ramesh et al. 2021, section 2.1 and appendix A.2.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_q = logits.float().log_softmax(dim=-1)
        return _image_means((log_q.exp() * log_q).sum(dim=-1)) + math.log(logits.shape[-1])


def divergence_weight(kl_weight: float, *, down_factor: int) -> float:
    """Return what the mean KL of a token is multiplied by, in a loss that is a mean over sub-pixels.

    The published loss of a picture is (−Σ ln f + β·Σ KL) / (height·width·3): the first sum runs over its
    height·width·3 sub-pixels, the second over its rows·columns tokens. Written with means it is
    −mean ln f + β·(rows·columns) / (height·width·3) · mean KL, and as each token stands for `down_factor`² pixels, the
    factor is β / (3·`down_factor`²): β/192 for the published 256×256 pixels and 32×32 tokens.
    """
    return kl_weight / (3 * down_factor**2)


def code_probabilities(logits: Logits, *, entropy_temperature: float) -> Float[Tensor, " vocab"]:
    """Return the probability of each code: a mean over each image's tokens, a sum over the images."""
    with torch.autocast(logits.device.type, enabled=False):
        q = divided(logits.float(), entropy_temperature).softmax(dim=-1)
    return reduce(q, "batch rows columns vocab -> vocab", "sum") / (logits.shape[1] * logits.shape[2])


def entropy_loss(
    logits: Logits, *, entropy_temperature: float, mean: Float[Tensor, " vocab"] | None = None
) -> PerImage:
    """Return the mean entropy of tokens less the entropy of their mean, in nats; its mean is −ln(vocab) at least.

    The first is small where each token is decided, the second large where they are decided differently. Together they
    are −KL(q ‖ mean) of each token's probabilities q, whose gradient by the mean is zero. So the mean is taken as a
    constant, and the term is a sum over tokens, in value and gradient.

    Args:
        entropy_temperature: The logits are divided by it; above 0.
        mean: Mean probability of each code over the whole update; None takes it over this batch.

    Source: Yu et al. 2024, for MAGVIT-2; Shi et al. 2024, for IBQ.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_q = divided(logits.float(), entropy_temperature).log_softmax(dim=-1)
        q = log_q.exp()
        mean = q.detach().flatten(0, 2).mean(dim=0) if mean is None else mean
        # A code that no token is near has a mean of 0, whose logarithm is infinite.
        log_mean = mean.clamp_min(torch.finfo(mean.dtype).tiny).log()
        return _image_means((q * (log_mean - log_q)).sum(dim=-1))


def commitment_loss(latents: Vectors, vectors: Vectors) -> PerImage:
    """Return the mean squared distance from the encoder's vectors to their codes, which moves the encoder's."""
    return _image_means((latents - vectors.detach()).square())


def hinge_discriminator_loss(real: Batch, reconstructed: Batch) -> PerImage:
    """Return the discriminator's loss: logits of real patches should be above 1, of reconstructed ones below −1.

    Source: Lim and Ye 2017; the half as in Esser et al. 2021.
    """
    return 0.5 * (_image_means(F.relu(1 - real)) + _image_means(F.relu(1 + reconstructed)))


def generator_loss(logits: Batch) -> PerImage:
    return -_image_means(logits)


def lecam_loss(real: Batch, reconstructed: Batch, real_average: Scalar, reconstructed_average: Scalar) -> PerImage:
    """Return how far logits of real patches are above the average of reconstructed ones, and the reverse, squared.

    The averages are moving averages of mean logits. Source: Tseng et al. 2021.
    """
    above = F.relu(real - reconstructed_average).square()
    below = F.relu(real_average - reconstructed).square()
    return _image_means(above) + _image_means(below)


def adaptive_weight(reconstruction: Float[Tensor, "*weights"], adversarial: Float[Tensor, "*weights"]) -> Scalar:
    """Return what brings the adversarial term's gradient to the scale of the reconstruction's, in 0..10,000.

    It is the ratio of the lengths of their gradients at the decoder's last layer. Source: Esser et al. 2021.
    """
    ratio: Tensor = reconstruction.norm() / (adversarial.norm() + 1e-4)
    return ratio.clamp(0, ADAPTIVE_WEIGHT_MOST)


@dataclass(frozen=True)
class TermInputs:
    """What the terms are computed from."""

    images: Float[Tensor, "batch 3 height width"]  # RGB in [0, 1], with the noise of training
    maps: Float[Tensor, "batch maps height width"]  # the decoder's
    reconstructions: Float[Tensor, "batch 3 height width"]  # RGB, in [0, 1] but for overshoot
    quantized: Quantized
    entropy_temperature: float = 1.0
    code_probabilities: Float[Tensor, " vocab"] | None = None  # mean over the whole update; None: over these images
    network: FeatureNetwork | None = None  # of the perceptual term
    logits: Float[Tensor, "batch 1 rows columns"] | None = None  # the discriminator's, of the reconstructions' patches

    @property
    def shown(self) -> Float[Tensor, "batch 3 height width"]:
        """The reconstructions as they are shown: networks must not see whites that real images cannot have."""
        return self.reconstructions.clamp(0, 1)


def _entropy(x: TermInputs) -> Tensor | None:
    if x.quantized.logits is None:
        return None
    return entropy_loss(x.quantized.logits, entropy_temperature=x.entropy_temperature, mean=x.code_probabilities)


def _commitment(x: TermInputs) -> Tensor | None:
    vectors = x.quantized.vectors
    return None if vectors is None else commitment_loss(x.quantized.latents, vectors)


def _codebook(x: TermInputs) -> Tensor | None:
    vectors = x.quantized.vectors
    return commitment_loss(vectors, x.quantized.latents) if vectors is not None and vectors.requires_grad else None


TERMS: dict[str, Callable[[TermInputs], Tensor | None]] = {
    "likelihood": lambda x: likelihood_loss(x.maps, x.images),
    "l1": lambda x: l1_loss(x.reconstructions, x.images),
    "l2": lambda x: l2_loss(x.reconstructions, x.images),
    "rmse": lambda x: rmse_loss(x.reconstructions, x.images),
    "kl": lambda x: None if x.quantized.logits is None else divergence_from_uniform(x.quantized.logits),
    "entropy": _entropy,
    "commitment": _commitment,
    "codebook": _codebook,
    "perceptual": lambda x: None if x.network is None else perceptual_loss(x.network, x.shown, x.images),
    "adversarial": lambda x: None if x.logits is None else generator_loss(x.logits),
}
"""Each term by its name in `ImageLossConfig`; None where the codes or the networks do not have it."""


def _image_means(values: Batch) -> PerImage:
    return values.flatten(1).mean(dim=1)
