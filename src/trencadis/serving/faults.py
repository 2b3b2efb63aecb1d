"""Errors in the API's shape: a message, a type, the parameter at fault and a code."""

from typing import Any

from pydantic import ValidationError

from trencadis.errors import FullMemoryError, UserError
from trencadis.memory import is_full_memory
from trencadis.spelling import encodable

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# pydantic's kinds of fault that are more than a wrong value.
_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}
_UNREADABLE = "json_invalid"
_PARAMETERS = (
    "seed", "keep_rows", "mask", "image_tokens", "kept_tokens", "image", "guidance_scale", "temperature", "top_k",
    "top_p", "ranking", "tokens", "row", "column", "count",
)  # fmt: skip


class ApiError(Exception):
    """A request that is answered with an error.

    Args:
        status: Of HTTP.
        message: What was given, what was expected and what to do.
        code: For programs, such as `invalid_value`.
        param: The parameter at fault.
        retry_after_s: When to try again.
    """

    def __init__(
        self, status: int, message: str, code: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after_s = retry_after_s

    @property
    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        message = encodable(self.message)
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        if self.retry_after_s is not None:
            return {"Retry-After": str(max(1, round(self.retry_after_s)))}
        # The official client repeats what ends in 409 and 5xx; where that cannot help it is told not to.
        return {"x-should-retry": "false"} if self.status >= 500 else {}


def too_late(deadline_s: float) -> ApiError:
    """Return the answer to a request whose deadline has passed."""
    message = f"This was not done within {deadline_s:g} seconds; try again later."
    return ApiError(503, message, "deadline_exceeded", retry_after_s=10.0)


def of_user_error(error: UserError) -> ApiError:
    """Return the answer to what the model refuses; the parameter at fault is what its message begins with."""
    named = next((name for name in _PARAMETERS if error.given.startswith(name)), None)
    return ApiError(400, f"{error}.", "invalid_value", param=named)


def of_validation(error: ValidationError) -> ApiError:
    """Return the answer to a body that does not fit its schema: its first fault."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind, param = fault["type"], str(fault["loc"][0]) if fault["loc"] else None
    if kind == _UNREADABLE:
        return ApiError(400, f"The body is not JSON: {fault['msg']}.", "invalid_json")
    if kind == "unsupported_parameter":
        return ApiError(400, f"{param} is not supported; leave it out.", kind, param=param)
    if kind == "missing":
        return ApiError(400, f"{param} is missing; it is required.", _CODES[kind], param=param)
    if kind == "extra_forbidden":
        return ApiError(400, f"{param} is not a parameter of this request; leave it out.", _CODES[kind], param=param)
    return ApiError(400, f"{param or 'The body'} is refused: {fault['msg']}.", "invalid_value", param=param)


def of_failure(error: BaseException) -> ApiError:
    """Return the answer to a fault while a picture was drawn."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, FullMemoryError) or is_full_memory(error):
        message = "The server has too little memory for this now; ask for fewer candidates, or try again later."
        return ApiError(503, message, "full_memory", retry_after_s=10.0)
    if isinstance(error, UserError):
        return of_user_error(error)
    return ApiError(500, "The server failed; its log says why.", "internal_error")
