"""runtime/server/api/cost.py over HTTP: totals, days, and the answers that each caller sees."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from server_records import bill, record

from binhdan.runtime.server.accounting.ledger import Ledger
from binhdan.runtime.server.api import cost
from binhdan.runtime.server.errors import ApiError

DAY = 86_400.0
NOON = 1_795_323_600.0  # 2026-11-22, 12:00 in Hà Nội


@dataclass
class Caller:
    name: str = ""
    admin: bool = True


@dataclass
class State:
    ledger: Ledger
    caller: Caller


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for key, answers in (("an", 1), ("bình", 2)):
            for answer in range(answers):
                joules = 3.0 if key == "an" else None
                ledger.add(record(key=key), bill(joules=joules), NOON + answer * DAY)
        yield State(ledger, Caller())


@pytest.fixture
async def http(state: State) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(cost.router)
    app.state.server = state

    @app.exception_handler(ApiError)
    async def error(request: Request, exception: ApiError) -> JSONResponse:
        return JSONResponse(exception.body, exception.status)

    class Gateway:
        """Sets the caller, as the real gateway does."""

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("state", {})["caller"] = state.caller
            await app(scope, receive, send)

    transport = httpx.ASGITransport(Gateway())
    async with httpx.AsyncClient(transport=transport, base_url="http://binhdan") as client:
        yield client


def groups(response: httpx.Response) -> dict[str, int]:
    assert response.status_code == 200, response.text
    return {group["group"]: group["answers"] for group in response.json()["data"]}


async def test_an_admin_sees_all_answers(http: httpx.AsyncClient) -> None:
    assert groups(await http.get("/v1/cost")) == {"2026-11-22": 2, "2026-11-23": 1}
    assert groups(await http.get("/v1/cost?by=key")) == {"an": 1, "bình": 2}
    assert groups(await http.get("/v1/cost?by=model")) == {"tiny": 3}


async def test_a_key_sees_its_own_answers(http: httpx.AsyncClient, state: State) -> None:
    state.caller = Caller("bình", admin=False)
    assert groups(await http.get("/v1/cost?by=key")) == {"bình": 2}
    assert groups(await http.get("/v1/cost")) == {"2026-11-22": 1, "2026-11-23": 1}
    state.caller = Caller("một khoá mới", admin=False)
    report = (await http.get("/v1/cost?by=key")).json()
    assert report["data"] == [] and report["total"]["answers"] == 0


async def test_figures(http: httpx.AsyncClient) -> None:
    report = (await http.get("/v1/cost?by=key")).json()
    assert report["data"][0] == {
        "group": "an",
        "answers": 1,
        "prompt_tokens": 100,
        "cached_tokens": 40,
        "answer_tokens": 21,
        "joules": 3.0,
        "measured_answers": 1,
        "cost_vnd": 0.25,
    }
    assert report["data"][1]["joules"] is None and report["data"][1]["measured_answers"] == 0
    assert report["total"]["joules"] == 3.0 and report["total"]["measured_answers"] == 1
    assert report["total"]["answers"] == 3 and report["total"]["cost_vnd"] == pytest.approx(0.75)
    assert (report["object"], report["by"], report["time_zone"]) == ("list", "key", "+07:00")


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ("from=2026-11-23", {"2026-11-23": 1}),
        ("to=2026-11-22", {"2026-11-22": 2}),
        ("from=2026-11-22&to=2026-11-22", {"2026-11-22": 2}),
        ("from=2030-01-01", {}),
    ],
)
async def test_days(http: httpx.AsyncClient, query: str, days: dict[str, int]) -> None:
    assert groups(await http.get(f"/v1/cost?{query}")) == days


async def test_invalid_days(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/cost?from=2026-02-30")
    assert response.status_code == 400 and response.json()["error"]["param"] == "from"
    assert "a day of the calendar" in response.json()["error"]["message"]
    response = await http.get("/v1/cost?from=2026-11-23&to=2026-11-22")
    assert response.status_code == 400 and "the value of to" in response.json()["error"]["message"]
    for query in ("from=yesterday", "to=2026-1-1", "by=secret", "from=2026-11-22T00:00"):
        assert (await http.get(f"/v1/cost?{query}")).status_code == 422  # 400 with the handlers of create_app


async def test_a_ledger_that_cannot_be_read(http: httpx.AsyncClient, state: State) -> None:
    state.ledger.close()
    response = await http.get("/v1/cost")
    assert response.status_code == 503 and "ledger.sqlite" not in response.text
