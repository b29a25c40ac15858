"""Runs a file of requests in OpenAI's batch format, through the server's application without a socket.

A line of the input is {"custom_id": …, "method": "POST", "url": "/v1/chat/completions", "body": {…}}; each
request adds a line with its `custom_id` and its response to the output. A second run continues: it skips the
requests that the output already has. So a run may be killed at any time; nothing is lost or done twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from starlette.types import ASGIApp, Message, Scope

from binhdan.runtime.errors import BinhdanError, FileReadError, InvalidArgumentError
from binhdan.runtime.reasons import file_reason
from binhdan.runtime.server.app import create_app
from binhdan.runtime.server.config import ServerConfig

_TRY_AGAIN = ("overloaded", "out_of_memory", "insufficient_memory")  # codes of errors
_MAX_TRIES = 20


@dataclass(slots=True)
class Counts:
    """Requests of a run."""

    skipped: int = 0  # done by an earlier run
    succeeded: int = 0
    failed: int = 0  # answered with an error


async def run_batch(
    config: ServerConfig,
    source: Path,
    output: Path,
    max_concurrent: int,
    on_done: Callable[[Counts], None] = lambda counts: None,
) -> Counts:
    """Runs the requests of `source` that `output` does not have. `on_done` is called after each.

    Raises InvalidArgumentError for a line that is no request, FileReadError, and BinhdanError if the default
    model cannot be loaded.
    """
    counts = Counts()
    ids = read_ids(source)
    with opened(output) as file:
        done = finished(file, output)
        counts.skipped = sum(one in done for one in ids)
        app = create_app(config)
        async with app.router.lifespan_context(app):
            pool = app.state.server.pool
            running: set[asyncio.Task[None]] = set()

            async def run(request: dict[str, Any]) -> None:
                write(file, await answer_to(app, request), counts)
                on_done(counts)

            try:
                async for request in left_of(source, done):
                    while len(running) >= max_concurrent:
                        _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    if pool.failed is not None:
                        raise BinhdanError(str(pool.failed))
                    running.add(asyncio.create_task(run(request)))
                await asyncio.gather(*running)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        os.fsync(file.fileno())
    return counts


# ---- files -------------------------------------------------------------------------------------------------


def read_ids(source: Path) -> list[str]:
    """The ids of all requests. A wrong line is an error before hours of work, and before there is output."""
    return [request["custom_id"] for _, request in requests_of(source)]


def write(file: BinaryIO, line: dict[str, Any], counts: Counts) -> None:
    """Adds a line to the output and counts it."""
    file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    file.flush()
    ok = line["response"]["status_code"] < 400
    counts.succeeded += ok
    counts.failed += not ok


@contextmanager
def opened(output: Path) -> Iterator[BinaryIO]:
    """The output, locked against a second run."""
    try:
        file = output.open("a+b")
    except OSError as error:
        raise FileReadError(f"cannot write {file_reason(error, output)}") from None
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has no such locks
            pass
        except OSError:
            raise FileReadError(f"another run writes {output}; wait for its end") from None
        yield file


def finished(file: BinaryIO, output: Path) -> set[str]:
    """The ids that the output has. Removes a last line that is incomplete, because its run was killed."""
    file.seek(0)
    done: set[str] = set()
    end = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        end += len(line)
        try:
            done.add(json.loads(line)["custom_id"])
        except (ValueError, KeyError, TypeError):
            raise InvalidArgumentError(
                f"{output}, line {number}: expected a result with a custom_id; is this another file?"
            ) from None
    file.truncate(end)
    return done


def requests_of(source: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The requests of the input, checked, with their line numbers."""
    seen: set[str] = set()
    try:
        with source.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    request = _parse(line, f"{source}, line {number}")
                    if request["custom_id"] in seen:
                        raise InvalidArgumentError(
                            f"{source}, line {number}: expected unique custom_ids, got "
                            f"{request['custom_id'][:64]!r} twice"
                        )
                    seen.add(request["custom_id"])
                    yield number, request
    except OSError as error:
        raise FileReadError(f"{file_reason(error, source)}; expected a file of requests") from None


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise InvalidArgumentError(f"{place}: expected a JSON object: {error}") from None
    if not isinstance(request, dict):
        raise InvalidArgumentError(f"{place}: expected a JSON object, got another value")
    if not isinstance(request.get("custom_id"), str) or not isinstance(request.get("body"), dict):
        raise InvalidArgumentError(f"{place}: expected custom_id (a text) and body (an object)")
    url = request.get("url")
    if not isinstance(url, str) or not url.startswith("/v1/"):
        raise InvalidArgumentError(f"{place}: expected a url such as /v1/chat/completions")
    if request.get("method", "POST") != "POST":
        raise InvalidArgumentError(f"{place}: expected the method POST")
    return request


async def left_of(source: Path, done: set[str]) -> AsyncIterator[dict[str, Any]]:
    """The requests without a result."""
    for number, request in requests_of(source):
        if request["custom_id"] not in done:
            yield request
        elif number % 1000 == 0:
            await asyncio.sleep(0)


# ---- requests ----------------------------------------------------------------------------------------------


async def answer_to(app: ASGIApp, request: dict[str, Any]) -> dict[str, Any]:
    """The line of the output."""
    whole = {name: value for name, value in request["body"].items() if name != "stream"}
    body = json.dumps(whole).encode()
    for tries in range(_MAX_TRIES):
        status, request_id, answer = await _call(app, request["url"], body)
        error = answer.get("error") if status == 503 and isinstance(answer, dict) else None
        if not isinstance(error, dict) or error.get("code") not in _TRY_AGAIN:
            break
        await asyncio.sleep(min(2**tries / 10, 5))
    return {
        "id": f"batch_req_{secrets.token_hex(12)}",
        "custom_id": request["custom_id"],
        "response": {"status_code": status, "request_id": request_id, "body": answer},
        "error": None,
    }


async def _call(app: ASGIApp, path: str, body: bytes) -> tuple[int, str, Any]:
    """Status, request id and JSON of a POST to the application."""
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": None,
        "server": None,
        "state": {},
    }
    sent: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    status, headers, received = 500, dict[bytes, bytes](), bytearray()

    async def receive() -> Message:
        if not sent:
            await asyncio.Event().wait()  # no disconnect
        return sent.pop()

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], dict(message["headers"])
        else:
            received.extend(message.get("body", b""))

    await app(scope, receive, send)
    return status, headers.get(b"x-request-id", b"").decode(), json.loads(received or b"null")
