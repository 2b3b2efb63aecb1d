"""From a request's body to what is drawn, and from what was drawn to an answer."""

import base64
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from trencadis.data.colours import on_white
from trencadis.drawn import Drawn, Record
from trencadis.errors import UserError
from trencadis.generation import Prepared, overridden, partial_images
from trencadis.sampling import Partial
from trencadis.serving.bodies import Sent
from trencadis.serving.faults import ApiError, of_user_error
from trencadis.serving.models import ServedModel
from trencadis.serving.pictures import encoded, output_size, read_upload
from trencadis.serving.schemas import Datum, Drawing, Edit, Generation, Images, TokenDetails, Usage, Variation
from trencadis.serving.settings import ServingConfig


@dataclass(frozen=True)
class Order:
    """A request that can be drawn, and how it is answered."""

    body: Drawing
    model: ServedModel
    prepared: Prepared
    size: tuple[int, int]  # width and height
    text_tokens: int
    revised_prompt: str | None  # what was read of a prompt that is too long

    @property
    def output_format(self) -> str:
        return self.body.output_format or "png"

    @property
    def usage(self) -> Usage:
        """Return the tokens that were read and drawn."""
        kept = self.prepared.request.image_prompt
        image_tokens = 0 if kept is None else int(kept.kept.sum())
        drawn = len(self.prepared.asked.seeds) * self.model.image_len
        details = TokenDetails(image_tokens=image_tokens, text_tokens=self.text_tokens)
        read = image_tokens + self.text_tokens
        return Usage(input_tokens=read, input_tokens_details=details, output_tokens=drawn, total_tokens=read + drawn)

    @property
    def described(self) -> dict[str, Any]:
        """Return what answers and events say of their pictures."""
        return {
            "output_format": self.output_format,
            "quality": getattr(self.body, "quality", None) or "auto",
            "size": f"{self.size[0]}x{self.size[1]}",
            "background": "opaque",
        }

    def file(self, image: Image.Image, record: Record | None = None) -> bytes:
        """Return a picture as a file in the format that is asked for."""
        return encoded(image, record, self.output_format, self.body.output_compression, self.size)

    def partial_file(self, partial: Partial) -> bytes:
        """Return a picture that is not finished as a file; what is not drawn yet is grey."""
        return self.file(partial_images(self.model.dalle.image_tokenizer, partial)[0])

    def files(self, drawn: Drawn) -> list[bytes]:
        return [self.file(image, record) for image, record in zip(drawn.images, drawn.records, strict=True)]

    def images(self, drawn: Drawn, places: list[dict[str, str]]) -> Images:
        """Return the answer.

        Args:
            places: `b64_json` or `url` of each picture.
        """
        data = [
            Datum(**described, revised_prompt=self.revised_prompt, **place)
            for described, place in zip(pictures_of(drawn), places, strict=True)
        ]
        return Images(created=int(time.time()), data=data, usage=self.usage, **self.described)


def pictures_of(drawn: Drawn) -> list[dict[str, Any]]:
    """Return what is said of each picture: its seed, its scores where it has any, its image tokens."""
    return [
        {
            "seed": record.seed,
            "clip_score": record.score if record.sampling.ranking == "clip" else None,
            "score": record.score,
            "image_tokens": tokens.tolist(),
        }
        for record, tokens in zip(drawn.records, drawn.image_tokens, strict=True)
    ]


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def prepare(body: Drawing, sent: Sent, model: ServedModel, config: ServingConfig) -> Order:
    """Check a request, and read its prompt and pictures.

    Raises:
        ApiError: It cannot be drawn.
    """
    prompt: str = getattr(body, "prompt", "")
    _check_limits(body, prompt, config)
    size = output_size(body.size, model.drawn_size)
    dalle = model.dalle
    kept = _image_prompt(body, sent, model, config)
    if isinstance(body, Generation):
        kept = {"image_tokens": body.image_tokens, "kept_tokens": body.kept_tokens}
    try:
        ranking = overridden(dalle.sampling, body.sampling, has_ranker=dalle.ranker is not None).ranking
        candidates = body.candidate_count(is_ranked=ranking != "none", most=config.max_candidates)
        prepared = dalle.prepare(
            prompt, candidates=candidates, keep=body.keep, seed=body.seed, negative_prompt=body.negative_prompt,
            weights=config.weights, **kept, **body.sampling,
        )  # fmt: skip
    except UserError as error:
        raise of_user_error(error) from error
    return Order(body, model, prepared, size, *_as_read(prompt, model))


def check_length(name: str, text: str, config: ServingConfig) -> None:
    """Raise an `ApiError` where a text is longer than the server reads."""
    if len(text) > config.max_prompt_chars:
        message = f"{name} has {len(text):,} characters; expected at most {config.max_prompt_chars:,}; shorten it."
        raise ApiError(400, message, "invalid_value", param=name)


def _check_limits(body: Drawing, prompt: str, config: ServingConfig) -> None:
    most, stream = config.max_candidates, getattr(body, "stream", False)
    check_length("prompt", prompt, config)
    check_length("negative_prompt", body.negative_prompt or "", config)
    if body.candidates is not None and not body.keep <= body.candidates <= most:
        message = f"candidates is {body.candidates}; expected n or more, and at most {most}."
        raise ApiError(400, message, "invalid_value", param="candidates")
    if stream and body.response_format == "url":
        message = "response_format is url; a stream answers b64_json; leave one of the two out."
        raise ApiError(400, message, "invalid_value", param="response_format")


def _image_prompt(body: Drawing, sent: Sent, model: ServedModel, config: ServingConfig) -> dict[str, Any]:
    """Return the image prompt's arguments of `DALLE.prepare`."""
    if sent.image is None:
        return {}
    image = read_upload(sent.image, "image", config)
    keep_rows = body.keep_rows if isinstance(body, Edit | Variation) else None
    if isinstance(body, Variation):
        if image.width != image.height:
            message = f"image has {image.width}×{image.height} pixels; expected a square; crop it."
            raise ApiError(400, message, "invalid_value", param="image")
        rows = model.dalle.image_tokenizer.grid_size[0]
        return {"image": on_white(image), "keep_rows": rows // 2 if keep_rows is None else keep_rows}
    mask = None if sent.mask is None else read_upload(sent.mask, "mask", config, formats=("PNG",))
    if mask is not None and mask.size != image.size:
        given, expected = (f"{one.width}×{one.height}" for one in (mask, image))
        message = f"mask has {given} pixels; expected the image's {expected}; resize it."
        raise ApiError(400, message, "invalid_value", param="mask")
    if mask is None and keep_rows is None:
        mask = _own_mask(image)
    return {"image": on_white(image), "mask": mask, "keep_rows": keep_rows}


def _own_mask(image: Image.Image) -> Image.Image:
    """Return a picture as its own mask: where it is transparent, it is drawn anew."""
    if "A" not in image.getbands() or not np.any(np.asarray(image.getchannel("A")) < 128):
        message = "mask is missing; expected one, or an image with transparent pixels, or keep_rows."
        raise ApiError(400, message, "missing_required_parameter", param="mask")
    return image


def _as_read(prompt: str, model: ServedModel) -> tuple[int, str | None]:
    """Return how many tokens of a prompt are read, and what they say where it is too long."""
    tokenizer, room = model.dalle.text_tokenizer, model.text_len
    tokens = tokenizer.encode(prompt) if prompt.strip() else []
    return min(len(tokens), room), tokenizer.decode(tokens[:room]) if len(tokens) > room else None
