"""How far the codes' distribution is from the uniform prior.

Source: Ramesh et al. 2021, section 2.1 and appendix A.2.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

SUBPIXELS = 3
"""Values of a pixel: red, green and blue."""


def divergence_from_uniform(logits: Float[Tensor, "batch rows columns image_vocab_size"]) -> Float[Tensor, " batch"]:
    """Return KL(q ‖ uniform) in nats a token, 0..ln(image_vocab_size), in float32; without noise and temperature.

    For one token it is Σ q·ln q + ln(image_vocab_size). The mean over an image's grid does not depend on its size.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_q = logits.float().log_softmax(dim=-1)
        negative_entropy = (log_q.exp() * log_q).sum(dim=-1)
    return negative_entropy.flatten(1).mean(dim=1) + math.log(logits.shape[-1])


def divergence_weight(kl_weight: float, *, down_factor: int) -> float:
    """Return what the mean KL of a token is multiplied by, in a loss that is a mean over sub-pixels.

    The published loss of a picture is (−Σ ln f + β·Σ KL) / (height·width·3): the first sum runs over its
    height·width·3 sub-pixels, the second over its rows·columns tokens. Written with means it is
    −mean ln f + β·(rows·columns) / (height·width·3) · mean KL, and as each token stands for `down_factor`² pixels, the
    factor is β / (3·`down_factor`²): β/192 for the published 256×256 pixels and 32×32 tokens.
    """
    return kl_weight / (SUBPIXELS * down_factor**2)
