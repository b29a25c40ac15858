"""/v1/restore over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from binhdan.runtime.server.api import restore
from binhdan.runtime.server.http.errors import install_handlers


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_handlers(app)
    app.include_router(restore.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://binhdan") as client:
        yield client


async def post(http: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await http.post("/v1/restore", json=body)


async def test_one_text_or_several(http: httpx.AsyncClient) -> None:
    one = await post(http, input="ha noi")
    assert one.json() == {"object": "list", "data": [{"index": 0, "text": "hà nội"}]}
    two = await post(http, input=["viet nam", "<b>hoa binh</b>"], format="html", style="new")
    assert [result["text"] for result in two.json()["data"]] == ["việt nam", "<b>hoà bình</b>"]


async def test_explain(http: httpx.AsyncClient) -> None:
    result = (await post(http, input="viet nam", explain=True)).json()["data"][0]
    first = result["choices"][0]
    assert result["text"] == "việt nam" and (first["begin"], first["end"]) == (0, 4)
    assert first["alternatives"][0]["text"] == "việt" and first["alternatives"][0]["probability"] > 0.9


async def test_teencode(http: httpx.AsyncClient) -> None:
    result = (await post(http, input="ko dc", teencode=True)).json()["data"][0]
    assert result["text"] == "không được"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": "a\0"}, "found a NUL byte"),
        ({"input": []}, "input"),
        ({"input": "a", "style": "x"}, "style"),
        ({"input": "a", "min_confidence": 2}, "min_confidence"),
        ({"input": "a", "explain": True, "teencode": True}, "explain: expected false with teencode"),
        ({"input": "a", "explian": True}, "explain"),
    ],
)
async def test_errors(http: httpx.AsyncClient, body: dict[str, Any], message: str) -> None:
    response = await post(http, **body)
    assert response.status_code == 400 and message in response.text
