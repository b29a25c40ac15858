"""bench/load/http_client.py: finds the end of each response, however its bytes are split; refuses other
bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binhdan
from binhdan.bench.load.http_client import MAX_HEAD_BYTES, HttpClient, HttpError, Response

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, end: bool = False) -> Response:
    response = Response()
    response.feed(data, 1.0)
    if end:
        response.feed_end(2.0)
    return response


# ---- responses ---------------------------------------------------------------------------------------------


def test_a_body_with_a_length() -> None:
    response = read(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nX-Two:  a b \r\n\r\nhello")
    assert (response.status, response.body, response.finished) == (404, b"hello", True)
    assert response.headers["x-two"] == "a b" and response.keeps_alive and response.ended == 1.0


def test_chunks_extensions_and_a_trailer() -> None:
    response = read(CHUNKED + b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert response.body == b"hello world" and response.finished and response.keeps_alive
    assert response.pieces == [(1.0, b"hello"), (1.0, b" world")]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    chunked=st.booleans(),
)
def test_split_positions_do_not_change_the_response(
    chunks: list[bytes], cuts: list[int], chunked: bool
) -> None:
    body = b"".join(chunks)
    if chunked:
        data = CHUNKED + b"".join(b"%X\r\n%b\r\n" % (len(one), one) for one in chunks) + b"0\r\n\r\n"
    else:
        data = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    response = Response()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for number, (begin, end) in enumerate(pairwise(edges)):
        assert not response.finished or begin == end == len(data)
        response.feed(data[begin:end], float(number))
    assert response.finished and response.body == body and response.keeps_alive
    times = [time for time, _ in response.pieces]
    assert times == sorted(times)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_response_or_an_error(data: bytes) -> None:
    for start in (b"", CHUNKED, b"HTTP/1.1 200 OK\r\n"):
        response = Response()
        try:
            response.feed(start + data, 0.0)
            response.feed_end(0.0)
        except HttpError as error:
            assert len(str(error)) < 300


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    response = read(b"HTTP/1.1 200 OK\r\n\r\nall of it", end=True)
    assert response.body == b"all of it" and response.finished and not response.keeps_alive


def test_an_interim_response_precedes_the_response() -> None:
    response = read(b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    assert response.status == 204 and response.finished and response.headers == {}


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nConnection: close", b"HTTP/1.0 200 OK"])
def test_the_server_announces_that_it_closes_the_connection(head: bytes) -> None:
    assert not read(head + b"\r\nContent-Length: 0\r\n\r\n").keeps_alive


def test_bytes_after_the_response_prevent_reuse_of_the_connection() -> None:
    assert not read(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab").keeps_alive


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "expected an HTTP/1.1 response, .*Expected HTTP/"),
        (b"HTTP/1.1 abc\r\n\r\n", "expected an HTTP/1.1 response, .*status code"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "expected an HTTP/1.1 response, got version 2.0"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 response",
        ),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "header"),
        (b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n", "space after start line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer-encoding"),
        (b"A" * (MAX_HEAD_BYTES + 1), "Expected HTTP/"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"A" * MAX_HEAD_BYTES, "at most 65,536 bytes in the head"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2700, "at most 65,536 bytes in the head"),
        (CHUNKED + b"0x5\r\n", "chunk size"),
        (CHUNKED + b"\r\n", "chunk size"),
        (CHUNKED + b"12345678123456789\r\n", "Chunk size overflow"),
        (CHUNKED + b"1\r\nab\r\n", "after chunk data"),
        (CHUNKED + b"1" * 2000, "Chunk size overflow"),
        (CHUNKED + b"1;" + b"x" * MAX_HEAD_BYTES, "between pieces of the body"),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 11000, "between pieces of the body"),
    ],
)
def test_bytes_that_are_no_response(data: bytes, message: str) -> None:
    with pytest.raises(HttpError, match=message):
        read(data)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200", CHUNKED + b"5\r\nhel", CHUNKED + b"0\r\n"])
def test_the_connection_ends_within_a_response(data: bytes) -> None:
    with pytest.raises(HttpError, match="within a response"):
        read(data, end=True)


def test_a_body_above_the_limit() -> None:
    response = Response(max_body_bytes=10)
    with pytest.raises(HttpError, match="at most 10 bytes"):
        response.feed(CHUNKED + b"8\r\n12345678\r\n8\r\n12345678\r\n", 0.0)


# ---- the client --------------------------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[tuple[HttpClient, list[bytes]]]:
    """A server that calls `answer` for each request; yields a client of it and the requests that it
    received."""
    requests: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")]
                body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
                requests.append(head + body)
                await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        async with HttpClient(f"http://127.0.0.1:{port}/base/", headers={"X-Key": "k"}) as client:
            yield client, requests


async def test_requests_share_a_connection() -> None:
    peers = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with server(answer) as (client, requests):
        for _ in range(3):
            response = await client.request("POST", "/path", "dữ liệu".encode())
            assert response.body == b"ok" and 0 < response.sent <= response.ended
        await client.request("GET", "//root")
    assert len(peers) == 1
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /base/path HTTP/1.1\r\nHost: 127.0.0.1:") and b"\r\nX-Key: k\r\n" in head
    assert body.decode() == "dữ liệu" and b"Content-Length: 11" in head
    assert requests[3].startswith(b"GET /root HTTP/1.1\r\n") and b"Content-Length" not in requests[3]


async def test_a_request_on_a_closed_connection_is_sent_again_on_a_new_one() -> None:
    served: set[object] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer in served:  # no response to the second request on a connection
            writer.transport.abort()
            return
        served.add(writer)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with server(answer) as (client, requests):
        for _ in range(3):
            assert (await client.request("GET", "/")).status == 200
    assert len(served) == 3 and len(requests) == 5


async def test_a_new_connection_without_a_response_is_an_error_and_is_not_retried() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with server(answer) as (client, requests):
        with pytest.raises(HttpError):
            await client.request("GET", "/")
    assert len(requests) == 1


async def test_the_client_closes_the_connection_early() -> None:
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        try:
            while True:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            ended.set()
            raise

    async with server(answer) as (client, _):
        response = await client.request("GET", "/", stop_when=lambda one: len(one.body) >= 5)
        assert len(response.body) >= 5 and not response.finished
        async with asyncio.timeout(10):
            await ended.wait()


async def test_a_cancelled_request_closes_its_connection() -> None:
    requested, ended = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requested.set()
        try:
            assert await reader.read(1) == b""
        finally:
            ended.set()

    async with server(answer) as (client, _), asyncio.timeout(30):
        task = asyncio.create_task(client.request("GET", "/"))
        await requested.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ended.wait()


async def test_bytes_of_another_protocol() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n")

    async with server(answer) as (client, _):
        with pytest.raises(HttpError, match=r"expected an HTTP/1\.1 response"):
            await client.request("GET", "/")


async def test_a_port_without_a_server() -> None:
    async with HttpClient("http://127.0.0.1:1") as client:
        with pytest.raises(HttpError, match=r"cannot connect to 127\.0\.0\.1:1"):
            await client.request("GET", "/")


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:80", "ftp://host/", "http://", "http://host:99999", "http://[::1"]
)
async def test_invalid_urls(url: str) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected a URL"):
        HttpClient(url)


async def test_headers_and_paths_cannot_add_lines() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="one line"):
        HttpClient("http://host", headers={"Authorization": "Bearer a\r\nX: b"})
    with pytest.raises(binhdan.InvalidArgumentError, match="path"):
        HttpClient("http://host").request_bytes("GET", "/a HTTP/1.1\r\nX:")
