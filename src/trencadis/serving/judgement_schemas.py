"""Bodies of the requests that ask what a model makes of captions and pictures, and of their answers."""

from pydantic import BaseModel, ConfigDict, Field

from trencadis.serving.schemas import of_sampling

MAX_TILES = 16
Rows = list[list[int]]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, max_length=300, description="a model of `/v1/models`; else the first")
    prompt: str = Field(max_length=32_000, description="an empty one is no caption")


class CaptionAsked(_Asked):
    """POST /v1/trencadis/captions."""


class SurpriseAsked(_Asked):
    """POST /v1/trencadis/surprise."""

    tokens: Rows | None = Field(default=None, description="rows of image tokens of a picture")
    image: str | None = Field(default=None, description="a picture in their place: base64 of a PNG, JPEG or WebP")


class TilesAsked(_Asked):
    """POST /v1/trencadis/tiles."""

    tokens: Rows = Field(description="rows of image tokens of a picture")
    row: int = Field(ge=0, description="of the place, from 0")
    column: int = Field(ge=0, description="of the place, from 0")
    count: int = Field(default=8, ge=1, le=MAX_TILES)
    guidance_scale: float | None = of_sampling("guidance_scale")


class CaptionRead(BaseModel):
    """How a model reads a caption."""

    tokens: int = Field(description="of the whole caption")
    text_len: int = Field(description="the most tokens that the model reads")
    truncated: bool
    read: str = Field(description="the part that the model reads, as it spells it")


class SurpriseRead(BaseModel):
    """How surprising each token of a picture is: -log2 of its probability, given the tokens before it."""

    tokens: Rows
    bits: list[list[float]] = Field(description="with the caption")
    bits_without_caption: list[list[float]]
    log_probability: float = Field(description="ln p(picture | caption)")
    likelihood: float = Field(description="what the caption adds to it, in nats a token; the score of this ranking")


class TileShown(BaseModel):
    token: int
    probability: float = Field(description="that it is drawn with, before temperature, top-k and top-p")
    b64_json: str = Field(description="a PNG of the picture with this tile in place")


class TilesShown(BaseModel):
    """The likeliest tiles at a place, and the one that is there."""

    tiles: list[TileShown]
    current: TileShown
