"""The ASGI application."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from trencadis.pipeline import DALLE
from trencadis.serving.faults import ApiError
from trencadis.serving.guard import Guard
from trencadis.serving.judgement import judging
from trencadis.serving.keys import Keys
from trencadis.serving.page_files import page
from trencadis.serving.routes import about, api
from trencadis.serving.settings import ServingConfig
from trencadis.serving.state import State


def build_application(models: Mapping[str, DALLE], config: ServingConfig, keys: Keys) -> FastAPI:
    """Return the application; its schedulers run while it does.

    Args:
        models: By the names that requests give; the first is the default.
        keys: Who may ask; none of them is everybody.
    """
    state = State(models, config, keys)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncGenerator[None, None]:
        state.models.start()
        yield
        state.stop()

    # The pages that show the document would load scripts from elsewhere.
    app = FastAPI(title="Trencadís", version=version("trencadis"), lifespan=running, docs_url=None, redoc_url=None)
    app.state.trencadis = state
    app.include_router(api)
    app.include_router(about)
    app.include_router(judging)
    app.include_router(page)
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _wrong_parameter)
    app.add_exception_handler(Exception, _bug)
    if config.allow_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=config.allow_origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["x-request-id", "retry-after"],
        )  # fmt: skip
    app.add_middleware(Guard, metrics=state.metrics, max_body_bytes=config.max_body_bytes)
    return app


async def _api_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, error.status, headers=error.headers)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    answer = ApiError(error.status_code, f"{error.detail}: {request.method} {request.url.path}", code)
    return JSONResponse(answer.body, error.status_code, headers=error.headers)


async def _wrong_parameter(request: Request, error: Exception) -> JSONResponse:
    return await _api_error(request, ApiError(400, "A parameter of the address is wrong.", "invalid_value"))


async def _bug(request: Request, error: Exception) -> JSONResponse:
    return await _api_error(request, ApiError(500, "The server failed; its log says why.", "internal_error"))
