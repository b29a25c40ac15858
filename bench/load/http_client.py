"""An HTTP/1.1 client for a load generator: it keeps each response as bytes, each piece with its time.

The client shares the cores with the server that it measures, so it does little while the clock runs:
httptools finds the pieces of the body, and nothing reads them. httpx takes at least six times as long per
token.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import cast
from urllib.parse import urlsplit

import httptools

import binhdan

MAX_HEAD_BYTES = 64 << 10
MAX_BODY_BYTES = 64 << 20
_CONNECT_SECONDS = 10.0


class HttpError(Exception):
    """The connection failed, or the server sent something other than a valid HTTP/1.1 response."""


class Response:
    """A response that arrives in parts. Call `feed` with bytes until `finished`. Raises HttpError.

    The head may have about MAX_HEAD_BYTES, as may everything else that the parser consumes without yielding a
    piece of the body: interim responses, lines between chunks, trailers.
    """

    def __init__(self, *, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.status = 0  # 0: the head is incomplete
        self.headers: dict[str, str] = {}  # names in lower case; the last value of a repeated name
        self.pieces: list[tuple[float, bytes]] = []  # of the body: time of arrival, bytes
        self.sent = 0.0  # all times are seconds of perf_counter
        self.ended = 0.0
        self.finished = False
        self.keeps_alive = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._now = 0.0
        self._max_body_bytes = max_body_bytes
        self._body_bytes = 0
        self._overhead_bytes = 0  # received since the last piece of the body
        self._ends_with_connection = False

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    def feed(self, data: bytes, now: float) -> None:
        """Parses bytes that the connection received at `now`."""
        if self._parser is None:
            if data:
                self.keeps_alive = False  # bytes after the response
            return
        self._now = now
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keeps_alive = False
            if not self.finished:
                raise HttpError(f"expected an HTTP/1.1 response, got invalid bytes: {error}") from error
        if self.finished:
            self._parser = None  # it refers back to this object: no work for the garbage collector
        elif self._overhead_bytes > MAX_HEAD_BYTES:
            raise HttpError(
                f"expected at most {MAX_HEAD_BYTES:,} bytes in the head or "
                "between pieces of the body, got more"
            )

    def feed_end(self, now: float) -> None:
        """The server closed the connection."""
        if not self._ends_with_connection:
            raise HttpError("the server closed the connection within a response")
        self._finish(now)
        self.keeps_alive = False

    # ---- callbacks of httptools ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self.finished:
            self.keeps_alive = False  # bytes after the response

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status == 0:  # a trailer otherwise
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < 200:  # an interim response such as 100 Continue
            self.headers.clear()
            return
        if not self._parser.get_http_version().startswith("1."):
            raise HttpError(f"expected an HTTP/1.1 response, got version {self._parser.get_http_version()}")
        self.status = status
        self.keeps_alive = self._parser.should_keep_alive()
        coding = self.headers.get("transfer-encoding")
        if coding is not None and coding.lower() != "chunked":
            raise HttpError(f"transfer-encoding: expected chunked, got {coding[:40]!r}")
        no_body = status in (204, 304)
        self._ends_with_connection = not (no_body or coding or "content-length" in self.headers)

    def on_body(self, piece: bytes) -> None:
        self._overhead_bytes = 0
        self._body_bytes += len(piece)
        if self._body_bytes > self._max_body_bytes:
            raise HttpError(f"expected a body of at most {self._max_body_bytes:,} bytes, got more")
        self.pieces.append((self._now, piece))

    def on_message_complete(self) -> None:
        if self.status:
            self._finish(self._now)

    def _finish(self, now: float) -> None:
        self.ended = now
        self.finished = True


class _Connection(asyncio.Protocol):
    """One connection; it carries one request at a time."""

    def __init__(self) -> None:
        self._response: Response | None = None
        self._done: asyncio.Future[None] | None = None
        self._stop_when: Callable[[Response], bool] | None = None
        self.transport: asyncio.Transport | None = None
        self.open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # transports of uvloop are no subclasses of it
        self.open = True

    async def send(
        self, data: bytes, response: Response, stop_when: Callable[[Response], bool] | None
    ) -> None:
        """Sends a request and waits for the response. Then closes the connection, unless it can carry another
        request. Raises HttpError."""
        assert self.transport is not None
        self._response, self._stop_when = response, stop_when
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
        if response is None:  # bytes without a request
            self.close()
            return
        try:
            response.feed(data, perf_counter())
        except HttpError as error:
            self._end(error)
            return
        if response.finished:
            self._end(None)
        elif self._stop_when is not None and self._stop_when(response):
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
    """Sends requests to one server and reuses its connections. Belongs to one event loop.

    `url` is "http://host:port", with or without a path that precedes the path of each request.
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
                raise binhdan.InvalidArgumentError(f"header {name!r}: expected one line of printable text")
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[_Connection] = []

    async def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        stop_when: Callable[[Response], bool] | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> Response:
        """Returns the response. Closes the connection early when `stop_when` returns true. Raises
        HttpError."""
        data = self.request_bytes(method, path, body)
        sent = perf_counter()
        while True:
            connection = self._idle_connection()
            reused = connection is not None
            connection = connection or await self._connect()
            response = Response(max_body_bytes=max_body_bytes)
            response.sent = sent
            try:
                await connection.send(data, response, stop_when)
            except HttpError:
                # A server may close an idle connection at the moment of the request: try another one.
                if reused and response.status == 0:
                    continue
                raise
            if connection.open:
                self._idle.append(connection)
            return response

    def request_bytes(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """The bytes of a request. A path that begins with "//" starts at the server's root, without the path
        of the URL."""
        path = path[1:] if path.startswith("//") else self.path + path
        if not path.isascii() or any(c <= " " for c in path):
            raise binhdan.InvalidArgumentError(f"expected an ASCII path without spaces, got {path!r}")
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

    def _idle_connection(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(_Connection, self.host, self.port, ssl=self._ssl)
        except OSError as error:  # including TimeoutError
            reason = error.strerror or str(error) or f"no connection within {_CONNECT_SECONDS:g} s"
            raise HttpError(f"cannot connect to {self.host}:{self.port}: {reason}") from error
        return connection
