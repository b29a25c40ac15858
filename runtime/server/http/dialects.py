"""The form of errors in each API that the server speaks, by path: OpenAI's, Anthropic's, Ollama's."""

from __future__ import annotations

from typing import Any, Literal

from starlette.responses import JSONResponse

from binhdan.runtime.server.errors import ApiError

Dialect = Literal["openai", "anthropic", "ollama"]

# https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def dialect_of(path: str) -> Dialect:
    """The API that a path belongs to."""
    if path.startswith("/v1/messages"):
        return "anthropic"
    return "ollama" if path.startswith("/api/") else "openai"


def error_body(error: ApiError, path: str, request_id: str = "") -> dict[str, Any]:
    """The JSON object of an error, in the form of the API that `path` belongs to."""
    detail = error.body["error"]
    match dialect_of(path):
        case "anthropic":
            kind = _ANTHROPIC_TYPES.get(
                error.status, "api_error" if error.status >= 500 else "invalid_request_error"
            )
            return {
                "type": "error",
                "error": {"type": kind, "message": detail["message"]},
                "request_id": request_id or None,
            }
        case "ollama":
            return {"error": detail["message"]}
        case _:
            return error.body


def error_response(error: ApiError, path: str, request_id: str = "") -> JSONResponse:
    """The response of an error."""
    return JSONResponse(error_body(error, path, request_id), error.status, error.headers)
