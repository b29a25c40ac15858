"""Faulty clients for the soak test: they disconnect early, send invalid data or send slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from time import perf_counter

from binhdan.bench.load.chat_client import TIMED_OUT, Call, ChatClient
from binhdan.bench.load.http_client import HttpError, Response

# Takes a client, the body of a valid request, and a source of randomness; returns the server's response.
Fault = Callable[[ChatClient, bytes, Random], Awaitable[Call]]

PATH = "/chat/completions"
_WAIT_SECONDS = 0.2
_TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the first bytes of a TLS client


async def cancelled(client: ChatClient, body: bytes, rng: Random) -> Call:
    """Closes the connection in the middle of the answer."""
    pieces = rng.randint(1, 12)
    return await client.call(PATH, body, stop_when=lambda response: len(response.pieces) >= pieces)


async def gone(client: ChatClient, body: bytes, rng: Random) -> Call:
    """Sends a complete request and closes the connection before the answer."""
    return await _send(client, _request(client, body), wait=rng.uniform(0.0, 0.1))


async def half_head(client: ChatClient, body: bytes, rng: Random) -> Call:
    """Closes the connection within the head of the request."""
    head = len(_request(client, body)) - len(body)
    return await _send(client, _request(client, body)[: rng.randrange(1, head)], wait=_wait(rng))


async def no_body(client: ChatClient, body: bytes, rng: Random) -> Call:
    """Closes the connection before the body."""
    head = len(_request(client, body)) - len(body)
    return await _send(client, _request(client, body)[:head], wait=_wait(rng))


async def half_body(client: ChatClient, body: bytes, rng: Random) -> Call:
    """Closes the connection within the body."""
    data = _request(client, body)
    return await _send(client, data[: -rng.randrange(1, len(body))], wait=_wait(rng))


async def garbage(client: ChatClient, body: bytes, rng: Random) -> Call:
    """Sends bytes that are neither HTTP nor JSON."""
    noise = rng.randbytes(rng.randint(1, 2000))
    start = rng.choice([b"", _TLS_HELLO, b"POST /v1/chat/completions HTTP/1.1\r\n", b"GET / HTTP/9.9\r\n"])
    data = start + noise if rng.random() < 0.7 else _request(client, noise)
    return await _send(client, data, wait=_WAIT_SECONDS)


async def dribble(client: ChatClient, body: bytes, rng: Random) -> Call:
    """Sends a valid request in small parts, slowly, and waits for the answer."""
    return await _send(client, _request(client, body), parts=rng.randint(4, 12), wait=None)


FAULTS: dict[str, Fault] = {
    "cancelled": cancelled,
    "gone": gone,
    "half head": half_head,
    "no body": no_body,
    "half body": half_body,
    "garbage": garbage,
    "dribble": dribble,
}


def _request(client: ChatClient, body: bytes) -> bytes:
    return client.http.request_bytes("POST", PATH, body)


def _wait(rng: Random) -> float:
    return rng.choice([0.0, 0.0, _WAIT_SECONDS])


async def _send(client: ChatClient, data: bytes, *, wait: float | None, parts: int = 1) -> Call:
    """Sends `data` on a new connection and reads for `wait` seconds; None: until the end of the response."""
    due, response = perf_counter(), Response()
    failure: str | None = None
    try:
        async with asyncio.timeout(client.seconds):
            reader, writer = await asyncio.open_connection(client.http.host, client.http.port)
            try:
                size = -(-len(data) // parts)
                for begin in range(0, len(data), size):
                    if begin:
                        await asyncio.sleep(0.05)
                    writer.write(data[begin : begin + size])
                    await writer.drain()
                async with asyncio.timeout(wait):
                    while not response.finished:
                        if received := await reader.read(1 << 16):
                            response.feed(received, perf_counter())
                        else:
                            response.feed_end(perf_counter())
            finally:
                writer.transport.abort()
    except TimeoutError:
        failure = TIMED_OUT
    except (OSError, HttpError) as error:
        failure = str(error) or type(error).__name__
    return Call(due, response, failure, perf_counter())
