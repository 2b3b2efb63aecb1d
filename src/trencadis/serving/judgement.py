"""Routes that ask what a model makes of captions and pictures; the page's mosaic editor is made of them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from PIL import Image

from trencadis.judgement import Surprise, Tile, Tiles
from trencadis.sampling import Grid, token_grid
from trencadis.serving.bodies import read_json
from trencadis.serving.documents import body, errors
from trencadis.serving.drawing import CLIENT_LEFT, ClientLeftError, unless_client_leaves
from trencadis.serving.faults import ApiError
from trencadis.serving.judgement_schemas import (
    CaptionAsked,
    CaptionRead,
    SurpriseAsked,
    SurpriseRead,
    TilesAsked,
    TileShown,
    TilesShown,
)
from trencadis.serving.models import ServedModel
from trencadis.serving.orders import as_base64, check_length
from trencadis.serving.pictures import encoded, from_base64, read_upload
from trencadis.serving.questions import Question
from trencadis.serving.routes import Client, log_prompt, may_ask
from trencadis.serving.settings import ServingConfig
from trencadis.serving.state import State

judging = APIRouter(prefix="/v1/trencadis")
_refused = errors(400, 401, 404, 408, 413, 429, 503)
AskedT = TypeVar("AskedT", CaptionAsked, SurpriseAsked, TilesAsked)


@dataclass(frozen=True)
class _Read:
    """A request to a model that can be answered."""

    model: ServedModel
    picture: Image.Image | Grid


@judging.post(
    "/captions", responses=errors(400, 401, 404, 408, 413), openapi_extra=body(json=CaptionAsked),
    dependencies=[Depends(may_ask)],
)  # fmt: skip
async def captions(request: Request) -> CaptionRead:
    """Say how a model reads a caption. It costs next to nothing, and is not counted as a request."""
    state, asked = State.of(request), await read_json(request, CaptionAsked)
    model = state.models.find(asked.model)
    return await asyncio.get_running_loop().run_in_executor(state.workers, _caption_read, asked, model, state.config)


def _caption_read(asked: CaptionAsked, model: ServedModel, config: ServingConfig) -> CaptionRead:
    check_length("prompt", asked.prompt, config)
    tokenizer, room = model.dalle.text_tokenizer, model.text_len
    tokens = tokenizer.encode(asked.prompt) if asked.prompt.strip() else []
    read = tokenizer.decode(tokens[:room])
    return CaptionRead(tokens=len(tokens), text_len=room, truncated=len(tokens) > room, read=read)


@judging.post("/surprise", responses=_refused, openapi_extra=body(json=SurpriseAsked), response_model=SurpriseRead)
async def surprise(request: Request, client: Client) -> Any:
    """Say how surprising each token of a picture is."""
    asked = await read_json(request, SurpriseAsked)
    read = await _read(request, asked, _picture)
    found: Surprise | None = await _answer(
        request, client, read, lambda: read.model.dalle.surprise(read.picture, asked.prompt)
    )
    if found is None:
        return Response(status_code=CLIENT_LEFT)
    return SurpriseRead(
        tokens=found.image_tokens.tolist(),
        bits=found.bits.tolist(),
        bits_without_caption=found.bits_without_caption.tolist(),
        log_probability=found.log_probability,
        likelihood=found.likelihood,
    )


@judging.post("/tiles", responses=_refused, openapi_extra=body(json=TilesAsked), response_model=TilesShown)
async def tiles(request: Request, client: Client) -> Any:
    """Return the likeliest tiles at a place of a picture, each with the picture that it would make."""
    asked = await read_json(request, TilesAsked)
    read = await _read(request, asked, _tokens)
    how = {"count": asked.count, "guidance_scale": asked.guidance_scale}
    found: Tiles | None = await _answer(
        request, client, read,
        lambda: read.model.dalle.tiles(read.picture, asked.prompt, asked.row, asked.column, **how),
    )  # fmt: skip
    if found is None:
        return Response(status_code=CLIENT_LEFT)
    return await asyncio.get_running_loop().run_in_executor(State.of(request).workers, _shown, found)


def _shown(found: Tiles) -> TilesShown:
    return TilesShown(tiles=[_tile(each) for each in found.likeliest], current=_tile(found.current))


def _tile(tile: Tile) -> TileShown:
    content = encoded(tile.image, None, "png", None, tile.image.size)
    return TileShown(token=tile.token, probability=tile.probability, b64_json=as_base64(content))


async def _read(
    request: Request, asked: AskedT, read: Callable[[AskedT, ServedModel, ServingConfig], Image.Image | Grid]
) -> _Read:
    """Check a request, and read its picture outside the event loop."""
    state = State.of(request)
    log_prompt(request, asked.prompt)
    model = state.models.find(asked.model)
    check_length("prompt", asked.prompt, state.config)
    picture = await asyncio.get_running_loop().run_in_executor(state.workers, read, asked, model, state.config)
    return _Read(model, picture)


def _tokens(asked: TilesAsked, model: ServedModel, config: ServingConfig) -> Grid:
    return token_grid(asked.tokens, model.dalle.transformer.stream, name="tokens")


def _picture(asked: SurpriseAsked, model: ServedModel, config: ServingConfig) -> Image.Image | Grid:
    if asked.tokens is not None and asked.image is None:
        return token_grid(asked.tokens, model.dalle.transformer.stream, name="tokens")
    if asked.image is None or asked.tokens is not None:
        given = "image is beside tokens" if asked.image is not None else "image and tokens are missing"
        raise ApiError(400, f"{given}; expected one of the two.", "invalid_value", param="image")
    return read_upload(from_base64(asked.image, "image"), "image", config)


async def _answer(request: Request, client: str, read: _Read, answer: Callable[[], Any]) -> Any:
    """Return what the scheduler's thread answers between two passes of drawing; None where the client has left."""
    question = Question(answer, client, State.of(request).config.deadline_s)
    read.model.scheduler.ask(question)
    try:
        return await unless_client_leaves(request, asyncio.wrap_future(question.answered))
    except ClientLeftError:
        return None
