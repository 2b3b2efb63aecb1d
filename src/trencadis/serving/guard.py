"""Around every request: its id, the limit of its body, the log and the metrics."""

import logging
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trencadis.serving.faults import ApiError
from trencadis.serving.metrics import Metrics
from trencadis.spelling import printable

LOG = logging.getLogger("trencadis.serving")
_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


class Guard:
    """ASGI middleware.

    Args:
        app: What it surrounds.
        max_body_bytes: A longer body ends in an `ApiError`, however it is sent.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app, self._metrics, self._max_body_bytes = app, metrics, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, start, status, received = f"req_{secrets.token_hex(12)}", time.monotonic(), 499, 0
        scope.setdefault("state", {})["request_id"] = request_id

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise self._too_large()
            return message

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode()), *_HEADERS]
            await send(message)

        try:
            await self._app(scope, limited, answered)
        finally:
            elapsed_s = time.monotonic() - start
            route = _route(scope)
            self._metrics.answered(route, status, elapsed_s)
            LOG.info("%s %s %d %.3f s %s", printable(scope["method"]), route, status, elapsed_s, request_id)

    def _too_large(self) -> ApiError:
        message = f"The body is too large; expected at most {self._max_body_bytes:,} bytes."
        return ApiError(413, message, "request_too_large")


def _route(scope: Scope) -> str:
    """Return the route that was taken, without what was filled in: addresses of pictures are secret."""
    return getattr(scope.get("route"), "path", "other")
