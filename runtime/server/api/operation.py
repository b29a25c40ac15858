"""Endpoints for operators: /livez, /readyz, /metrics."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from binhdan.runtime.ffi import library

router = APIRouter(tags=["operation"])


class Live(BaseModel):
    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    status: Literal["ready", "loading", "draining", "failed"]
    reason: str | None = None  # of "failed"


@router.get("/livez")
async def livez() -> Live:
    """The process is running."""
    return Live()


@router.get(
    "/readyz",
    response_model_exclude_none=True,
    responses={503: {"model": Ready, "description": "The server is loading or draining."}},
)
async def readyz(request: Request, response: Response) -> Ready:
    """Whether the server accepts requests: not while its default model loads, nor while it shuts down."""
    pool = request.app.state.server.pool
    ready = Ready(status="draining" if pool.draining else "ready" if pool.ready else "loading")
    if pool.failed is not None and not pool.ready:
        ready = Ready(status="failed", reason=str(pool.failed))
    if ready.status != "ready":
        response.status_code = 503
        response.headers["Retry-After"] = "1"
    response.headers["Cache-Control"] = "no-store"
    return ready


@router.get("/health", responses={503: {"description": "The server is loading or draining."}})
@router.get("/v1/health", include_in_schema=False)
@router.get("/ping", include_in_schema=False)
async def health(request: Request, response: Response) -> dict[str, str]:
    """The same under the names of vLLM and llama.cpp."""
    ready = await readyz(request, response)
    return {"status": "ok" if ready.status == "ready" else ready.status}


@router.get("/version")
async def version() -> dict[str, str]:
    """The version of this server, under vLLM's name."""
    return {"version": library().version()}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Metrics in the text format of Prometheus."""
    page, content_type = request.app.state.server.metrics.render()
    return Response(page, headers={"Content-Type": content_type})
