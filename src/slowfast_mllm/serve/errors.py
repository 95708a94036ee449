"""Refusals and failures, as one JSON object in OpenAI's form; never a traceback."""

import logging
import re
from typing import Any

from fastapi.responses import JSONResponse

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


def wrong(message: str, param: str | None = None, code: str | None = None) -> ApiError:
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
    if isinstance(error, ValueError):
        return wrong(str(error), code="invalid_value")
    log.error("failed: %s", type(error).__name__)
    log.debug("traceback", exc_info=error)
    return ApiError(500, "The server failed at this request; it goes on. Try again.", "internal")
