"""Options of drawing image tokens, and what a callback gets while they are drawn."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from jaxtyping import Bool, Int
from torch import Tensor

from trencadis.errors import ConfigError

GuidanceSchedule = Literal["constant", "linear", "cosine"]
DecoderName = Literal["sequential", "jacobi"]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: Above 0; lower is safer, 1 is the model's own distribution.
        top_k: Draw among this many likeliest tokens, and those that are as likely as the last of them; None among all.
        top_p: Draw among the likeliest tokens that make up this probability, in (0, 1]; None among all.
        guidance_scale: From 0; 1 is no guidance, higher follows the prompt more closely.
        guidance_schedule: `constant`, or rising from 1 at the first token to `guidance_scale` at the last, `linear` or
            as half a `cosine`; see `guidance_scales`.
        decoder: `sequential` draws one token a pass. `jacobi` draws several, in fewer passes, and the same picture.
        jacobi_window: How many tokens of a picture a pass of the Jacobi decoder reads.

    Raises:
        ConfigError: A value is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    guidance_scale: float = 3.0
    guidance_schedule: GuidanceSchedule = "constant"
    decoder: DecoderName = "sequential"
    jacobi_window: int = 8

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0 < self.temperature <= 100, "a number in (0, 100]", "1.0")
        _check("top_k", self.top_k, self.top_k is None or self.top_k >= 1, "a whole number from 1", "256")
        _check("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "a number in (0, 1]", "0.95")
        scale = self.guidance_scale
        _check("guidance_scale", scale, 0 <= scale <= 100, "a number in [0, 100]", "3.0")
        _check("jacobi_window", self.jacobi_window, self.jacobi_window >= 1, "a whole number from 1", "8")
        for name, choices in (("guidance_schedule", GuidanceSchedule), ("decoder", DecoderName)):
            value, known = getattr(self, name), get_args(choices)
            _check(name, value, value in known, f"one of {', '.join(known)}", known[0])

    @property
    def guided(self) -> bool:
        """Whether the unconditional half is needed."""
        return self.guidance_scale != 1


def _check(name: str, value: Any, holds: bool, expected: str, example: str) -> None:
    if not holds:
        raise ConfigError(f"{name} {value}", expected=expected, remedy=f"give one such as {example}")


@dataclass(frozen=True)
class ImagePrompt:
    """Image tokens that stay as they are.

    Args:
        image_tokens: The picture's tokens.
        kept: True where a token stays; where False it is drawn anew.
    """

    image_tokens: Int[Tensor, "rows columns"]
    kept: Bool[Tensor, "rows columns"]


@dataclass(frozen=True)
class Partial:
    """What has been drawn so far.

    Args:
        image_tokens: The grids; what is not drawn yet is not to be looked at.
        drawn: How many tokens of every picture stand, in raster order.
    """

    image_tokens: Int[Tensor, "batch rows columns"]
    drawn: int
