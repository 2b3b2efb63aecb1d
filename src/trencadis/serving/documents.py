"""What the OpenAPI document says of bodies, which are read by hand, and of errors."""

from typing import Any

from pydantic import BaseModel

from trencadis.serving.schemas import ErrorBody

_MEANINGS = {
    400: "The request is wrong",
    401: "The API key is absent or unknown",
    404: "There is no such model or picture",
    408: "The body took too long",
    413: "The body is too large",
    429: "Too many requests; `Retry-After` says when to try again",
    503: "Not drawn in time, or about to stop; `Retry-After` says when to try again",
}
_RETRY = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}}}
_TEXT = {"type": "string"}
_EVENT = {"type": "object", "properties": {"event": _TEXT, "data": _TEXT}, "required": ["data"]}
EVENTS = {"text/event-stream": {"schema": _EVENT}}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of these statuses."""
    of_status = {status: {"model": ErrorBody, "description": _MEANINGS[status]} for status in statuses}
    return {status: {**each, "headers": _RETRY} if status in (429, 503) else each for status, each in of_status.items()}


def body(**schema_by_media_type: type[BaseModel]) -> dict[str, Any]:
    """Return a body, as `json` or `form` or both."""
    media_types = {"json": "application/json", "form": "multipart/form-data"}
    content = {media_types[name]: {"schema": _inline(schema)} for name, schema in schema_by_media_type.items()}
    return {"requestBody": {"required": True, "content": content}}


def _inline(schema: type[BaseModel]) -> dict[str, Any]:
    """Return a schema with what it refers to written into it, as FastAPI knows only schemas of its own parameters."""
    document = schema.model_json_schema()
    definitions = document.pop("$defs", {})

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return resolved(definitions[value["$ref"].rpartition("/")[2]])
        return {key: resolved(item) for key, item in value.items()}

    inline: dict[str, Any] = resolved(document)
    return inline
