"""HTTP on a connection: uvicorn's protocol, with limits on what a client may send and how long it may take.

These hold for bytes; what a request says is the door's business (door.py). The door never sees headers that
come a byte at a time or never end, connections without number, requests piled up in a pipeline, bodies that
go on after they were refused, answers that nobody reads.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from binhdan.runtime.server.errors import ApiError

_MOST_HEADERS = 100
_MOST_PIPELINED = 4


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Times in seconds."""

    max_connections: int = 512
    header_bytes: int = 32 << 10
    body_bytes: int = 4 << 20
    header_seconds: float = 10.0  # from the first byte of a request to the last of its headers
    write_seconds: float = 60.0  # for a client to take what waits for it


def limited(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """A protocol for uvicorn's `http=`."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})


class LimitedProtocol(HttpToolsProtocol):
    limits: ClassVar[ConnectionLimits] = ConnectionLimits()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._deadline: asyncio.TimerHandle | None = None  # for headers, or for the rest of a refused body
        self._writing: asyncio.TimerHandle | None = None  # for the client to read
        self._in_body = False  # the headers of a request are complete and its body is not
        self._received = 0  # bytes of the request
        self._header_bytes = 0
        self._refusal: ApiError | None = None

    # ---- the connection ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._refuse(_error(503, "too many connections; try again later", "overloaded"))
        else:
            self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        self._stop_writing()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._deadline is None and not self._in_body:
            self._start_deadline()
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # we speak nothing else; the request is answered as any other
        except httptools.HttpParserError:
            self._refuse(self._refusal or _error(400, "this is no valid HTTP request", "bad_request"))
        else:
            # A line that is not complete comes to no callback yet.
            if self._in_body:
                # The overhead of chunks is less than the body, unless someone wants it to be more.
                if self._received > 2 * self.limits.body_bytes + self.limits.header_bytes:
                    self._refuse(_error(413, "the body is too large", "request_too_large"))
            elif self._received > self.limits.header_bytes:
                self._refuse(_headers_too_large())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_writing()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._start_writing()

    # ---- the parser's callbacks ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_header(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # behind the last chunk
            self._stop(_error(400, "trailers are not taken", "bad_request"))
        super().on_header(name, value)
        self._count_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MOST_PIPELINED:
            self._stop(_error(400, "too many requests at once on one connection", "bad_request"))
        self._stop_deadline()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._received = 0
        self._stop_deadline()
        if self.cycle.response_complete:  # it was refused before it was read: the connection is idle now
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_writing()
        elif self._in_body:  # what is left of a refused body is read and dropped, for so long
            self._start_deadline()

    # ---- how -----------------------------------------------------------------------------------------------

    def _count_header(self, *parts: bytes) -> None:
        self._header_bytes += sum(map(len, parts))
        if self._header_bytes > self.limits.header_bytes or len(self.headers) > _MOST_HEADERS:
            self._stop(_headers_too_large())

    def _stop(self, refusal: ApiError) -> None:
        """Ends the parser from within a callback."""
        self._refusal = refusal
        raise ValueError("refused")

    def _refuse(self, error: ApiError) -> None:
        """The last answer on this connection; none where another one has begun, or comes first."""
        if self.transport.is_closing():
            return
        unanswered = self.cycle is not None and not self.cycle.response_started and not self.pipeline
        if unanswered:  # it is this request's: the application is to write no other
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if unanswered or self.cycle is None or self.cycle.response_complete:
            body = json.dumps(error.body).encode()
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(STATUS_LINE[error.status] + head % len(body) + body)
        self._stop_deadline()
        self.transport.close()
        self._start_writing()

    def _start_deadline(self) -> None:
        self._deadline = self.loop.call_later(self.limits.header_seconds, self._late)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_deadline()  # stray bytes behind a request must not cost it its answer
        elif self._received and not self._in_body:
            self._refuse(_error(408, "the headers did not come in time", "timeout"))
        else:  # a connection that was opened for later, or the rest of a refused body
            self.transport.close()

    def _start_writing(self) -> None:
        """Closing waits for what is to be written: not for ever."""
        self._stop_writing()
        self._writing = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


def _error(status: int, message: str, code: str) -> ApiError:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return ApiError(status, message, type=kind, code=code)


def _headers_too_large() -> ApiError:
    return _error(431, "the headers are too large", "headers_too_large")
