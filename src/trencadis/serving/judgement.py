"""Routes that ask what a model makes of captions and pictures; the page's mosaic editor is made of them."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from PIL import Image

from trencadis.errors import UserError
from trencadis.judgement import Surprise, Tile, Tiles
from trencadis.pipeline import DALLE
from trencadis.sampling import Grid, token_grid
from trencadis.serving.bodies import read_json
from trencadis.serving.documents import body, errors
from trencadis.serving.drawing import CLIENT_LEFT, ClientLeftError, unless_client_leaves
from trencadis.serving.faults import ApiError, of_user_error
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
AskedT = TypeVar("AskedT", SurpriseAsked, TilesAsked)
AnswerT = TypeVar("AnswerT", Surprise, Tiles)
Picture = Image.Image | Grid


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
    found = await _answered(request, client, asked, _picture, lambda model, own: model.surprise(own, asked.prompt))
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

    def answer(model: DALLE, picture: Picture) -> Tiles:
        return model.tiles(
            picture, asked.prompt, asked.row, asked.column, count=asked.count, guidance_scale=asked.guidance_scale
        )

    found = await _answered(request, client, asked, _tokens, answer)
    if found is None:
        return Response(status_code=CLIENT_LEFT)
    return await asyncio.get_running_loop().run_in_executor(State.of(request).workers, _shown, found)


def _shown(found: Tiles) -> TilesShown:
    return TilesShown(tiles=[_tile(each) for each in found.likeliest], current=_tile(found.current))


def _tile(tile: Tile) -> TileShown:
    content = encoded(tile.image, None, "png", None, tile.image.size)
    return TileShown(token=tile.token, probability=tile.probability, b64_json=as_base64(content))


async def _answered(
    request: Request,
    client: str,
    asked: AskedT,
    read: Callable[[AskedT, ServedModel, ServingConfig], Picture],
    answer: Callable[[DALLE, Picture], AnswerT],
) -> AnswerT | None:
    """Return what a model answers; None where the client has left.

    Args:
        read: Returns the request's picture, in a worker.
        answer: Asks the model, in the thread that draws, between two passes.
    """
    state = State.of(request)
    log_prompt(request, asked.prompt)
    model = state.models.find(asked.model)
    check_length("prompt", asked.prompt, state.config)
    picture = await asyncio.get_running_loop().run_in_executor(state.workers, read, asked, model, state.config)
    question = Question(lambda: answer(model.dalle, picture), client, state.config.deadline_s)
    model.scheduler.ask(question)
    try:
        answered: AnswerT = await unless_client_leaves(request, asyncio.wrap_future(question.answered))
    except ClientLeftError:
        return None
    return answered


def _tokens(asked: SurpriseAsked | TilesAsked, model: ServedModel, config: ServingConfig) -> Picture:
    assert asked.tokens is not None
    try:
        return token_grid(asked.tokens, model.dalle.transformer.stream, name="tokens")
    except UserError as error:
        raise of_user_error(error) from error


def _picture(asked: SurpriseAsked, model: ServedModel, config: ServingConfig) -> Picture:
    if (asked.image is None) == (asked.tokens is None):
        given = "image and tokens are missing" if asked.image is None else "image is beside tokens"
        raise ApiError(400, f"{given}; expected one of the two.", "invalid_value", param="image")
    if asked.image is None:
        return _tokens(asked, model, config)
    return read_upload(from_base64(asked.image, "image"), "image", config)
