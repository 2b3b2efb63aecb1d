"""Drawing image tokens from the transformer."""

from trencadis.sampling.decode import ImagePrompt, Partial, Sampling, draw, sample_image_tokens
from trencadis.sampling.filters import filter_logits, guide, keep_top_k, keep_top_p
from trencadis.sampling.noise import gumbel_noise, uniform_noise
from trencadis.sampling.prompting import image_prompt

__all__ = [
    "ImagePrompt",
    "Partial",
    "Sampling",
    "draw",
    "filter_logits",
    "guide",
    "gumbel_noise",
    "image_prompt",
    "keep_top_k",
    "keep_top_p",
    "sample_image_tokens",
    "uniform_noise",
]
