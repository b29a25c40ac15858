"""bench/load/{soak,faulty_clients,server_overhead,prefix_reuse}.py: a soak test finds defects of a scripted
server, and none of ours."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.requests import ClientDisconnect
from uvicorn_thread import running

import binhdan
from binhdan.bench.load import prefix_reuse, server_overhead, soak, tables
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.load.faulty_clients import FAULTS
from binhdan.bench.load.servers import Memory
from binhdan.runtime.client.model import find_model

BODY = b'{"stream": true, "messages": []}'
EVENT = b"data: x\n\n"


# ---- faulty clients ----------------------------------------------------------------------------------------


async def seen_by_a_server(fault: str, seed: int) -> tuple[bytes, int]:
    """The bytes that a server receives from one faulty client, and the status that the client receives."""
    received, ended = bytearray(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                received.extend(data)
                if received.endswith(BODY):
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
                    for _ in range(100):
                        writer.write(EVENT)
                        await writer.drain()
                        await asyncio.sleep(0.001)
        except ConnectionError:
            pass
        finally:
            writer.close()
            ended.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        async with ChatClient(f"http://127.0.0.1:{port}", seconds=10) as client:
            call = await FAULTS[fault](client, BODY, Random(seed))
        async with asyncio.timeout(10):
            await ended.wait()
    return bytes(received), 0 if call.response is None else call.response.status


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_each_fault_matches_its_name(seed: int) -> None:
    async with ChatClient("http://127.0.0.1:1") as client:
        whole = client.http.request_bytes("POST", "/chat/completions", BODY)
    head = whole[: whole.index(b"\r\n\r\n") + 4]
    seen = {name: await seen_by_a_server(name, seed) for name in FAULTS}
    lengths = {name: len(data) for name, (data, _) in seen.items()}
    port_digits = abs(lengths["dribble"] - len(whole))  # the Host header contains the port
    assert port_digits < 5
    head_length, whole_length = len(head) + port_digits, lengths["dribble"]
    assert seen["dribble"][0].endswith(BODY) and seen["dribble"][1] == 200
    assert seen["cancelled"][0].endswith(BODY) and seen["cancelled"][1] == 200
    assert lengths["gone"] in (0, whole_length)  # the connection may close before the server reads
    assert lengths["no body"] in (0, head_length)
    assert lengths["half head"] < head_length
    assert lengths["half body"] == 0 or head_length <= lengths["half body"] < whole_length
    assert not seen["garbage"][0].endswith(BODY)


# ---- soak tests -------------------------------------------------------------------------------------------


@dataclass
class Defective:
    """A server with defects that a soak test must find."""

    url: str = ""
    requested: int = 0
    every: dict[int, str] = field(default_factory=dict)  # n -> the defect of each n-th request
    gauge: int = 0
    rss: int = 100 << 20
    growth: int = 0
    open: int = 10
    alive: bool = True

    def memory(self) -> Memory:
        self.rss += self.growth
        return Memory(self.rss, self.rss)

    def descriptors(self) -> int:
        self.open += self.growth
        return self.open

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            return {"data": [{"id": "m"}]}

        @app.get("/metrics")
        async def metrics() -> Response:
            return PlainTextResponse(f'binhdan_requests_running{{model="m"}} {self.gauge}\nother 5\n')

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            try:
                text = (await request.json())["messages"][-1]["content"]
            except (ValueError, ClientDisconnect):
                return JSONResponse({"error": {"message": "no JSON"}}, 400)
            self.requested += 1
            for n, defect in self.every.items():
                if self.requested > 48 and self.requested % n == 0:
                    if defect == "hang":
                        await asyncio.sleep(30)
                    if defect == "break":
                        return JSONResponse({"error": {"message": "no luck"}}, 500)
                    text += " "
            choice = {"message": {"content": text}, "finish_reason": "stop"}
            return JSONResponse({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})

        return app


def soaked(server: Defective, requests: int = 200) -> soak.Soak:
    with running(server.app()) as server.url:
        run = soak._Run(server, requests, 8, 0, lambda: None)  # type: ignore[arg-type]
        run_loop(run.run())
        return run.result("m", True, [])


def test_a_correct_server_has_no_problems() -> None:
    result = soaked(Defective())
    assert result.problems == [] and result.lost == {} and result.different == 0
    assert sum(result.requests.values()) == 200 and 0.25 < 1 - result.requests["good"] / 200 < 0.42
    assert set(result.requests) == {"good", *FAULTS}
    assert result.answers == result.requests["good"] + result.requests["dribble"]
    assert len(result.rss_bytes) == 100 and result.rss_drift == 0 and result.descriptors == (10, 10)
    assert json.loads(json.dumps(asdict(result)))["schema"] == soak.SCHEMA


def test_defects_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "_TIMEOUT_SECONDS", 4.0)
    monkeypatch.setattr(soak, "_SETTLE_SECONDS", 0.2)
    every = {11: "differ", 37: "break", 59: "hang"}
    result = soaked(Defective(every=every, gauge=1, growth=1 << 20))
    assert result.different > 2 and result.stuck > 0 and result.server_errors > 0
    assert result.answers + sum(result.lost.values()) == result.requests["good"] + result.requests["dribble"]
    assert any("status 500: no luck" in why for why in result.lost)
    problems = "; ".join(result.problems)
    for part in ("lost: good: timed out", "answers differ", "with status 500", "memory changed by +"):
        assert part in problems
    assert "descriptors before" in problems and "binhdan_requests_running is still 1" in problems
    assert problems.split("; ")[0] in tables.soak_table(result)


def test_memory_is_compared_with_memory_after_the_warm_up() -> None:
    flat = [(n, 100) for n in range(1, 101)]
    assert soak.drift(flat, 100) == 0
    growing = [(n, 50 if n < 20 else 100 if n < 60 else 120) for n in range(1, 101)]
    assert soak.drift(growing, 100) == pytest.approx(0.2)
    peak = [(n, 300 if n == 70 else 100) for n in range(1, 101)]  # a short peak
    assert soak.drift(peak, 100) == 0
    falling = [(n, 100 if n < 60 else 70) for n in range(1, 101)]
    assert soak.drift(falling, 100) == pytest.approx(-0.3)
    assert soak.drift([], 100) is None and soak.drift(flat[:30], 100) is None


def test_gauges_are_added_over_models() -> None:
    page = (
        "# HELP binhdan_kv_bytes Bytes.\n"
        'binhdan_kv_bytes{model="a"} 2.5e+06\nbinhdan_kv_bytes{model="b c"} 1\nbinhdan_kv_bytes_max 9\n'
    )
    assert soak.gauges(page) == {"binhdan_kv_bytes": 2500001.0} and soak.gauges("") == {}


# ---- our server---------------------------------------------------------------------------------------------


def lasting(result: soak.Soak) -> list[str]:
    """Its problems. A short soak test ends before memory has reached its level."""
    short = sum(result.requests.values()) < 10_000
    return [one for one in result.problems if not (short and one.startswith("memory"))]


def test_a_short_soak_of_ours() -> None:
    progress: list[int] = []
    result = soak.soak(find_model(None), requests=120, clients=16, progress=lambda: progress.append(1))
    assert lasting(result) == [] and result.deterministic and len(progress) == 120
    assert result.answers == result.requests["good"] + result.requests["dribble"]
    assert set(result.left) == {"binhdan_requests_running", "binhdan_requests_waiting", "binhdan_kv_bytes"}
    assert result.statuses["good 200"] == result.requests["good"]


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_soak_of_ours(deterministic: bool) -> None:
    """BINHDAN_SOAK_REQUESTS requests; the full soak test has 10,000."""
    requests = int(os.environ.get("BINHDAN_SOAK_REQUESTS", "1500"))
    result = soak.soak(find_model(None), requests=requests, deterministic=deterministic)
    print(tables.soak_table(result))
    assert lasting(result) == []


@pytest.mark.slow
def test_overhead_compares_the_same_work() -> None:
    result = server_overhead.measure(find_model(None), threads=1, batches=(1, 3), answer_tokens=12, rounds=2)
    assert [batch.sequences for batch in result.batches] == [1, 3]
    for batch in result.batches:
        assert batch.engine_in_process_s.low > 0 and batch.wall_in_process_s.low > 0
        assert batch.wall_served_s.low > 0.9 * 11 / 12 * batch.engine_served_s.low
        assert batch.engine_overhead.low > -1 and batch.wall_overhead.low > -1
        assert 0 < batch.client_cpu_share.median < 2
    assert "in process" in tables.overhead_table(result)
    assert json.loads(json.dumps(asdict(result)))["schema"] == server_overhead.SCHEMA
    with pytest.raises(binhdan.InvalidArgumentError):
        server_overhead.measure(find_model(None), answer_tokens=1)


@pytest.mark.parametrize("kill", [pytest.param(False, marks=pytest.mark.slow), True])
def test_prefixes_are_cached_after_a_restart(kill: bool) -> None:
    result = prefix_reuse.measure(find_model(None), threads=1, tokens=300, runs=2, kill=kill)
    assert result.killed == kill and result.prefix_tokens == 300
    assert result.cold.cached_tokens.high < 64
    assert result.cached.cached_tokens.low >= 256 and result.restarted.cached_tokens.low >= 256
    assert result.cold.of_cold is None and result.restarted.of_cold is not None
    table = tables.prefix_reuse_table(result)
    assert ("killed" if kill else "ended") + " and restarted" in table
