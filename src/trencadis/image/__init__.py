"""Pictures to image tokens and back."""

from trencadis.image.bottleneck import Categorical, Nearest
from trencadis.image.discrete_vae import DiscreteVAE, Quantized, Quantizer
from trencadis.image.loading import load_image_tokenizer
from trencadis.image.metrics import code_perplexity, code_use, count_codes, psnr, ssim
from trencadis.image.relaxation import relax, standard_gumbel

__all__ = [
    "Categorical",
    "DiscreteVAE",
    "Nearest",
    "Quantized",
    "Quantizer",
    "code_perplexity",
    "code_use",
    "count_codes",
    "load_image_tokenizer",
    "psnr",
    "relax",
    "ssim",
    "standard_gumbel",
]
