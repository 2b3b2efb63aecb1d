"""The logit-Laplace likelihood of pixels, whose density lies wholly within the range that pixels have.

Source: Ramesh et al. 2021, appendix A.3.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

EPSILON = 0.1
"""Margin ε that pixels keep from 0 and 1, where the logit is infinite."""


Values = Float[Tensor, "*shape"]


def map_pixels(images: Values) -> Values:
    """Map pixels from [0, 1] into [ε, 1 − ε]: φ(x) = (1 − 2ε)·x + ε."""
    return (1 - 2 * EPSILON) * images + EPSILON


def unmap_pixels(pixels_mapped: Values) -> Values:
    """Map pixels back by φ⁻¹, clamped to [0, 1]."""
    return ((pixels_mapped - EPSILON) / (1 - 2 * EPSILON)).clamp(0, 1)


def logit_laplace_log_prob(pixels_mapped: Values, mu: Values, log_b: Values) -> Values:
    """Return ln f(x | μ, b) with f = exp(−|logit(x) − μ| / b) / (2·b·x·(1 − x)), in nats and in float32.

    Args:
        pixels_mapped: x, strictly between 0 and 1, as `map_pixels` gives them.
        mu: Median of logit(x).
        log_b: ln of the scale b; unbounded, as published.
    """
    with torch.autocast(pixels_mapped.device.type, enabled=False):
        x, mu, log_b = pixels_mapped.float(), mu.float(), log_b.float()
        log_x, log_rest = x.log(), torch.log1p(-x)
        return -(log_x - log_rest - mu).abs() * torch.exp(-log_b) - math.log(2) - log_b - log_x - log_rest
