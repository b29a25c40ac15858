"""Errors in OpenAI's shape. Messages say what was expected and what came; never a path, a prompt or a key."""

from __future__ import annotations

from typing import Any


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
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": type, "param": param, "code": code}
        }
