"""Refusals and failures, as one JSON object in OpenAI's form; never a traceback."""

import logging
import re
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

log = logging.getLogger("slowfast.serve")


class ApiError(Exception):
    """What a client is told. One line: the cause, and what to do.

    Attributes:
        status: of HTTP.
        code: for programs, e.g. `file_not_found`.
        param: the field of the request that is to blame.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = " ".join(message.split())
        self.code = code
        self.param = param
        self.headers = headers

    def body(self) -> dict[str, Any]:
        """The JSON object."""
        kind = _KINDS.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}

    def response(self) -> JSONResponse:
        """With the status and the headers."""
        return JSONResponse(self.body(), self.status, self.headers)


_KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def wrong(message: str, param: str | None = None, code: str = "invalid_value") -> ApiError:
    """A request that cannot be served as it is; options that are out of range tell their names."""
    named = re.match(r"(\w{1,40})=", message)
    param = param or (named and named[1])
    return ApiError(400, message, code, param)


def as_api_error(error: BaseException) -> ApiError:
    """What a client is told of anything that went wrong.

    A `ValueError` (`VideoError` among them) is one line for people already; of anything else the
    client learns nothing but that it happened, and the log its kind.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, RequestValidationError | ValidationError):
        return _first_of(error)
    if isinstance(error, ValueError):
        return wrong(str(error))
    log.error("failed: %s", type(error).__name__)
    log.debug("traceback", exc_info=error)
    return ApiError(500, "The server failed at this request; it goes on. Try again.", "internal")


def _first_of(error: RequestValidationError | ValidationError) -> ApiError:
    """One line about the first thing that is wrong; what was sent is not repeated."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":  # its place is a number of characters
        why = f"{first['ctx']['error']} at character {first['loc'][-1]}"
        return wrong(f"body: no JSON ({why})", code="invalid_json")
    if isinstance(first["input"], bytes):
        told = "body: send JSON, with the header Content-Type: application/json"
        return wrong(told, code="invalid_json")
    steps = [str(step) for step in first["loc"] if step not in ("body", "query")]
    place = ".".join(step for step in steps if not _TYPE.match(step))[:200]
    code = _CODES.get(first["type"], "invalid_value")
    message = "not known here" if code == "unknown_parameter" else first["msg"]
    return wrong(f"{place or 'body'}: {message}", place or None, code)


_TYPE = re.compile(r"(str|int|float|bool|literal|list|dict)(\[|$)")  # one that a union tried
_CODES = {"extra_forbidden": "unknown_parameter", "missing": "missing_required_parameter"}
