"""Settings of the server, and their ranges."""

from dataclasses import dataclass
from typing import Annotated

from trencadis.config.base import Amount, Config, Count, PlaceText, Range
from trencadis.transformer import Weights


@dataclass(frozen=True, kw_only=True)
class ServingConfig(Config):
    """What a server accepts, and how much of it at a time.

    Args:
        batch_size: Pictures of one model that are drawn at a time.
        weights: Type of the transformers' weights while they draw; None takes the one that each is stored in.
        max_waiting: Requests that are drawn or wait, of each model; one more is answered with 429.
        max_candidates: Pictures that one request may draw.
        deadline_s: Seconds until a request that is not finished is answered with 503.
        grace_s: Seconds that admitted requests get after SIGTERM.
        rate_limit: Requests a minute of each key, or of each address where there are no keys; None is no limit.
        max_body_bytes: Of a request.
        max_picture_bytes: Of a picture that is sent.
        max_pixels: Of a picture that is sent.
        max_prompt_chars: Of a prompt.
        link_minutes: How long the URL of a picture is good for.
        link_bytes: Of all pictures that have a URL; beyond it, the oldest are dropped.
        keys_file: SHA-256 digests of API keys, a line each, as `sha256sum` prints them; None takes the keys of the
            environment alone.
        allow_origins: Origins whose pages may use the API (CORS).
        log_prompts: Write prompts into the log.
    """

    batch_size: Annotated[int, Range(1, 1024)] = 32
    weights: Weights | None = None
    max_waiting: Count = 64
    max_candidates: Annotated[int, Range(10, 4096)] = 64
    deadline_s: Annotated[float, Range(0.1)] = 120.0
    grace_s: Amount = 60.0
    rate_limit: Count | None = None
    max_body_bytes: Annotated[int, Range(1024)] = 16 * 2**20
    max_picture_bytes: Annotated[int, Range(1024)] = 4 * 2**20
    max_pixels: Count = 4096 * 4096
    max_prompt_chars: Annotated[int, Range(1, 4096)] = 4096
    link_minutes: Annotated[float, Range(0.001)] = 60.0
    link_bytes: Count = 256 * 2**20
    keys_file: PlaceText | None = None
    allow_origins: tuple[str, ...] = ()
    log_prompts: bool = False
