"""A request's way through the scheduler, seen from the event loop."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing, suppress
from typing import TypeVar

from fastapi import Request

from trencadis.serving.faults import ApiError, of_failure
from trencadis.serving.jobs import Event, Failed, Finished, Job
from trencadis.serving.orders import Order
from trencadis.serving.settings import ServingConfig

CLIENT_LEFT = 499  # the status; nobody reads it but the log
ResultT = TypeVar("ResultT")


class ClientLeftError(Exception):
    """The client closed its connection before the answer."""


class Ticket:
    """A job in the scheduler, and its events.

    Raises:
        ApiError: The scheduler takes no more.
    """

    def __init__(self, order: Order, client: str, config: ServingConfig, *, partials: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

        def publish(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        self._scheduler = order.model.scheduler
        self._job = Job(
            prepared=order.prepared,
            client=client,
            deadline=time.monotonic() + config.deadline_s,
            publish=publish,
            partials=partials,
            shown=order.body.keep,
        )
        self._scheduler.submit(self._job)

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what happens, up to `Finished`.

        Raises:
            ApiError: It failed.
        """
        while True:
            event = await self._events.get()
            if isinstance(event, Failed):
                raise of_failure(event.error)
            yield event
            if isinstance(event, Finished):
                return

    def leave(self) -> None:
        """Stop drawing, if it is not over."""
        self._scheduler.leave(self._job)


async def drawn_for(request: Request, ticket: Ticket) -> Finished:
    """Return what was drawn, unless the client leaves before; its drawing stops then.

    Raises:
        ApiError: It failed.
        ClientLeftError: The client has left.
    """
    try:
        return await unless_client_leaves(request, _finished(ticket))
    finally:
        ticket.leave()


async def unless_client_leaves(request: Request, work: Awaitable[ResultT]) -> ResultT:
    """Return what the work results in, or raise what it raises; it is cancelled if the client leaves before.

    Raises:
        ClientLeftError: The client has left.
    """
    working = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((working, left), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeftError
        return working.result()
    finally:
        for task in (working, left):
            task.cancel()
        await asyncio.gather(working, left, return_exceptions=True)


async def _finished(ticket: Ticket) -> Finished:
    async with aclosing(ticket.events()) as events:
        async for event in events:
            if isinstance(event, Finished):
                return event
    raise ApiError(500, "The drawing ended without pictures.", "internal_error")


async def _disconnected(request: Request) -> None:
    """Wait until the client has left; the body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
