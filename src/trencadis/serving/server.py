"""Runs the application with uvicorn, and stops it gracefully."""

import asyncio
import logging
import os
import signal
import socket
import sys
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from trencadis.serving.settings import ServingConfig
from trencadis.serving.state import State

_POLL_S = 0.05
_CLOSE_S = 5  # for connections that are still open at the end
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(app: FastAPI, config: ServingConfig, *, host: str, port: int, opens_page: bool = False) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was taken in, for at most `grace_s` seconds.

    Args:
        app: What `build_application` returns.
        config: Its settings.
        host: Address to listen on.
        port: 0 is any that is free.
        opens_page: Open the web page in a browser once it is there.
    """
    _log_to_stderr()
    settings = uvicorn.Config(
        app, host=host, port=port, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=_CLOSE_S,
    )  # fmt: skip
    _GracefulServer(settings, app.state.trencadis, config.grace_s, opens_page).run()


class _GracefulServer(uvicorn.Server):
    """On a signal it goes on listening, answers 503 to what is new, and stops once nothing is drawn any more.

    A second signal stops it at once.
    """

    def __init__(self, settings: uvicorn.Config, state: State, grace_s: float, opens_page: bool) -> None:
        super().__init__(settings)
        self._state, self._grace_s, self._opens_page = state, grace_s, opens_page
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._opens_page and self.started and _has_screen():
            _, port = self.servers[0].sockets[0].getsockname()[:2]
            host = "127.0.0.1" if self.config.host in ("0.0.0.0", "::") else self.config.host
            url = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
            asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # uvicorn's own raises the signal again in the end, and the exit code would not be 0.
        self._loop = asyncio.get_running_loop()
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin_to_stop)

    def _begin_to_stop(self) -> None:
        if self._draining is not None:
            self.should_exit = self.force_exit = True
            return
        self._state.drain()
        self._draining = asyncio.ensure_future(self._stop_once_drawn())

    async def _stop_once_drawn(self) -> None:
        end = asyncio.get_running_loop().time() + self._grace_s
        while self._state.models.open_jobs and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(_POLL_S)
        # What is left is answered with 503 before connections are closed.
        await asyncio.get_running_loop().run_in_executor(None, self._state.models.stop)
        self.should_exit = True


def _has_screen() -> bool:
    """Return whether a browser would have a window; without one, `webbrowser` may start a browser in the terminal."""
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("trencadis.serving", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
        logger.propagate = False
