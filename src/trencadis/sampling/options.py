"""Options of drawing, and what a callback gets while image tokens are drawn."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from jaxtyping import Bool, Int
from torch import Tensor

from trencadis.config.base import Config, Count, Range

GuidanceSchedule = Literal["constant", "linear", "cosine"]
DecoderName = Literal["sequential", "jacobi"]
Ranking = Literal["clip", "likelihood", "both", "none"]


@dataclass(frozen=True, kw_only=True)
class Sampling(Config):
    """How tokens are drawn, and candidates ranked.

    Args:
        temperature: Above 0; lower is safer, 1 is the model's own distribution.
        top_k: Draw among this many likeliest tokens, and those that are as likely as the last of them; None among all.
        top_p: Draw among the likeliest tokens that make up this probability, in (0, 1]; None among all.
        guidance_scale: From 0; 1 is no guidance, higher follows the prompt more closely.
        guidance_schedule: `constant`, or rising from 1 at the first token to `guidance_scale` at the last, `linear` or
            as half a `cosine`; see `guidance_scales`.
        decoder: `sequential` draws one token a pass. `jacobi` draws several, in fewer passes, and the same picture.
        jacobi_window: How many tokens of a picture a pass of the Jacobi decoder reads.
        ranking: What orders the candidates: the model's ranker (`clip`), how much likelier the caption makes the
            picture's tokens to the transformer (`likelihood`), the sum of both, or nothing.
    """

    temperature: Annotated[float, Range(1e-6, 100)] = 1.0
    top_k: Annotated[int, Range(1, 2**31 - 1)] | None = None
    top_p: Annotated[float, Range(1e-6, 1)] | None = None
    guidance_scale: Annotated[float, Range(0, 100)] = 3.0
    guidance_schedule: GuidanceSchedule = "constant"
    decoder: DecoderName = "sequential"
    jacobi_window: Count = 8
    ranking: Ranking = "clip"

    def __post_init__(self) -> None:
        super().__post_init__()
        choices = {"guidance_schedule": GuidanceSchedule, "decoder": DecoderName, "ranking": Ranking}
        for name, literal in choices.items():
            known = get_args(literal)
            self._require(getattr(self, name) in known, name, expected=f"one of {', '.join(known)}")

    @property
    def guided(self) -> bool:
        """Whether the unconditional half is needed."""
        return self.guidance_scale != 1


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
