"""/v1/spell over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from binhdan.runtime.server.api import spell
from binhdan.runtime.server.http.errors import install_handlers

WRONG = "Tôi đả đi học ở trường đại học."


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    install_handlers(app)
    app.include_router(spell.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://binhdan") as client:
        yield client


async def test_one_text_or_several(http: httpx.AsyncClient) -> None:
    body = {"input": [WRONG, "Tôi đi học."]}
    first, second = (await http.post("/v1/spell", json=body)).json()["data"]
    assert first["index"] == 0 and first["text"] == WRONG.replace("đả", "đã")
    (one,) = first["misspellings"]
    assert (one["begin"], one["end"], one["word"]) == (5, 10, "đả")
    assert one["suggestions"][0]["text"] == "đã" and one["suggestions"][0]["probability"] > 0.9
    assert second == {"index": 1, "text": "Tôi đi học.", "misspellings": []}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"input": "a\0"}, "found a NUL byte"),
        ({"input": []}, "input"),
        ({"input": "a", "format": "x"}, "format"),
        ({"input": "a", "min_confidence": 2}, "min_confidence"),
    ],
)
async def test_errors(http: httpx.AsyncClient, body: dict[str, Any], message: str) -> None:
    response = await http.post("/v1/spell", json=body)
    assert response.status_code == 400 and message in response.text
