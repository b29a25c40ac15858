"""runtime/server/http/gateway.py: the checks of each request, over real connections."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from binhdan.runtime.server.config import load
from binhdan.runtime.server.http.errors import install_handlers
from binhdan.runtime.server.http.gateway import Gateway

KEY, OTHER = "sk-lan-0123456789", "sk-mai-0123456789"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "bí mật"


class Site:
    """A small application behind the gateway."""

    def __init__(self, serve: Callable[..., str], **changes: Any) -> None:
        config = load(changes=changes)
        app = FastAPI()
        install_handlers(app)
        app.add_middleware(Gateway, config=config, keyring=config.keyring())
        self.gone = threading.Event()  # a client of /watch has disconnected
        self.calls = 0

        @app.get("/")
        @app.get("/livez")
        @app.get("/metrics")
        @app.get("/page/app.js")
        @app.get("/v1/models/{model:path}")
        async def plain(request: Request) -> dict[str, Any]:
            return {"caller": request.state.caller.name, "trace": request.state.traceparent}

        @app.post("/v1/echo")
        async def echo(request: Request) -> Any:
            self.calls += 1
            return await request.json()

        @app.post("/v1/watch")
        async def watch(request: Request) -> None:
            assert await request.json() == [1]
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self.gone.set()

        @app.get("/v1/bug")
        async def bug() -> None:
            raise KeyError(SECRET)

        @app.get("/v1/torn")
        async def torn() -> StreamingResponse:
            async def pieces() -> AsyncIterator[bytes]:
                yield b"data: 1\n\n"
                await asyncio.sleep(0.05)
                raise KeyError(SECRET)

            return StreamingResponse(pieces())

        self.url = serve(app)
        self.client = httpx.Client(base_url=self.url)
        self.address = ("127.0.0.1", httpx.URL(self.url).port or 0)

    def raw(self, *parts: bytes, pause: float = 0.0) -> bytes:
        """Sends raw bytes and returns all bytes until the server closes, or for half a minute."""
        with socket.create_connection(self.address) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # the server may close before the last part
                for part in parts:
                    connection.sendall(part)
                    time.sleep(pause)
            return read(connection)


def read(connection: socket.socket, seconds: float = 30.0) -> bytes:
    connection.settimeout(seconds)
    data = b""
    try:
        while chunk := connection.recv(65536):
            data += chunk
    except (TimeoutError, ConnectionResetError):
        pass
    return data


def post(length: int | None, body: bytes = b"", *headers: str) -> bytes:
    lines = ["POST /v1/echo HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error_of(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["code"] == code
    assert response.headers["x-request-id"]
    return error


# ---- ids and traces ----------------------------------------------------------------------------------------


def test_request_ids(serve: Callable[..., str]) -> None:
    client = Site(serve).client
    own = [client.get("/livez").headers["x-request-id"] for _ in range(2)]
    assert own[0] != own[1] and all(re.fullmatch("req_[0-9a-f]{32}", one) for one in own)
    given = "client-7.a:b_c"
    assert client.get("/livez", headers={"X-Request-Id": given}).headers["x-request-id"] == given
    for bad in ("", "a" * 101, "a b", "<script>", "a\tb", "é", "-a"):
        answer = client.get("/livez", headers={"X-Request-Id": bad.encode()})  # type: ignore[dict-item]
        assert answer.headers["x-request-id"].startswith("req_")


def test_trace_context(serve: Callable[..., str]) -> None:
    client = Site(serve).client
    span = "b7ad6b7169203331"
    for valid in (f"00-{TRACE}-{span}-01", f"cc-{TRACE}-{span}-01-later"):
        answer = client.get("/livez", headers={"traceparent": valid})
        passed = answer.headers["traceparent"]
        assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", passed) and span not in passed
        assert answer.json()["trace"] == passed
    for invalid in (
        f"00-{'0' * 32}-{span}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{span}-01",
        f"00-{TRACE}-{span}-01-more",
        f"00-{TRACE.upper()}-{span}-01",
        "x",
    ):
        answer = client.get("/livez", headers={"traceparent": invalid})
        assert "traceparent" not in answer.headers and answer.json()["trace"] is None


# ---- hosts and origins -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost.:99", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8080", 200),
        ("chat.example.vn", 200),
        ("a.b.example.net:443", 200),
        ("example.net", 421),
        ("evil.vn", 421),
        ("evilchat.example.vn", 421),
        ("localhost.evil.vn", 421),
        ("192.168.1.2", 421),
        ("::1", 400),
        ("local host", 400),
        ("evil@localhost", 400),
        ("localhost:80:80", 400),
        ("", 400),
    ],
)
def test_hosts(serve: Callable[..., str], host: str, status: int) -> None:
    site = Site(serve, allowed_hosts=["chat.example.vn", "*.example.net"], api_key=[KEY])
    answer = site.client.get("/", headers={"Host": host})
    assert answer.status_code == status, answer.text
    if status == 421:
        error_of(answer, 421, "unknown_host")


def test_hosts_of_a_server_on_all_addresses(serve: Callable[..., str]) -> None:
    client = Site(serve, host="0.0.0.0", api_key=[KEY]).client
    for host, status in {"192.168.1.2:80": 200, "[fe80::1]": 200, "0.0.0.0": 200, "evil.vn": 421}.items():
        assert client.get("/", headers={"Host": host}).status_code == status
    client = Site(serve, allowed_hosts=["*"]).client
    assert client.get("/", headers={"Host": "any.vn"}).status_code == 200


def test_a_missing_or_second_host(serve: Callable[..., str]) -> None:
    site = Site(serve)
    assert b" 400 " in site.raw(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n").split(b"\r\n")[0]
    two = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert b" 400 " in site.raw(two).split(b"\r\n")[0]


def test_pages_of_other_sites(serve: Callable[..., str]) -> None:
    origin = "https://chat.example.vn"
    preflight = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    closed = Site(serve, api_key=[KEY]).client
    answer = closed.options("/v1/echo", headers=preflight)
    assert answer.status_code == 401 and "access-control-allow-origin" not in answer.headers
    # A page of another site can send these content types without a CORS preflight: they are refused.
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        sent = Site(serve).client.post("/v1/echo", content=b"{}", headers={"Content-Type": kind})
        error_of(sent, 415, "unsupported_media_type")

    opened = Site(serve, api_key=[KEY], cors_origins=[origin]).client
    answer = opened.options("/v1/echo", headers=preflight)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == origin
    assert "x-stainless-os" in answer.headers["access-control-allow-headers"]
    # A page can read error responses too.
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {KEY}"}, 200)):
        answer = opened.post("/v1/echo", json=[], headers={"Origin": origin, **headers})
        assert answer.status_code == status and answer.headers["access-control-allow-origin"] == origin
    answer = opened.get("/v1/bug", headers={"Origin": origin, "Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 500 and answer.headers["access-control-allow-origin"] == origin
    assert opened.options("/v1/echo", headers=preflight | {"Origin": "https://evil.vn"}).status_code == 400


# ---- keys --------------------------------------------------------------------------------------------------


def test_keys(serve: Callable[..., str]) -> None:
    client = Site(serve, api_key=[f"lan {KEY}", f"mai {OTHER}"]).client
    for key, name in {KEY: "lan", OTHER: "mai"}.items():
        for scheme in ("Bearer", "bearer"):
            answer = client.get("/v1/models/x", headers={"Authorization": f"{scheme} {key}"})
            assert answer.json()["caller"] == name
    for header in (f"Bearer {KEY}x", "Bearer", f"Basic {KEY}", KEY, "Bearer \xff"):
        answer = client.get("/v1/models/x", headers={"Authorization": header.encode("latin-1")})  # type: ignore[dict-item]
        assert KEY not in json.dumps(error_of(answer, 401, "invalid_api_key"))
        assert answer.headers["www-authenticate"] == "Bearer"
    both = [("Authorization", f"Bearer {KEY}"), ("Authorization", f"Bearer {OTHER}")]
    error_of(client.get("/v1/models/x", headers=both), 401, "invalid_api_key")


@pytest.mark.parametrize("path", ["/", "/livez", "/page/app.js"])
def test_paths_without_a_key(serve: Callable[..., str], path: str) -> None:
    client = Site(serve, api_key=[KEY]).client
    assert client.get(path).json()["caller"] == ""
    assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 200
    assert client.get(path, headers={"Authorization": f"Bearer {KEY}"}).json()["caller"] == "key1"
    assert client.post(path).status_code == 401
    # A request without a key may not have a body.
    assert client.request("GET", path, json=[1]).status_code == 401


def test_paths_that_need_a_key(serve: Callable[..., str]) -> None:
    client = Site(serve, api_key=[KEY]).client
    for path in ("/metrics", "/v1/models/x", "/openapi.json", "/none", "/LIVEZ", "/page"):
        assert client.get(path).status_code == 401, path
    assert Site(serve, api_key=[KEY], metrics_open=True).client.get("/metrics").status_code == 200


def test_a_server_without_keys_accepts_all(serve: Callable[..., str]) -> None:
    client = Site(serve).client
    for headers in ({}, {"Authorization": "Bearer anything"}):
        assert client.get("/v1/models/x", headers=headers).json()["caller"] == ""


def test_the_openai_client_understands_the_error(serve: Callable[..., str]) -> None:
    site = Site(serve, api_key=[KEY])
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            client.models.retrieve("x")
    assert caught.value.code == "invalid_api_key" and str(caught.value.request_id).startswith("req_")


# ---- bodies ------------------------------------------------------------------------------------------------


def test_bodies_arrive_complete(serve: Callable[..., str]) -> None:
    site = Site(serve)
    value = {"a": ["Tiếng Việt " * 20_000, 1.5, None]}
    assert site.client.post("/v1/echo", json=value).json() == value

    def chunks() -> Any:
        text = json.dumps(value).encode()
        for i in range(0, len(text), 10_000):
            yield text[i : i + 10_000]

    headers = {"Content-Type": 'application/json; charset="UTF-8"'}
    assert site.client.post("/v1/echo", content=chunks(), headers=headers).json() == value


@pytest.mark.parametrize(
    "kind", ["application/json", "Application/JSON;charset=utf-8", "application/a.b+json"]
)
def test_content_types(serve: Callable[..., str], kind: str) -> None:
    answer = Site(serve).client.post("/v1/echo", content=b"[1]", headers={"Content-Type": kind})
    assert answer.json() == [1]


def test_bodies_that_are_not_json(serve: Callable[..., str]) -> None:
    site = Site(serve, max_json_depth=3, max_json_values=5)
    own = {"Content-Type": "application/json"}
    for kind in ("", "text/json", "application/json; charset=utf-16", "application/jsonp", "json"):
        answer = site.client.post("/v1/echo", content=b"[1]", headers={"Content-Type": kind})
        error_of(answer, 415, "unsupported_media_type")
    answer = site.client.post("/v1/echo", content=b"x", headers=own | {"Content-Encoding": "gzip"})
    error_of(answer, 415, "unsupported_encoding")
    for body in (b"[[[[]]]]", b"[1,1,1,1,1,1]", b"[NaN]", b'{"a":1,"a":1}', b"[", b"\xff", b"[1]\0"):
        error_of(site.client.post("/v1/echo", content=body, headers=own), 400, "invalid_json")
    assert site.calls == 0


def test_bodies_that_are_too_large(serve: Callable[..., str]) -> None:
    site = Site(serve, max_body_bytes=1000)
    fits, large = ["x" * 996], ["x" * 997]
    assert site.client.post("/v1/echo", json=fits).json() == fits
    error_of(site.client.post("/v1/echo", json=large), 413, "request_too_large")
    # Before the body arrives, and without a Content-Length.
    assert b" 413 " in site.raw(post(10**15, b"", "Connection: close"))
    start = b"%x\r\n" % 1001 + b"x" * 1001 + b"\r\n"
    assert b" 413 " in site.raw(post(None, start, "Connection: close"))
    assert site.calls == 1


def test_the_limit_of_all_bodies_together(serve: Callable[..., str]) -> None:
    site = Site(serve, max_buffered_bytes=1500)
    with socket.create_connection(site.address) as waiting:
        waiting.sendall(post(1200, b"[" + b" " * 999, "Connection: close"))
        time.sleep(0.2)
        answer = site.client.post("/v1/echo", json=["x" * 600])
        error_of(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        waiting.sendall(b" " * 199 + b"]")
        assert b" 200 " in read(waiting)
    assert site.client.post("/v1/echo", json=["x" * 600]).status_code == 200


def test_bodies_that_arrive_too_slowly(serve: Callable[..., str]) -> None:
    site = Site(serve, read_seconds=0.3)
    start = time.monotonic()
    answer = site.raw(post(100, b"["), *[b" "] * 4, pause=0.05)
    assert b" 408 " in answer.split(b"\r\n")[0] and b'"code":"timeout"' in answer
    assert b"connection: close" in answer.lower() and time.monotonic() - start < 30
    assert site.client.post("/v1/echo", json=[1]).json() == [1] and site.calls == 1


def test_clients_that_disconnect_during_the_body(
    serve: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "binhdan.server")
    site = Site(serve, max_buffered_bytes=1500)
    for gone in range(1, 4):  # its part of max_buffered_bytes is free again
        with socket.create_connection(site.address) as connection:
            connection.sendall(post(1400, b"x" * 1000))
            time.sleep(0.05)
        deadline = time.monotonic() + 30
        while len(caplog.records) < gone and time.monotonic() < deadline:
            time.sleep(0.01)
    deadline = time.monotonic() + 5
    while len(caplog.records) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [(record.levelno, vars(record)["status"]) for record in caplog.records] == [(logging.INFO, 0)] * 3
    assert site.client.post("/v1/echo", json=["x" * 1000]).status_code == 200 and site.calls == 1


def test_routes_receive_the_disconnect(serve: Callable[..., str]) -> None:
    site = Site(serve)
    with socket.create_connection(site.address) as connection:
        connection.sendall(post(3, b"[1]").replace(b"/v1/echo", b"/v1/watch"))
        assert not site.gone.wait(0.2)
    assert site.gone.wait(5)


# ---- errors and logs ---------------------------------------------------------------------------------------


def test_unexpected_errors(serve: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    answer = Site(serve).client.get("/v1/bug", headers={"X-Request-Id": "mine"})
    assert "mine" in error_of(answer, 500, "internal_error")["message"] and SECRET not in answer.text
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in errors] == ["binhdan.server"]


def test_errors_in_the_middle_of_a_response(serve: Callable[..., str]) -> None:
    site = Site(serve)
    with pytest.raises(httpx.RemoteProtocolError), site.client.stream("GET", "/v1/torn") as answer:
        assert answer.status_code == 200
        for _ in answer.iter_bytes():
            pass
    assert site.client.get("/livez").status_code == 200


def test_requests_are_logged(serve: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "binhdan.server")
    client = Site(serve, api_key=[f"lan {KEY}"]).client
    trace = f"00-{TRACE}-b7ad6b7169203331-00"
    client.get(
        f"/v1/models/{SECRET}?q={SECRET}", headers={"Authorization": f"Bearer {KEY}", "traceparent": trace}
    )
    client.get(f"/{SECRET}")
    client.get("/livez")  # logged at level debug
    time.sleep(0.1)
    served, refused = [vars(record) for record in caplog.records]
    assert (served["method"], served["route"], served["status"]) == ("GET", "/v1/models/{model:path}", 200)
    assert (served["key"], served["trace_id"]) == ("lan", TRACE) and served["ms"] > 0
    assert (refused["route"], refused["status"], refused["key"]) == ("", 401, "")
    assert SECRET not in str(served) + str(refused) and KEY not in str(served) + str(refused)
