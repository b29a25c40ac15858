"""Responses for all errors, in OpenAI's format.

A message says what was expected and what the client sent. It never contains a path, a prompt or a key.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
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
from binhdan.runtime.server.errors import ApiError

_MAX_CHARACTERS = 300  # of a message that repeats client input


def install_handlers(app: FastAPI) -> None:
    """Makes `app` answer every exception with an error in OpenAI's format."""
    for kind in (ApiError, BinhdanError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _respond)


async def _respond(request: Request, error: Exception) -> JSONResponse:
    request_id = request.scope.get("state", {}).get("request_id", "")
    field = getattr(request.scope.get("route"), "body_field", None)
    return as_api_error(error, request_id, field and field.field_info.annotation).response()


def as_api_error(error: Exception, request_id: str = "", body_type: Any = None) -> ApiError:
    """The ApiError for any exception. `body_type`: the type of the request's body, if it is known.

    An exception that is the server's fault is logged; its message only refers to the log by the request id.
    """
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            return invalid_request(error.errors(), error.body, body_type)
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


def invalid_request(errors: Sequence[Any], body: Any = None, body_type: Any = None) -> ApiError:
    """The first of pydantic's errors, with the field named as OpenAI does: "messages[0].role".

    `body` is the parsed value that pydantic validated as a `body_type`. A body that is not JSON is 400, like
    other errors.
    """
    first = errors[0]
    source, *location = first["loc"] or ("body",)
    if source == "body":
        param = _field(location, body, first["type"] == "missing")
    else:
        param = ".".join(map(str, location))
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        message = f"the body is not valid JSON: {first.get('ctx', {}).get('error', message)}"
        param = ""
    if first["type"] == "extra_forbidden":
        names = _field_names(body_type, location)
        message = f"unknown field; expected one of {', '.join(names)}" if names else "unknown field"
    if param:
        message = f"{_short(param, 100)}: {message}"
    if len(errors) > 1:
        message += f" (and {len(errors) - 1} more)"
    return ApiError(400, _short(message), param=_short(param) or None)


def _field(location: Sequence[str | int], body: Any, missing: bool) -> str:
    """The path of a field in `body`. It skips the parts that are not in the body: pydantic also names the
    branches of the unions that it tried."""
    name = ""
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(part, int) and isinstance(body, list) and 0 <= part < len(body):
            name, body = f"{name}[{part}]", body[part]
        elif isinstance(part, str) and isinstance(body, dict) and part in body:
            name, body = f"{name}.{part}", body[part]
        elif isinstance(part, str) and last and missing:
            name = f"{name}.{part}"
    return name.removeprefix(".")


def _field_names(body_type: Any, location: Sequence[str | int]) -> list[str]:
    """The names of the fields of the object in `body_type` that contains the last part of `location`, the
    name most similar to it first."""
    models = _models(body_type)
    for part in location[:-1]:
        inner = [
            model
            for outer in models
            for name, field in outer.model_fields.items()
            if part in (name, field.alias)
            for model in _models(field.annotation)
        ]
        # Other parts are indexes, or name the branch of a union by its model.
        models = inner or [model for model in models if model.__name__ == part] or models
    unknown = str(location[-1])[:64] if location else ""
    names = {field.alias or name for model in models for name, field in model.model_fields.items()}
    return sorted(names, key=lambda name: (-SequenceMatcher(None, name, unknown).ratio(), name))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in a type, such as those of a union or a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


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
        case ClosedError():
            return _unavailable("the model was unloaded during the request; try again", "unloaded")
        case _:
            return None


def _unavailable(message: str, code: str) -> ApiError:
    headers = {"Retry-After": "1"}
    return ApiError(503, message, type="server_error", code=code, headers=headers)
