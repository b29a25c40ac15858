"""Who may use a front without API keys. tests/examples/test_ray.py sends requests through Ray's HAProxy."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from binhdan.runtime.server.config import ServerConfig


@pytest.mark.parametrize(
    ("client", "haproxy", "status"),
    [("127.0.0.1", "0", 200), ("127.0.0.1", "1", 403), ("10.0.0.7", "0", 403), ("10.0.0.7", "1", 403)],
)
def test_without_keys_only_this_machine_is_served(
    client: str, haproxy: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    from binhdan.runtime.server.ray.front import Front

    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", haproxy)

    def no_deployment(name: str) -> Any:
        raise AssertionError(f"the front has called {name}")

    async def ask(front: Front) -> httpx.Response:
        transport = httpx.ASGITransport(app=front, client=(client, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as connection:
            return await connection.get("/livez")

    response = asyncio.run(ask(Front(ServerConfig(), no_deployment)))
    assert response.status_code == status
    if status == 403:
        assert "set API keys" in response.json()["error"]["message"]
    keys: Any = {"a": {"key": "key-of-a-user"}}
    assert asyncio.run(ask(Front(ServerConfig(keys=keys), no_deployment))).status_code == 200
