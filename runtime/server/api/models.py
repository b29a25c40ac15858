"""/v1/models: the models of this server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request

from binhdan.runtime.server.context import Server, server_of

router = APIRouter()


@router.get("/v1/models")
@router.get("/models", include_in_schema=False)
async def list_models(request: Request) -> dict[str, Any]:
    """All models of this server, loaded or not."""
    server = server_of(request)
    data = [_describe(server, name) for name in server.pool.names]
    # The last three are those of Anthropic's API.
    ends = {"first_id": server.pool.names[0], "last_id": server.pool.names[-1], "has_more": False}
    return {"object": "list", "data": data, **ends}


@router.get("/v1/models/{name:path}")
async def get_model(request: Request, name: str) -> dict[str, Any]:
    """One model."""
    server = server_of(request)
    if name not in server.pool.names:
        raise server.pool.unknown(name)
    return _describe(server, name)


def _describe(server: Server, name: str) -> dict[str, Any]:
    loaded, failure = server.pool.state(name)
    facts: dict[str, Any] = {"loaded": loaded is not None, "default": name == server.pool.default}
    source = server.config.models[server.pool.base(name)]
    facts["embedded"] = source is None  # the model that is part of the package
    if failure:
        facts["error"] = failure
    if loaded is not None:
        info = loaded.info
        facts |= {
            "context": loaded.context,
            "architecture": info.architecture,
            "parameters": info.parameters,
            "vocabulary": info.vocabulary,
            "embedding": info.embedding,
            "causal": info.causal,  # false: it generates no text
        }
    return {
        "id": name,
        "object": "model",
        "created": server.pool.created,
        "owned_by": "binhdan",
        "type": "model",  # this field and the next two: Anthropic's API
        "display_name": name,
        "created_at": datetime.fromtimestamp(server.pool.created, UTC).isoformat(),
        "binhdan": facts,
    }
