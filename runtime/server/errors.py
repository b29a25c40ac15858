"""ApiError: the exception for a request that ends with an error response."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse


class ApiError(Exception):
    """An error response. `param` names the field of the request that is wrong."""

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
        message, param = _encodable(message), param and _encodable(param)
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": type, "param": param, "code": code}
        }

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def _encodable(text: str) -> str:
    """Replaces lone surrogates, which a message may repeat from client input and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
