"""The error responses of /openapi.json, which every endpoint shares."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's format."""

    error: ErrorDetail


_MEANINGS: dict[int | str, str] = {
    400: "The request is wrong; param names the field.",
    401: "The API key is missing or unknown.",
    404: "The model or the path does not exist.",
    405: "The path does not support the method.",
    408: "The body was not received in time.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "The Host header is not a name of this server.",
    429: "The API key is over its limit; Retry-After says when to retry.",
    500: "The server failed; its log has the reason under the request id.",
    503: "The server is loading, draining or full; Retry-After says when to retry.",
    # It also keeps FastAPI from adding its own 422, which this server never returns.
    "default": "Any other error.",
}

#: For `FastAPI(responses=…)`.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": meaning} for status, meaning in _MEANINGS.items()
}
