"""HTTP on one connection: uvicorn's protocol, with limits on the bytes of a client and on its time.

The gateway (gateway.py) checks complete requests. This protocol stops what the gateway never sees: headers
that arrive a byte at a time or never end, too many connections, too many pipelined requests, bodies that
continue after they were refused, and responses that the client does not read.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from binhdan.runtime.server.errors import ApiError

_MAX_HEADERS = 100
_MAX_PIPELINED = 4


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Sizes in bytes, times in seconds."""

    max_connections: int = 512
    max_header_bytes: int = 32 << 10
    max_body_bytes: int = 4 << 20
    header_seconds: float = 10.0  # from the first byte of a request to the end of its headers
    write_seconds: float = 60.0  # for a client to read what waits to be sent


def limited(limits: ConnectionLimits) -> type[asyncio.Protocol]:
    """A protocol class for the `http` option of uvicorn."""
    return type("LimitedProtocol", (LimitedProtocol,), {"limits": limits})


class LimitedProtocol(HttpToolsProtocol):
    limits: ClassVar[ConnectionLimits] = ConnectionLimits()

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._read_timer: asyncio.TimerHandle | None = None  # for headers, or the rest of a refused body
        self._write_timer: asyncio.TimerHandle | None = None  # for the client to read
        self._in_body = False  # between the headers and the end of the body of a request
        self._received = 0  # bytes of the current request
        self._header_bytes = 0  # bytes of its URL and headers
        self._refusal: ApiError | None = None  # why a parser callback stopped the parser

    # ---- the connection ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            message = f"the server has {self.limits.max_connections} connections, its limit; try again later"
            self._refuse(_error(503, message, "overloaded"))
        else:
            self._start_read_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_read_timer()
        self._stop_write_timer()
        self._stop_keep_alive()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._stop_keep_alive()
        if self._read_timer is None and not self._in_body:
            self._start_read_timer()
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the server supports no upgrade; it answers the request as HTTP/1.1
        except httptools.HttpParserError:
            self._refuse(self._refusal or _error(400, "expected a valid HTTP/1.1 request", "bad_request"))
        else:
            # The callbacks see only complete lines; these limits also count incomplete ones.
            if self._in_body:
                # A body that was refused is dropped until its end, so that the client reads the response; a
                # timer limits that. In chunked bodies of usual clients the framing is smaller than the data.
                refused = self.cycle is not None and self.cycle.response_complete
                if (
                    not refused
                    and self._received > 2 * self.limits.max_body_bytes + self.limits.max_header_bytes
                ):
                    message = f"expected a body of at most {self.limits.max_body_bytes:,} bytes"
                    self._refuse(_error(413, message, "request_too_large"))
            elif self._received > self.limits.max_header_bytes:
                self._refuse(self._headers_too_large())

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_write_timer()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._start_write_timer()

    # ---- callbacks of the parser ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._count_header(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer, after the last chunk
            self._stop_parser(_error(400, "expected a body without trailers", "bad_request"))
        super().on_header(name, value)
        self._count_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MAX_PIPELINED:
            message = f"expected at most {_MAX_PIPELINED} pipelined requests on one connection"
            self._stop_parser(_error(400, message, "bad_request"))
        self._stop_read_timer()
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_body = False
        self._received = 0
        self._stop_read_timer()
        if self.cycle.response_complete:  # the response was sent before the body ended; now it is idle
            self._stop_keep_alive()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_write_timer()
        elif self._in_body:  # the rest of a refused body is read and dropped, for a limited time
            self._start_read_timer()

    # ---- helpers -------------------------------------------------------------------------------------------

    def _count_header(self, *parts: bytes) -> None:
        self._header_bytes += sum(map(len, parts))
        if self._header_bytes > self.limits.max_header_bytes or len(self.headers) > _MAX_HEADERS:
            self._stop_parser(self._headers_too_large())

    def _headers_too_large(self) -> ApiError:
        message = (
            f"expected at most {_MAX_HEADERS} headers and {self.limits.max_header_bytes:,} bytes of them"
        )
        return _error(431, message, "headers_too_large")

    def _stop_parser(self, refusal: ApiError) -> None:
        """Stops the parser from one of its callbacks; `data_received` then refuses the request."""
        self._refusal = refusal
        raise ValueError("refused")

    def _refuse(self, error: ApiError) -> None:
        """Closes the connection, with an error response where one is possible: not if a response has started
        or an earlier request still waits for its own."""
        if self.transport.is_closing():
            return
        unanswered = self.cycle is not None and not self.cycle.response_started and not self.pipeline
        if unanswered:  # this response replaces the application's
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if unanswered or self.cycle is None or self.cycle.response_complete:
            body = json.dumps(error.body).encode()
            head = (
                f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
                "content-type: application/json\r\n"
                "connection: close\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._stop_read_timer()
        self.transport.close()
        self._start_write_timer()

    def _start_read_timer(self) -> None:
        self._read_timer = self.loop.call_later(self.limits.header_seconds, self._read_timed_out)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _read_timed_out(self) -> None:
        self._read_timer = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._start_read_timer()  # stray bytes after a request must not cancel its response
        elif self._received and not self._in_body:
            seconds = self.limits.header_seconds
            self._refuse(_error(408, f"expected the headers in time, within {seconds:g} s", "timeout"))
        else:  # a connection without a request, or the rest of a refused body
            self.transport.close()

    def _start_write_timer(self) -> None:
        """Aborts the connection if the client does not read: `transport.close` waits for it without limit."""
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self.limits.write_seconds, self.transport.abort)

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _stop_keep_alive(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None


def _error(status: int, message: str, code: str) -> ApiError:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return ApiError(status, message, type=kind, code=code)
