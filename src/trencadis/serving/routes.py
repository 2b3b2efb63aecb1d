"""What can be asked, and who may."""

import asyncio
import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from trencadis.serving import bodies
from trencadis.serving.bodies import Sent
from trencadis.serving.documents import EVENTS, body, errors
from trencadis.serving.drawing import CLIENT_LEFT, ClientLeftError, Ticket, drawn_for
from trencadis.serving.faults import ApiError
from trencadis.serving.guard import LOG
from trencadis.serving.models import ServedModel
from trencadis.serving.orders import Order, as_base64, prepare
from trencadis.serving.schemas import (
    Drawing,
    EditForm,
    EditJson,
    Generation,
    Images,
    ModelCard,
    ModelList,
    VariationForm,
)
from trencadis.serving.state import State
from trencadis.serving.streaming import EventStream, events
from trencadis.spelling import printable


def may_ask(request: Request) -> str:
    """Return who asks."""
    return State.of(request).client(request)


def _may_draw(request: Request) -> str:
    """Return who asks, and count the request."""
    client = may_ask(request)
    State.of(request).rates.count(client)
    return client


def log_prompt(request: Request, prompt: str) -> None:
    """Write a prompt into the log, if the server is asked to."""
    if State.of(request).config.log_prompts:
        LOG.info("%s prompt: %s", request.state.request_id, printable(prompt))


Client = Annotated[str, Depends(_may_draw)]
api = APIRouter(prefix="/v1")
about = APIRouter()
_drawing: dict[str, Any] = {"response_model": Images, "response_model_exclude_none": True}
_refused = errors(400, 401, 404, 408, 413, 429, 503)
_streamed: dict[int | str, dict[str, Any]] = {200: {"content": EVENTS}, **_refused}


@api.post("/images/generations", responses=_streamed, openapi_extra=body(json=Generation), **_drawing)
async def generations(request: Request, client: Client) -> Any:
    """Draw pictures from a prompt."""
    return await _answer(request, client, await bodies.read_json(request, Generation), Sent(), "image_generation")


@api.post("/images/edits", responses=_streamed, openapi_extra=body(form=EditForm, json=EditJson), **_drawing)
async def edits(request: Request, client: Client) -> Any:
    """Draw a part of a picture anew."""
    edit, sent = await bodies.read_edit(request)
    return await _answer(request, client, edit, sent, "image_edit")


@api.post("/images/variations", responses=_refused, openapi_extra=body(form=VariationForm), **_drawing)
async def variations(request: Request, client: Client) -> Any:
    """Keep the upper part of a picture, and draw the rest anew without a prompt."""
    variation, sent = await bodies.read_variation(request)
    return await _answer(request, client, variation, sent, "image_variation")


async def _answer(request: Request, client: str, asked: Drawing, sent: Sent, kind: str) -> Any:
    state = State.of(request)
    log_prompt(request, getattr(asked, "prompt", ""))
    model = state.models.find(asked.model)
    loop = asyncio.get_running_loop()
    order = await loop.run_in_executor(state.workers, prepare, asked, sent, model, state.config)
    if getattr(asked, "stream", False):
        partials = getattr(asked, "partial_images", None) or 0
        ticket = Ticket(order, client, state.config, partials=partials)
        return EventStream(events(order, ticket, kind, state.workers), ticket.leave)
    ticket = Ticket(order, client, state.config)
    try:
        finished = await drawn_for(request, ticket)
    except ClientLeftError:
        return Response(status_code=CLIENT_LEFT)
    contents = await loop.run_in_executor(state.workers, order.files, finished.drawn)
    return order.images(finished.drawn, [_place(request, order, content) for content in contents])


def _place(request: Request, order: Order, content: bytes) -> dict[str, str]:
    if order.body.response_format != "url":
        return {"b64_json": as_base64(content)}
    name = State.of(request).links.add(content, order.output_format)
    return {"url": str(request.url_for("picture", name=name))}


@api.get("/models", responses=errors(401), dependencies=[Depends(may_ask)])
async def models(request: Request) -> ModelList:
    """Return the models; the first is the one that draws where a request names none."""
    return ModelList(data=[_card(model) for model in State.of(request).models])


@api.get("/models/{name:path}", responses=errors(401, 404), dependencies=[Depends(may_ask)])
async def model(request: Request, name: str) -> ModelCard:
    """Return one model."""
    return _card(State.of(request).models.find(name))


def _card(served: ServedModel) -> ModelCard:
    (rows, columns), (width, height) = served.dalle.transformer.stream.grid_size, served.drawn_size
    return ModelCard(
        id=served.name, created=served.created, rows=rows, columns=columns, width=width, height=height,
        text_len=served.text_len, sampling=dataclasses.asdict(served.dalle.sampling),
        rankings=list(served.dalle.rankings),
    )  # fmt: skip


@about.get("/pictures/{name}", responses={200: {"content": {"image/*": {}}}, **errors(404)}, response_class=Response)
async def picture(request: Request, name: str) -> Response:
    """Return a picture whose URL was answered, as long as the URL is good."""
    linked = State.of(request).links.get(name)
    if linked is None:
        raise ApiError(404, "There is no such picture, or its URL has expired; draw it again.", "not_found")
    return Response(linked.content, media_type=linked.media_type, headers={"Cache-Control": "private, no-store"})


@about.get("/health")
async def health() -> dict[str, str]:
    """Answer while the process lives."""
    return {"status": "ok"}


@about.get("/ready", responses=errors(503))
async def ready(request: Request) -> dict[str, str]:
    """Answer with 503 once the server is about to stop."""
    state = State.of(request)
    if state.is_draining or not state.models.are_ready:
        raise ApiError(503, "The server is about to stop.", "shutting_down", retry_after_s=5.0)
    return {"status": "ready"}


@about.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return counters for Prometheus."""
    return Response(State.of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
