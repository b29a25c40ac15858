"""runtime/server/api/operation.py over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI
from server_records import record

from binhdan.runtime.server.accounting.metrics import Metrics
from binhdan.runtime.server.api import operation


@dataclass
class Pool:
    ready: bool = True
    draining: bool = False
    failed: Exception | None = None


@dataclass
class State:
    pool: Pool = field(default_factory=Pool)
    metrics: Metrics = field(default_factory=Metrics)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def http(state: State) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(operation.router)
    app.state.server = state
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://binhdan") as client:
        yield client


async def test_live_in_every_state(http: httpx.AsyncClient, state: State) -> None:
    state.pool = Pool(ready=False, draining=True)
    response = await http.get("/livez")
    assert response.status_code == 200 and response.json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("pool", "status", "text"),
    [
        (Pool(), 200, "ready"),
        (Pool(ready=False), 503, "loading"),
        (Pool(draining=True), 503, "draining"),
        (Pool(ready=False, draining=True), 503, "draining"),
        (Pool(ready=False, failed=Exception("no file")), 503, "failed"),
    ],
)
async def test_ready(http: httpx.AsyncClient, state: State, pool: Pool, status: int, text: str) -> None:
    state.pool = pool
    response = await http.get("/readyz")
    assert response.status_code == status and response.json()["status"] == text
    assert response.json().get("reason") == ("no file" if text == "failed" else None)
    assert ("Retry-After" in response.headers) == (status == 503)
    assert response.headers["Cache-Control"] == "no-store"


async def test_metrics(http: httpx.AsyncClient, state: State) -> None:
    state.metrics.observe(record())
    response = await http.get("/metrics")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'binhdan_answer_tokens_total{model="tiny"} 21.0' in response.text
    # Prometheus prefers OpenMetrics, but there prometheus-client replaces the colons in vLLM's names.
    accept = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
    response = await http.get("/metrics", headers=accept)
    assert 'vllm:generation_tokens_total{model_name="tiny"} 21.0' in response.text
