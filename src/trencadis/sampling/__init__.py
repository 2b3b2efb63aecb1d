"""Drawing image tokens from the transformer."""

from trencadis.sampling.drawing import Drawing, Request
from trencadis.sampling.engine import Engine
from trencadis.sampling.filters import draw, filter_logits, guidance_scales, guide
from trencadis.sampling.image_prompt import (
    Grid,
    ImagePromptWarning,
    image_prompt,
    picture_tokens,
    token_grid,
    token_prefix,
)
from trencadis.sampling.noise import gumbel_noise, uniform_noise
from trencadis.sampling.options import DecoderName, GuidanceSchedule, ImagePrompt, Partial, Ranking, Sampling
from trencadis.sampling.sample import sample_image_tokens

__all__ = [
    "DecoderName",
    "Drawing",
    "Engine",
    "Grid",
    "GuidanceSchedule",
    "ImagePrompt",
    "ImagePromptWarning",
    "Partial",
    "Ranking",
    "Request",
    "Sampling",
    "draw",
    "filter_logits",
    "guidance_scales",
    "guide",
    "gumbel_noise",
    "image_prompt",
    "picture_tokens",
    "sample_image_tokens",
    "token_grid",
    "token_prefix",
    "uniform_noise",
]
