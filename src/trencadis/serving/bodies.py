"""Bodies of requests, as JSON or multipart, read into their schemas."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from trencadis.serving import faults
from trencadis.serving.faults import ApiError
from trencadis.serving.pictures import from_data_url
from trencadis.serving.schemas import Edit, EditJson, Variation

READ_S = 60.0  # a body that takes longer is given up
_MAX_FIELDS = 60
_PICTURES = ("image", "mask")
SchemaT = TypeVar("SchemaT", bound=BaseModel)
ReadT = TypeVar("ReadT")


@dataclass(frozen=True)
class Sent:
    """Pictures of a request, undecoded."""

    image: bytes | None = None
    mask: bytes | None = None


async def read_json(request: Request, schema: type[SchemaT]) -> SchemaT:
    return _validated(schema, await _json(request))


async def read_edit(request: Request) -> tuple[Edit, Sent]:
    if _media_type(request) != "multipart/form-data":
        body = await read_json(request, EditJson)
        mask = None if body.mask is None else from_data_url(body.mask.image_url, "mask")
        edit = Edit.model_construct(**{name: getattr(body, name) for name in Edit.model_fields})
        return edit, Sent(from_data_url(body.images[0].image_url, "images"), mask)
    fields, sent = await _form(request, _PICTURES)
    return _validated(Edit, fields), _with_image(sent)


async def read_variation(request: Request) -> tuple[Variation, Sent]:
    if _media_type(request) != "multipart/form-data":
        raise ApiError(400, "The body is not multipart/form-data; send it so, with a picture.", "invalid_value")
    fields, sent = await _form(request, _PICTURES[:1])
    return _validated(Variation, fields), _with_image(sent)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _validated(schema: type[SchemaT], body: bytes | dict[str, Any]) -> SchemaT:
    """Return a body that fits its schema; texts stand for numbers in a form only."""
    try:
        if isinstance(body, bytes):
            return schema.model_validate_json(body, strict=True)
        return schema.model_validate(body)
    except ValidationError as error:
        raise faults.of_validation(error) from error


async def _json(request: Request) -> bytes:
    if _media_type(request) not in ("application/json", ""):
        message = f"The body is {_media_type(request)}; expected application/json."
        raise ApiError(400, message, "invalid_value")
    return await _in_time(request.body())


async def _form(request: Request, files: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the fields of a multipart body, and the content of its files."""
    try:
        form = await _in_time(_parsed(request))
    except (MultiPartException, HTTPException, UnicodeDecodeError, LookupError, ValueError) as error:
        message = "The body is not multipart/form-data that can be read; check how it is made."
        raise ApiError(400, message, "invalid_value") from error
    fields: dict[str, Any] = {}
    sent: dict[str, bytes] = {}
    for key, value in form:
        name = key.partition("[")[0]  # `image[]` of a list, `a[b]` of what is nested
        if name not in files:
            fields[name] = value if isinstance(value, str) else value.filename
        elif not isinstance(value, bytes):
            raise ApiError(400, f"{name} is a text; expected a file.", "invalid_value", param=name)
        elif name in sent:
            raise ApiError(400, f"more than one {name}; this model takes one.", "invalid_value", param=name)
        else:
            sent[name] = value
    return fields, sent


async def _parsed(request: Request) -> list[tuple[str, Any]]:
    async with request.form(max_files=4, max_fields=_MAX_FIELDS, max_part_size=256 * 1024) as form:
        items = form.multi_items()
        return [
            (key, await value.read() if isinstance(value, UploadFile) and key.partition("[")[0] in _PICTURES else value)
            for key, value in items
        ]


async def _in_time(reading: Awaitable[ReadT]) -> ReadT:
    try:
        async with asyncio.timeout(READ_S):
            return await reading
    except TimeoutError as error:
        raise ApiError(408, "The body took too long; send it again.", "request_timeout") from error


def _with_image(sent: dict[str, bytes]) -> Sent:
    if "image" not in sent:
        raise ApiError(400, "image is missing; it is required.", "missing_required_parameter", param="image")
    return Sent(sent["image"], sent.get("mask"))
