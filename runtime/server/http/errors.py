"""Responses for all errors, in OpenAI's format.

A message says what was expected and what the client sent. It never contains a path, a prompt or a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from binhdan.runtime.errors import (
    BinhdanError,
    BusyError,
    ClosedError,
    InvalidArgumentError,
    ModelNotFoundError,
    OutOfMemoryError,
    TooLargeError,
)
from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.errors import ApiError, ShuttingDownError, shutting_down
from binhdan.runtime.server.http.dialects import error_response

_MAX_CHARACTERS = 300  # of a message that repeats client input


def install_handlers(app: FastAPI) -> None:
    """Makes `app` answer every exception with an error in OpenAI's format."""
    for kind in (ApiError, BinhdanError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _respond)


async def _respond(request: Request, error: Exception) -> JSONResponse:
    request_id = request.scope.get("state", {}).get("request_id", "")
    return error_response(as_api_error(error, request_id), request.scope["path"], request_id)


def as_api_error(error: Exception, request_id: str = "") -> ApiError:
    """The ApiError for any exception.

    An exception that is the server's fault is logged; its message only refers to the log by the request id.
    """
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return invalid_request(error.errors(), error.body)
        case HTTPException():
            return _http_error(error)
        case BinhdanError():
            answer = _engine_error(error)
        case _:
            answer = None
    if answer is None:
        logs.log.error("request failed", exc_info=error)
        message = "the server failed to process this request"
        if request_id:
            message += f"; its log has the reason under the request id {request_id}"
        answer = ApiError(500, message, type="server_error", code="internal_error")
    return answer


def invalid_request(errors: Sequence[Any], body: Any = None) -> ApiError:
    """The most telling of pydantic's errors, with the field named as OpenAI does: "messages[0].role".

    `body` is the parsed value that pydantic validated. A body that is not JSON is 400, like other errors.
    """
    found = [_located(error, body) for error in errors]
    # pydantic reports an error for each type of a union. The one deepest in the body belongs to the type that
    # the client meant: "content[1]: images are not supported", not "content: expected a string".
    best = max((one for one in found if one.root == found[0].root), key=lambda one: one.depth)
    others = {one.root for one in found} - {best.root}
    same = [one.error for one in found if one.field == best.field and one.depth == best.depth]
    message = " or ".join(dict.fromkeys(_reason(error) for error in same))
    field = best.field
    if best.error["type"] == "json_invalid":
        message = f"the body is not valid JSON: {best.error.get('ctx', {}).get('error', message)}"
        field = ""
    if field:
        message = f"{_short(field, 100)}: {message}"
    if others:
        message += f" (and {len(others)} more)"
    return ApiError(400, _short(message), param=_short(field) or None)


def _reason(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


@dataclass(frozen=True, slots=True)
class _Located:
    """One of pydantic's errors, and its place in the body."""

    error: Any
    root: str  # the field, or for a list its element, such as "messages[0]"
    field: str  # the path
    depth: int  # parts of the path


def _located(error: Any, body: Any) -> _Located:
    """pydantic also names the types of the unions that it tried: the path has only the parts that are in the
    body, and the name of a missing field."""
    source, *location = error["loc"] or ("body",)
    if source != "body":
        name = ".".join(map(str, location))
        return _Located(error, name, name, 1)
    path: list[str] = []
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(part, int) and isinstance(body, list) and 0 <= part < len(body):
            path.append(f"[{part}]")
            body = body[part]
        elif isinstance(part, str) and isinstance(body, dict) and part in body:
            path.append(f".{part}")
            body = body[part]
        elif isinstance(part, str) and last and error["type"] == "missing":
            path.append(f".{part}")
    root = path[: 2 if len(path) > 1 and path[1].startswith("[") else 1]
    return _Located(error, "".join(root).removeprefix("."), "".join(path).removeprefix("."), len(path))


def _short(text: str, max_characters: int = _MAX_CHARACTERS) -> str:
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def _http_error(error: HTTPException) -> ApiError:
    """The router's errors: unknown path, method not allowed."""
    headers = dict(error.headers or {})
    match error.status_code:
        case 404:
            return ApiError(
                404,
                "this path does not exist; /openapi.json lists the paths",
                code="not_found",
                headers=headers,
            )
        case 405:
            allowed = f"; use {headers['Allow']}" if "Allow" in headers else ""
            message = f"this path does not support this method{allowed}"
            return ApiError(405, message, code="method_not_allowed", headers=headers)
        case status:
            kind = "server_error" if status >= 500 else "invalid_request_error"
            return ApiError(status, _short(str(error.detail)), type=kind, headers=headers)


def _engine_error(error: BinhdanError) -> ApiError | None:
    """None for an error that a client can do nothing about."""
    match error:
        case TooLargeError():
            return ApiError(400, str(error), code="context_length_exceeded")
        case InvalidArgumentError():
            return ApiError(400, str(error), param=error.param)
        case ModelNotFoundError():  # its own message has a path
            return ApiError(
                404,
                "the file of this model does not exist on the server; use another model",
                code="model_not_found",
                param="model",
            )
        case BusyError():
            return _unavailable("the server's queue is full; try again later", "overloaded")
        case OutOfMemoryError():
            return _unavailable(
                "there is not enough memory for this request; shorten it, or try again later", "out_of_memory"
            )
        case ShuttingDownError():
            return shutting_down()
        case ClosedError():
            return _unavailable("the model was unloaded during the request; try again", "unloaded")
        case _:
            return None


def _unavailable(message: str, code: str) -> ApiError:
    headers = {"Retry-After": "1"}
    return ApiError(503, message, type="server_error", code=code, headers=headers)
