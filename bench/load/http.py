"""HTTP/1.1 for a load generator: requests whose answers are kept as bytes, each piece with its time.

The client runs on the cores of the server that it measures, so it does as little as it can while the clock
runs: where an answer ends (RFC 9112), and nothing of what it says. httpx takes six times as long for a token.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import cast
from urllib.parse import urlsplit

import binhdan

MOST_HEAD_BYTES = 64 << 10
MOST_BODY_BYTES = 64 << 20
_MOST_CHUNK_LINE = 1024  # a chunk's size with its extensions
_CONNECT_SECONDS = 10.0


class HttpError(Exception):
    """The connection failed, or what came is no answer in HTTP/1.1."""


class Response:
    """An answer as it comes. `feed` it with bytes until `finished`; raises HttpError."""

    def __init__(self, *, most_body_bytes: int = MOST_BODY_BYTES) -> None:
        self.status = 0  # 0: no head has come
        self.headers: dict[str, str] = {}  # names in lower case; the last of several with the same name
        self.pieces: list[tuple[float, bytes]] = []  # the body: when it came, what came
        self.sent = 0.0  # seconds of perf_counter, as all times
        self.ended = 0.0
        self.finished = False
        self.keeps_alive = False
        self._buffer = bytearray()
        self._step = self._head
        self._left = 0  # bytes of a body or chunk that are still to come
        self._room = most_body_bytes

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    def feed(self, data: bytes, now: float) -> None:
        """Bytes of the connection that came at `now`."""
        self._buffer += data
        while not self.finished and self._step(now):
            pass
        if self.finished and self._buffer:
            self.keeps_alive = False  # more than was asked for: the connection is of no use

    def feed_end(self, now: float) -> None:
        """The server has closed the connection."""
        if self._step != self._until_close:
            raise HttpError("the server closed the connection within an answer")
        self._end(now)
        self.keeps_alive = False

    # ---- steps: each takes what it can from the buffer and says whether there may be more to take ----------

    def _head(self, now: float) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or end > MOST_HEAD_BYTES:
            if len(self._buffer) > MOST_HEAD_BYTES:
                raise HttpError(f"the head of the answer is longer than {MOST_HEAD_BYTES:,} bytes")
            return False
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, rest = first.partition(" ")
        code = rest[:3]
        if not version.startswith("HTTP/1.") or not (code.isascii() and code.isdigit() and len(code) == 3):
            raise HttpError(f"expected an answer in HTTP/1.1, got {first[:40]!r}")
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise HttpError(f"expected a header, got {line[:40]!r}")
            self.headers[name.lower()] = value.strip()
        self.status = int(code)
        if self.status < 200:  # such as 100 Continue: the answer comes after it
            self.status = 0
            self.headers.clear()
            return True
        self._choose_body(version, now)
        return True

    def _choose_body(self, version: str, now: float) -> None:
        connection = self.headers.get("connection", "").lower()
        self.keeps_alive = "close" not in connection and (version != "HTTP/1.0" or "keep-alive" in connection)
        coding = self.headers.get("transfer-encoding", "").lower()
        length = self.headers.get("content-length")
        if self.status in (204, 304):
            self._end(now)
        elif coding:
            if coding != "chunked":
                raise HttpError(f"transfer-encoding: expected chunked, got {coding[:40]!r}")
            self._step = self._chunk_size
        elif length is None:
            self._step = self._until_close
        else:
            if not (length.isascii() and length.isdigit() and len(length) < 19):
                raise HttpError(f"content-length: expected a number, got {length[:40]!r}")
            self._left = int(length)
            self._step = self._sized
            if self._left == 0:
                self._end(now)

    def _sized(self, now: float) -> bool:
        self._take(now)
        if self._left == 0:
            self._end(now)
        return False

    def _until_close(self, now: float) -> bool:
        self._left = len(self._buffer)
        self._take(now)
        return False

    def _chunk_size(self, now: float) -> bool:
        line = self._line()
        if line is None:
            return False
        size = line.split(b";", 1)[0].strip()
        if not 0 < len(size) <= 8 or not all(digit in b"0123456789abcdefABCDEF" for digit in size):
            raise HttpError(f"expected the size of a chunk, got {line[:40]!r}")
        self._left = int(size, 16)
        self._step = self._chunk if self._left else self._trailer
        return True

    def _chunk(self, now: float) -> bool:
        self._take(now)
        if self._left:
            return False
        self._step = self._chunk_end
        return True

    def _chunk_end(self, now: float) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] != b"\r\n":
            raise HttpError("a chunk is longer than its size")
        del self._buffer[:2]
        self._step = self._chunk_size
        return True

    def _trailer(self, now: float) -> bool:
        line = self._line()
        if line == b"":
            self._end(now)
        return line is not None

    # ---- the buffer ----------------------------------------------------------------------------------------

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n")
        if end < 0 or end > _MOST_CHUNK_LINE:
            if len(self._buffer) > _MOST_CHUNK_LINE:
                raise HttpError(f"a line between chunks is longer than {_MOST_CHUNK_LINE:,} bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _take(self, now: float) -> None:
        piece = bytes(self._buffer[: self._left])
        if not piece:
            return
        self._room -= len(piece)
        if self._room < 0:
            raise HttpError("the answer is longer than the limit")
        del self._buffer[: len(piece)]
        self._left -= len(piece)
        self.pieces.append((now, piece))

    def _end(self, now: float) -> None:
        self.ended = now
        self.finished = True


class _Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._response: Response | None = None
        self._done: asyncio.Future[None] | None = None
        self._enough: Callable[[Response], bool] | None = None
        self.transport: asyncio.Transport | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it
        self.open = True

    async def exchange(
        self, data: bytes, response: Response, enough: Callable[[Response], bool] | None
    ) -> None:
        """Sends a request and waits for the answer. Closes the wire unless it can go on. Raises HttpError."""
        assert self.transport is not None
        self._response, self._enough = response, enough
        self._done = asyncio.get_running_loop().create_future()
        try:
            self.transport.write(data)
            await self._done
        except BaseException:
            response.keeps_alive = False
            raise
        finally:
            self._response = self._done = None
            if not response.keeps_alive:
                self.close()

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:  # nobody asked
            self.close()
            return
        try:
            response.feed(data, perf_counter())
        except HttpError as error:
            self._end(error)
            return
        if response.finished:
            self._end(None)
        elif self._enough is not None and self._enough(response):
            response.keeps_alive = False
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._response is not None:
            try:
                if error is not None:
                    raise HttpError(f"the connection was lost: {error}")
                self._response.feed_end(perf_counter())
                self._end(None)
            except HttpError as failure:
                self._end(failure)

    def close(self) -> None:
        self.open = False
        if self.transport is not None:
            self.transport.abort()

    def _end(self, error: HttpError | None) -> None:
        if self._done is not None and not self._done.done():
            if error is None:
                self._done.set_result(None)
            else:
                self._done.set_exception(error)


class HttpClient:
    """Requests to one server, on connections that are kept and used again. Belongs to one event loop.

    `url` is "http://host:port" with or without a path, to which requests' paths are added.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise binhdan.InvalidArgumentError(f"expected a URL such as http://127.0.0.1:8080, got {url!r}")
        self.host = parts.hostname
        self.port = port or (443 if parts.scheme == "https" else 80)
        self.path = parts.path.rstrip("/")
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        lines = {"Host": parts.netloc.rpartition("@")[2], "Accept": "*/*", **(headers or {})}
        for name, value in lines.items():
            if not (name + value).isprintable():
                raise binhdan.InvalidArgumentError(f"header {name!r}: expected one line of text")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[_Wire] = []

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        enough: Callable[[Response], bool] | None = None,
        most_body_bytes: int = MOST_BODY_BYTES,
    ) -> Response:
        """The answer. Hangs up when `enough` says so of what has come. Raises HttpError."""
        data = self.request_bytes(method, path, body)
        sent = perf_counter()
        while True:
            wire = self._idle_wire()
            kept = wire is not None
            wire = wire or await self._connect()
            response = Response(most_body_bytes=most_body_bytes)
            response.sent = sent
            try:
                await wire.exchange(data, response, enough)
            except HttpError:
                # Servers close connections that nobody uses; that may cross with our request.
                if kept and response.status == 0:
                    continue
                raise
            if wire.open:
                self._idle.append(wire)
            return response

    def request_bytes(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A request as it is sent. A path that begins with "//" is from the server's root."""
        path = path[1:] if path.startswith("//") else self.path + path
        if not path.isascii() or any(c <= " " for c in path):
            raise binhdan.InvalidArgumentError(f"expected a path without spaces, got {path!r}")
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}\r\n".encode("latin-1") + (body or b"")

    def close(self) -> None:
        """Closes idle connections."""
        while self._idle:
            self._idle.pop().close()

    async def __aenter__(self) -> HttpClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _idle_wire(self) -> _Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.open:
                return wire
        return None

    async def _connect(self) -> _Wire:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, wire = await loop.create_connection(_Wire, self.host, self.port, ssl=self._ssl)
        except OSError as error:  # TimeoutError too
            reason = error.strerror or str(error) or "no answer"
            raise HttpError(f"cannot connect to {self.host}:{self.port}: {reason}") from error
        return wire
