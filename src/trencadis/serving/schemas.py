"""Bodies of requests and answers, as the OpenAI Images API has them, and the extension fields."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from trencadis.config.base import Range, notes
from trencadis.drawn import MAX_SEED
from trencadis.sampling import DecoderName, GuidanceSchedule, Ranking, Sampling

OutputFormat = Literal["png", "jpeg", "webp"]
Quality = Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"]
MAX_PICTURES = 10
MAX_PARTIALS = 3
# Of candidates for each picture that is kept.
CANDIDATES_BY_QUALITY: dict[str | None, int] = {"low": 1, "high": 8, "hd": 8, "xhigh": 16, "max": 32}
USUAL_CANDIDATES = 4


def _refuse(value: Any) -> None:
    if value is not None:
        raise PydanticCustomError("unsupported_parameter", "not supported")


Unsupported = Annotated[None, BeforeValidator(_refuse), WithJsonSchema({"type": "null"})]


def of_sampling(name: str) -> Any:
    """Return a field with the range that `Sampling` has for it."""
    limits = notes(Sampling, Range)[name]
    return Field(default=None, ge=limits.low, le=limits.high, allow_inf_nan=False)


class Drawing(BaseModel):
    """What every request that draws may say; null is the default."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, max_length=300, description="a model of `/v1/models`; else the first")
    n: int | None = Field(default=None, ge=1, le=MAX_PICTURES, description="pictures; 1 by default")
    size: str | None = Field(default=None, max_length=20, description="auto, the model's own, or a square of it")
    response_format: Literal["url", "b64_json"] | None = Field(default=None, description="b64_json by default")
    output_format: OutputFormat | None = Field(default=None, description="png by default")
    output_compression: int | None = Field(default=None, ge=0, le=100, description="quality of jpeg and webp")
    user: str | None = Field(default=None, max_length=300)

    seed: int | None = Field(default=None, ge=0, le=MAX_SEED, description="of the first candidate; else a new one")
    candidates: int | None = Field(default=None, ge=1, description="how many are drawn, of which the best n are kept")
    guidance_scale: float | None = of_sampling("guidance_scale")
    guidance_schedule: GuidanceSchedule | None = None
    negative_prompt: str | None = Field(default=None, max_length=32_000)
    temperature: float | None = of_sampling("temperature")
    top_k: int | None = of_sampling("top_k")
    top_p: float | None = of_sampling("top_p")
    decoder: DecoderName | None = None
    ranking: Ranking | None = Field(default=None, description="what orders candidates; else as the model has it")

    @property
    def keep(self) -> int:
        return self.n or 1

    @property
    def sampling(self) -> dict[str, Any]:
        """Settings in place of the model's."""
        names = ("guidance_scale", "guidance_schedule", "temperature", "top_k", "top_p", "decoder", "ranking")
        return {name: getattr(self, name) for name in names}

    def candidate_count(self, *, is_ranked: bool, most: int) -> int:
        """Return how many are drawn where the request does not say so: more for a higher quality."""
        if self.candidates is not None or not is_ranked:
            return self.candidates or self.keep
        each = CANDIDATES_BY_QUALITY.get(getattr(self, "quality", None), USUAL_CANDIDATES)
        return max(self.keep, min(each * self.keep, most))


class _Described(Drawing):
    """What requests with a prompt may say besides."""

    prompt: str = Field(max_length=32_000)
    quality: Quality | None = Field(default=None, description="a higher one draws more candidates")
    background: Literal["transparent", "opaque", "auto"] | None = None
    safety_identifier: str | None = Field(default=None, max_length=300)
    stream: bool | None = Field(default=None, description="answer with server-sent events")
    partial_images: int | None = Field(default=None, ge=0, le=MAX_PARTIALS, description="of each picture, in a stream")
    complexity: Unsupported = None
    frame_count: Unsupported = None
    frame_duration_ms: Unsupported = None
    svg: Unsupported = None
    effort: Unsupported = None
    reasoning: Unsupported = None


class Generation(_Described):
    """POST /v1/images/generations."""

    moderation: Literal["low", "auto"] | None = None
    style: Literal["vivid", "natural"] | None = None
    image_tokens: list[list[int]] | None = Field(default=None, description="rows of a picture whose first tokens stay")
    kept_tokens: int | None = Field(default=None, ge=0, description="how many of them stay, in raster order")


class _Kept(BaseModel):
    keep_rows: int | None = Field(default=None, ge=0, description="rows of tokens that stay, in place of a mask")


class Edit(_Described, _Kept):
    """POST /v1/images/edits, but for its pictures."""

    input_fidelity: Literal["high", "low"] | None = None
    markup: Unsupported = None


class Variation(Drawing, _Kept):
    """POST /v1/images/variations, but for its picture."""


class PictureReference(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image_url: str = Field(description="a data URL; no other is fetched", pattern="^data:")


class EditJson(Edit):
    """An edit as JSON."""

    images: list[PictureReference] = Field(min_length=1, max_length=1)
    mask: PictureReference | None = None


class EditForm(Edit):
    """An edit as multipart; its schema only."""

    image: bytes = Field(json_schema_extra={"format": "binary"})
    mask: bytes | None = Field(default=None, json_schema_extra={"format": "binary"})


class VariationForm(Variation):
    """A variation as multipart; its schema only."""

    image: bytes = Field(json_schema_extra={"format": "binary"})


class Datum(BaseModel):
    """A picture that was drawn."""

    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = Field(default=None, description="what was read of a prompt that is too long")
    seed: int = Field(description="draws this very picture again")
    clip_score: float | None = Field(default=None, description="where CLIP alone ranks")
    score: float | None = Field(default=None, description="what the ranking orders by")
    image_tokens: list[list[int]] = Field(description="rows of the picture's tokens")


class TokenDetails(BaseModel):
    image_tokens: int
    text_tokens: int


class Usage(BaseModel):
    input_tokens: int
    input_tokens_details: TokenDetails
    output_tokens: int = Field(description="of all candidates")
    total_tokens: int


class Images(BaseModel):
    """An answer with pictures, best first."""

    created: int
    data: list[Datum]
    output_format: OutputFormat
    quality: str
    size: str
    background: Literal["opaque"] = "opaque"
    usage: Usage


class ErrorDetails(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """Any answer but a good one."""

    error: ErrorDetails


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "trencadis"
    rows: int = Field(description="of image tokens")
    columns: int
    width: int = Field(description="of its pictures, in pixels")
    height: int
    text_len: int = Field(description="the most tokens that it reads of a prompt")
    sampling: dict[str, float | int | str | None] = Field(description="how it draws by default")
    rankings: list[str]


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
