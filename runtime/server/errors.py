"""ApiError: the exception for a request that ends with an error response."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from binhdan.runtime.errors import ClosedError

_FOLDERS = re.compile(r"(?<![\w.:/-])(?:/[^/\s:;,'\"]+)+/")  # of an absolute path without spaces


class ShuttingDownError(ClosedError):
    """The server ends, and with it the request."""


def shutting_down() -> ApiError:
    """The error of a request that a server refuses or ends because it shuts down."""
    return ApiError(
        503,
        "the server is shutting down; try again",
        type="server_error",
        code="shutting_down",
        headers={"Retry-After": "5"},
    )


class ApiError(Exception):
    """An error response. `param` names the field of the request that is wrong. `facts`: more members."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
        facts: dict[str, int] | None = None,
    ) -> None:
        message, param = _encodable(message), param and _encodable(param)
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": type, "param": param, "code": code} | (facts or {})
        }


def quoted(text: str) -> str:
    """Client input for a message: in quotes, on one line, at most 64 characters."""
    return repr(text if len(text) <= 64 else text[:63] + "…")


def without_paths(text: str, *known: str) -> str:
    """`text` with each path replaced by its last name: the `known` ones, and absolute ones without spaces."""
    for path in known:
        text = text.replace(path, PurePath(path).name)
    return _FOLDERS.sub("", text)


def _encodable(text: str) -> str:
    """Replaces lone surrogates, which a message may repeat from client input and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
