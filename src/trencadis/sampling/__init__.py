"""Drawing image tokens from the transformer."""

from trencadis.sampling.drawing import Drawing, Request
from trencadis.sampling.engine import Engine
from trencadis.sampling.filters import draw, filter_logits, guidance_scales, guide
from trencadis.sampling.image_prompt import ImagePromptWarning, image_prompt
from trencadis.sampling.noise import gumbel_noise, uniform_noise
from trencadis.sampling.options import DecoderName, GuidanceSchedule, ImagePrompt, Partial, Ranking, Sampling
from trencadis.sampling.sample import sample_image_tokens

__all__ = [
    "DecoderName",
    "Drawing",
    "Engine",
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
    "sample_image_tokens",
    "uniform_noise",
]
