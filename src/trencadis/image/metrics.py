"""Metrics of reconstructed images, and of how much of the vocabulary is used."""

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from trencadis.errors import PictureError

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants for pixels in [0, 1]; they avoid dividing by zero in flat and black regions."""


Images = Float[Tensor, "batch channels height width"]  # pixels are in [0, 1]


def psnr(images: Images, originals: Images) -> Float[Tensor, " batch"]:
    """Return the peak signal-to-noise ratio of each image in dB; infinite for equal images."""
    squared = (images.float() - originals.float()).square()
    return -10 * reduce(squared, "batch channels height width -> batch", "mean").log10()


def ssim(images: Images, originals: Images) -> Float[Tensor, " batch"]:
    """Return the structural similarity of each image, in [−1, 1]; 1 for equal images. Source: Wang et al. 2004.

    The mean over channels and over all positions of the window, a Gaussian of 11×11 pixels with σ = 1.5, inside the
    image.

    Raises:
        PictureError: An image is smaller than the window.
    """
    height, width = images.shape[-2:]
    if min(height, width) < WINDOW_SIZE:
        expected = f"{WINDOW_SIZE} pixels or more along each side"
        raise PictureError(f"a picture of {height}×{width} pixels", expected=expected, remedy="compare larger pictures")
    # Variances are small differences of large sums: float32 loses digits that matter in flat regions.
    x, y = images.double(), originals.double()
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    structure = (2 * covariance + C2) / (variance_x + variance_y + C2)
    return reduce(luminance * structure, "batch channels height width -> batch", "mean").float()


def _blur(values: Images) -> Float[Tensor, "batch channels rows columns"]:
    """Return the Gaussian-weighted mean at every position whose window lies inside."""
    offsets = torch.arange(WINDOW_SIZE, dtype=values.dtype, device=values.device) - WINDOW_SIZE // 2
    weights = (-(offsets**2) / (2 * WINDOW_SIGMA**2)).softmax(dim=0)
    planes = rearrange(values, "batch channels height width -> (batch channels) 1 height width")
    blurred = F.conv2d(F.conv2d(planes, weights[None, None, :, None]), weights[None, None, None, :])
    return rearrange(blurred, "(batch channels) 1 rows columns -> batch channels rows columns", batch=len(values))


def count_codes(image_tokens: Int[Tensor, "..."], *, image_vocab_size: int) -> Int[Tensor, " image_vocab_size"]:
    """Return how often each code occurs; counts of several batches may be added."""
    return torch.bincount(image_tokens.flatten(), minlength=image_vocab_size)


def code_use(counts: Int[Tensor, " image_vocab_size"]) -> float:
    """Return the share of codes that occur, in [0, 1]."""
    return float((counts > 0).double().mean())


def code_perplexity(counts: Int[Tensor, " image_vocab_size"]) -> float:
    """Return exp of the entropy of the codes' frequencies, 1..image_vocab_size; 0 where nothing was counted."""
    frequencies = counts.double() / counts.sum().clamp_min(1)
    entropy = -torch.special.xlogy(frequencies, frequencies).sum()
    return float(entropy.exp()) if counts.any() else 0.0
