"""runtime/server/http/connection.py: slow, invalid and hostile clients, over raw sockets."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from binhdan.runtime.server.http.connection import ConnectionLimits, limited

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE = 32 << 20


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """/ answers at once and ignores the body. /read answers after the body, /slow after 0.5 s, /slower after
    2 s. /large answers with 32 MiB."""
    if scope["type"] != "http":
        return
    path, size = scope["path"], 0
    if path == "/read":
        while (message := await receive()).get("more_body", False):
            size += len(message["body"])
        size += len(message.get("body", b""))
    await asyncio.sleep({"/slow": 0.5, "/slower": 2}.get(path, 0))
    body = b"x" * LARGE if path == "/large" else str(size).encode()
    length = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})


Start = Callable[..., tuple[str, int]]


@pytest.fixture
def start(serve: Callable[..., str]) -> Start:
    """Runs the application with limits, and returns its address."""

    def run(keep_alive: float = 5.0, **limits: Any) -> tuple[str, int]:
        protocol = limited(ConnectionLimits(**limits))
        url = serve(application, http=protocol, lifespan="off", timeout_keep_alive=keep_alive)
        return "127.0.0.1", httpx.URL(url).port or 0

    return run


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> None:
        self.socket = socket.create_connection(address, timeout=10)
        for part in parts:
            self.send(part)
            time.sleep(pause)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def rest(self) -> bytes:
        """All bytes until the server closes the connection. Fails after 10 s."""
        data = b""
        try:
            while chunk := self.socket.recv(1 << 20):
                data += chunk
        except ConnectionResetError:
            pass
        return data

    def answer(self) -> bytes:
        """One response whose body is a digit."""
        data = b""
        while not re.search(rb"\r\n\r\n.", data):
            chunk = self.socket.recv(65536)
            assert chunk, data
            data += chunk
        return data


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    with ExitStack() as stack:

        def connect(address: tuple[str, int], *parts: bytes, pause: float = 0.0) -> Client:
            client = Client(address, *parts, pause=pause)
            stack.enter_context(client.socket)
            return client

        yield connect


Connect = Callable[..., Client]


def refused(answer: bytes, status: int) -> str:
    """The message of an error response that closes the connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0].startswith(b"http/1.1 %d " % status), answer[:200]
    assert b"connection: close" in lines and b"content-type: application/json" in lines
    error = json.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


# ---- good clients ------------------------------------------------------------------------------------------


def test_requests_on_one_connection(start: Start, clients: Connect) -> None:
    client = clients(start())
    for _ in range(3):
        client.send(GET)
        assert client.answer().startswith(b"HTTP/1.1 200 ")
        client.send(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
        time.sleep(0.02)
        client.send(b"cde")
        assert client.answer().endswith(b"\r\n\r\n5")
    client.send(b"\r\n" + GET)  # an empty line before a request is allowed
    assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_a_few_pipelined_requests(start: Start, clients: Connect) -> None:
    client = clients(start(), GET * 3 + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert client.rest().count(b"HTTP/1.1 200 ") == 4


def test_large_bodies_and_responses(start: Start) -> None:
    host, port = start(max_body_bytes=4 << 20)
    with httpx.Client(base_url=f"http://{host}:{port}") as client:
        assert client.post("/read", content=b"x" * (4 << 20)).text == str(4 << 20)
        chunks = (b"x" * 1000 for _ in range(4000))
        assert client.post("/read", content=chunks).text == "4000000"
        assert len(client.get("/large").content) == LARGE


def test_stray_bytes_do_not_cancel_a_response(start: Start, clients: Connect) -> None:
    client = clients(start(header_seconds=1), GET.replace(b"/ ", b"/slower "))
    time.sleep(0.05)
    client.send(b"\r\n")
    assert client.answer().startswith(b"HTTP/1.1 200 ")


def test_idle_connections_are_closed(start: Start, clients: Connect) -> None:
    address = start(keep_alive=1, header_seconds=1.5)
    begin = time.monotonic()
    assert clients(address).rest() == b""  # a connection without a request
    assert clients(address, GET).rest().startswith(b"HTTP/1.1 200 ")
    assert time.monotonic() - begin < 30


# ---- headers -----------------------------------------------------------------------------------------------


def test_headers_that_arrive_too_slowly(start: Start, clients: Connect) -> None:
    address = start(header_seconds=0.4)
    begin = time.monotonic()
    slow = [clients(address, b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ") for _ in range(3)]
    for _ in range(5):
        for client in slow:
            with suppress(
                BrokenPipeError, ConnectionResetError
            ):  # on a slow machine the server closes earlier
                client.send(b"b")
        time.sleep(0.05)
    assert clients(address, GET).answer().startswith(b"HTTP/1.1 200 ")  # other clients are served
    for client in slow:
        assert "in time" in refused(client.rest(), 408)
    assert time.monotonic() - begin < 30
    # Also after a complete request, and for empty lines.
    client = clients(address, GET)
    client.answer()
    client.send(b"GET / HT")
    refused(client.rest(), 408)
    refused(clients(address, *[b"\r\n"] * 3, pause=0.05).rest(), 408)


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 5000,  # without an end
        b"GET / HTTP/1.1\r\nX-A: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X-A: aaaaaaaaaa\r\n" * 90 * 4 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 101 + b"\r\n",
        b"GET / HTTP/1.1\r\n" + b"A" * 5000,
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 5000,
    ],
    ids=range(7),
)
@pytest.mark.parametrize("pieces", [1, 50])
def test_headers_that_are_too_large(start: Start, clients: Connect, data: bytes, pieces: int) -> None:
    address = start(max_header_bytes=4000)
    size = -(-len(data) // pieces)
    client = clients(address)
    try:
        for i in range(0, len(data), size):
            client.send(data[i : i + size])
    except (BrokenPipeError, ConnectionResetError):
        assert pieces > 1
    refused(client.rest(), 431)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\0: x\r\n\r\n",
        b"GET \xff HTTP/1.1\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /read HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n",
    ],
    ids=range(12),
)
def test_invalid_requests(start: Start, clients: Connect, data: bytes) -> None:
    refused(clients(start(), data).rest(), 400)


def test_upgrades_are_ignored(start: Start, clients: Connect, caplog: Any) -> None:
    client = clients(
        start(), GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    )
    assert client.answer().startswith(b"HTTP/1.1 200 ")
    assert not caplog.records  # a client must not be able to fill the log


# ---- bodies ------------------------------------------------------------------------------------------------


def test_the_rest_of_a_refused_body(start: Start, clients: Connect) -> None:
    """After an early response, the rest of the body is dropped, for a limited time."""
    address = start(header_seconds=1.5, max_body_bytes=10_000, keep_alive=1.5)
    client = clients(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n")
    assert client.answer().startswith(b"HTTP/1.1 200 ")
    client.send(b"x" * 3000)
    time.sleep(0.05)
    client.send(GET)
    assert client.answer().startswith(b"HTTP/1.1 200 ")

    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n")
    client.answer()
    client.send(b"x" * 3000)
    assert client.rest() == b""  # closed by the keep-alive timer

    client = clients(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n")
    client.answer()
    begin = time.monotonic()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(600):  # slower than the limit
            client.send(b"x")
            time.sleep(0.05)
    assert time.monotonic() - begin < 30


def test_the_rest_of_a_refused_body_that_is_too_large(start: Start, clients: Connect) -> None:
    address = start(max_body_bytes=10_000, header_seconds=0.5)
    client = clients(address, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n")
    client.answer()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        for _ in range(1000):
            client.send(b"x" * 10_000)
            time.sleep(0.001)


@pytest.mark.parametrize(
    "chunk",
    [b"1;" + b"a" * 100_000, b"1\r\nx\r\n" * 20_000, b"0\r\nX-A: " + b"a" * 100_000],
    ids=["extension", "tiny chunks", "trailer"],
)
def test_chunks_that_are_all_overhead(start: Start, clients: Connect, chunk: bytes) -> None:
    address = start(max_body_bytes=10_000)
    client = clients(address, b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        for i in range(0, len(chunk), 5000):
            client.send(chunk[i : i + 5000])
            time.sleep(0.002)
    except (BrokenPipeError, ConnectionResetError):
        pass
    refused(client.rest(), 413)


def test_trailers(start: Start, clients: Connect) -> None:
    head = b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    client = clients(start(), head + b"1\r\nx\r\n0\r\nX-A: b\r\n\r\n")
    assert "trailers" in refused(client.rest(), 400)


# ---- connections -------------------------------------------------------------------------------------------


def test_too_many_connections(start: Start, clients: Connect) -> None:
    address = start(max_connections=2)
    first, second = clients(address, GET), clients(address, GET)
    first.answer(), second.answer()
    assert "connections" in refused(clients(address).rest(), 503)
    first.socket.close()
    time.sleep(0.1)
    assert clients(address, GET).answer().startswith(b"HTTP/1.1 200 ")


def test_too_many_pipelined_requests(start: Start, clients: Connect) -> None:
    answer = clients(start(), GET.replace(b"/ ", b"/slow ") * 500).rest()
    assert answer.count(b"HTTP/1.1") <= 6


def test_clients_that_do_not_read(start: Start, clients: Connect) -> None:
    address = start(write_seconds=0.3, keep_alive=0.3, max_connections=1)
    client = clients(address, GET.replace(b"/ ", b"/large "))
    begin = time.monotonic()
    while b" 200 " not in (answer := try_get(address)):  # until the first connection is aborted
        assert time.monotonic() - begin < 30, answer
        time.sleep(0.05)
    assert 0 < len(client.rest()) < LARGE


def try_get(address: tuple[str, int]) -> bytes:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(GET)
        return connection.recv(4096)
