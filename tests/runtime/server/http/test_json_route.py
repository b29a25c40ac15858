"""runtime/server/http/json_route.py: the gateway parses a body, the route validates the value."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from binhdan.runtime.server.config import load
from binhdan.runtime.server.http.errors import install_handlers
from binhdan.runtime.server.http.gateway import Gateway
from binhdan.runtime.server.http.json_route import JsonRoute


class Body(BaseModel):
    text: str


def application(gateway: bool) -> FastAPI:
    app, router = FastAPI(), APIRouter(route_class=JsonRoute)

    @router.post("/text")
    async def text(body: Body) -> str:
        return body.text

    app.include_router(router)
    install_handlers(app)
    if gateway:
        config = load()
        app.add_middleware(Gateway, config=config, keyring=config.keyring())
    return app


@pytest.mark.parametrize("gateway", [True, False])
def test_a_body_is_validated(serve: Callable[..., str], gateway: bool) -> None:
    with httpx.Client(base_url=serve(application(gateway))) as client:
        assert client.post("/text", json={"text": "xin chào"}).json() == "xin chào"
        error = client.post("/text", json={"text": 1}).json()["error"]
        assert error["param"] == "text"
        for empty in ({}, {"Content-Type": "application/json"}):
            assert client.post("/text", headers=empty).status_code == 400


def test_a_body_is_parsed_once(serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("the body was parsed again")

    url, content = serve(application(gateway=True)), json.dumps({"text": "xin chào"})
    monkeypatch.setattr(json, "loads", refuse)  # the parser of Request.json
    answer = httpx.post(f"{url}/text", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.text) == (200, '"xin chào"')
