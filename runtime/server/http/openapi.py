"""What /openapi.json says beyond the endpoints' own signatures: the errors that every one may answer with."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's shape."""

    error: ErrorDetail


_MEANINGS = {
    400: "The request is not right; param names the field.",
    401: "No API key, or one that is not known.",
    404: "No such model, or nothing at this address.",
    405: "The address does not take this method.",
    408: "The body did not come in time.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    421: "The server does not answer under this Host.",
    429: "The key's limit is reached; see Retry-After.",
    500: "The server failed; its log has the reason under the request's id.",
    503: "Loading, draining or full; see Retry-After.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": meaning} for status, meaning in _MEANINGS.items()
}


def use_own_errors(app: FastAPI) -> None:
    """Takes FastAPI's own 422 out of the document: this server never answers with it."""
    made = app.openapi

    def document() -> dict[str, Any]:
        known = app.openapi_schema is not None
        schema = made()
        if not known:
            for path in schema["paths"].values():
                for operation in path.values():
                    operation.get("responses", {}).pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                schema.get("components", {}).get("schemas", {}).pop(name, None)
        return schema

    app.openapi = document  # type: ignore[method-assign]
