"""The terms that an image tokenizer's loss is put together of. Each is a mean, so that it does not grow with a batch.

The divergence from the uniform prior has a file to itself.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from trencadis.image.likelihood import logit_laplace_log_prob, map_pixels
from trencadis.image.relaxation import divided

ADAPTIVE_WEIGHT_MOST = 1e4
ROOT_EPS = 1e-5  # of squared errors, 50 dB: a picture that is drawn exactly has no infinite gradient


def likelihood_loss(
    maps: Float[Tensor, "batch 6 height width"], images: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, ""]:
    """Return −ln of the logit-Laplace density of pictures in [0, 1], in nats a sub-pixel.

    Args:
        maps: Medians, then ln of scales.
        images: RGB in [0, 1].

    Source: Ramesh et al. 2021, appendix A.3.
    """
    mu, log_b = maps.chunk(2, dim=1)
    return -logit_laplace_log_prob(map_pixels(images), mu, log_b).mean()


def l1_loss(drawn: Float[Tensor, "*shape"], images: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Return the mean absolute error of pixels, as they are shown."""
    return _difference(drawn, images).abs().mean()


def l2_loss(drawn: Float[Tensor, "*shape"], images: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Return the mean squared error of pixels, as they are shown; of those in [0, 1] it is 10^(−PSNR/10)."""
    return _difference(drawn, images).square().mean()


def rmse_loss(
    drawn: Float[Tensor, "batch 3 height width"], images: Float[Tensor, "batch 3 height width"]
) -> Float[Tensor, ""]:
    """Return the mean over pictures of the root of their mean squared error, of pixels as they are shown.

    Each picture counts by how far off it is. In the plain squared error those that are far off take over, and the PSNR
    of the others suffers.
    """
    return (_difference(drawn, images).square().mean(dim=(1, 2, 3)) + ROOT_EPS).sqrt().mean()


def _difference(drawn: Float[Tensor, "*shape"], images: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return by how much pixels differ. To draw white as brighter than white is no error: it is shown as white."""
    is_beyond = ((images >= 1) & (drawn > 1)) | ((images <= 0) & (drawn < 0))
    return (drawn.float() - images.float()).masked_fill(is_beyond, 0.0)


def entropy_loss(logits: Float[Tensor, "batch rows columns vocab"], *, entropy_temperature: float) -> Float[Tensor, ""]:
    """Return the mean entropy of tokens less the entropy of their mean, in nats, −ln(vocab)..0 (at its least).

    The first is small where each token is decided, the second large where they are decided differently.

    Args:
        logits: Unnormalised log-probabilities of the codes.
        entropy_temperature: What they are divided by, above 0.

    Source: Yu et al. 2024, for MAGVIT-2; Shi et al. 2024, for IBQ.
    """
    with torch.autocast(logits.device.type, enabled=False):
        scaled = divided(logits.float(), entropy_temperature)
        log_q = rearrange(scaled, "b r c vocab -> (b r c) vocab").log_softmax(dim=-1)
        q = log_q.exp()
        of_tokens = -(q * log_q).sum(dim=-1).mean()
        mean = q.mean(dim=0)
        # A code that no token is near has a mean of 0, where the gradient of x·ln x is infinite.
        of_mean = -(mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
    difference: Tensor = of_tokens - of_mean
    return difference


def hinge_discriminator_loss(real: Float[Tensor, "..."], drawn: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Return the discriminator's loss: opinions of real patches are to be above 1, of drawn ones below −1.

    Source: Lim and Ye 2017; the half as in Esser et al. 2021.
    """
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + drawn).mean())


def generator_loss(drawn: Float[Tensor, "..."]) -> Float[Tensor, ""]:
    """Return what drawn patches are to make small: the discriminator's opinion, negated."""
    return -drawn.mean()


def lecam_loss(
    real: Float[Tensor, "..."],
    drawn: Float[Tensor, "..."],
    real_average: Float[Tensor, ""],
    drawn_average: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return how far the discriminator's opinions part: real ones from the average of drawn ones, and the reverse.

    Args:
        real: Opinions of real patches.
        drawn: Opinions of drawn ones.
        real_average: Moving average of the mean opinion of real patches.
        drawn_average: Likewise of drawn ones.

    Source: Tseng et al. 2021.
    """
    return F.relu(real - drawn_average).square().mean() + F.relu(real_average - drawn).square().mean()


def adaptive_weight(
    reconstruction: Float[Tensor, ""], adversarial: Float[Tensor, ""], last_layer: Float[Tensor, "..."]
) -> Float[Tensor, ""]:
    """Return what puts the adversarial term's gradient on the reconstruction's scale, in 0..10,000.

    It is the ratio of the lengths of their gradients at the decoder's last layer.

    Args:
        reconstruction: Sum of the other terms.
        adversarial: The discriminator's term.
        last_layer: Weights that both depend on.

    Source: Esser et al. 2021, section 3.1.
    """
    (of_reconstruction,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (of_adversarial,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    ratio = of_reconstruction.norm() / (of_adversarial.norm() + 1e-4)
    weight: Tensor = ratio.clamp(0, ADAPTIVE_WEIGHT_MOST).detach()
    return weight
