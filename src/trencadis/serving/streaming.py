"""Answers as server-sent events: partial pictures while they are drawn, then each picture."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Executor
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from trencadis.serving.drawing import Ticket
from trencadis.serving.faults import ApiError
from trencadis.serving.jobs import Finished, PartialPicture, Progress, Queued
from trencadis.serving.orders import Order, as_base64, pictures_of
from trencadis.spelling import json_text


class EventStream(StreamingResponse):
    """An answer that calls `on_end` when it is over, and when its client leaves."""

    def __init__(self, content: AsyncGenerator[str, None], on_end: Callable[[], None]) -> None:
        # A proxy that holds events back would show them all at the end.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._content, self._on_end = content, on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._on_end()
            await self._content.aclose()


async def events(order: Order, ticket: Ticket, kind: str, encoders: Executor) -> AsyncGenerator[str, None]:
    """Yield the events of a request.

    Comments say how many requests are before it while it waits, and then how many tokens are drawn. A failure is an
    event too, as the answer has begun.

    Args:
        kind: `image_generation` or `image_edit`.
    """
    loop = asyncio.get_running_loop()
    try:
        async for event in ticket.events():
            if isinstance(event, Queued):
                yield f": {event.position} requests before this one\n\n"
            elif isinstance(event, Progress):
                yield f": {event.drawn} of {event.total} tokens\n\n"
            elif isinstance(event, PartialPicture):
                content = await loop.run_in_executor(encoders, order.partial_file, event.partial)
                own: dict[str, Any] = {"partial_image_index": event.index, "image_index": event.picture}
                yield _event(order, f"{kind}.partial_image", content, own)
            elif isinstance(event, Finished):
                contents = await loop.run_in_executor(encoders, order.files, event.drawn)
                for index, (content, of_picture) in enumerate(zip(contents, pictures_of(event.drawn), strict=True)):
                    own = {"image_index": index, **of_picture, "usage": order.usage.model_dump()}
                    if order.revised_prompt is not None:
                        own["revised_prompt"] = order.revised_prompt
                    yield _event(order, f"{kind}.completed", content, own)
    except ApiError as error:
        yield f"data: {json_text(error.body)}\n\n"


def _event(order: Order, kind: str, content: bytes, own: dict[str, Any]) -> str:
    data = {"type": kind, "b64_json": as_base64(content), "created_at": int(time.time()), **order.described, **own}
    return f"event: {kind}\ndata: {json_text(data)}\n\n"
