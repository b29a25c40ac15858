"""The error that every part of the server raises to end a request with an error response."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse


class ApiError(Exception):
    """An answer with an error status. `param` names the field of the request that is at fault."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        message, param = _utf8(message), param and _utf8(param)
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": type, "param": param, "code": code}
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def _utf8(text: str) -> str:
    """What a client sent may be repeated, and may have lone surrogates."""
    return text.encode("utf-8", "replace").decode()
