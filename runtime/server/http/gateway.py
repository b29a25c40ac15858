"""Middleware that checks each request before a route, as plain ASGI.

In this order: request id, W3C trace context, Host header (DNS rebinding), CORS if origins are configured, API
key, body. The body is read completely, within limits on size and time, and parsed by a strict JSON parser.
After the body, `receive` reports the client's disconnect, as usual. Unexpected exceptions become a response
here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from binhdan.runtime.server.access.keys import Caller, Keyring
from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http import fields
from binhdan.runtime.server.http.dialects import error_response
from binhdan.runtime.server.http.errors import as_api_error
from binhdan.runtime.server.http.json_check import parse_json
from binhdan.runtime.server.http.json_route import store_json

# Paths that GET and HEAD may read without an API key.
PROBE_PATHS = ("/livez", "/readyz", "/health", "/v1/health", "/ping")
OPEN_PATHS = ("/", *PROBE_PATHS, "/version", "/favicon.ico")
OPEN_FOLDERS = ("/page/",)
# Requests to these paths are logged at level debug.
_QUIET = (*PROBE_PATHS, "/metrics", "/favicon.ico")

# The `reason` label of the refusals metric, by status.
_REASONS = {
    400: "bad_request",
    401: "unauthorized",
    404: "not_found",
    405: "bad_method",
    408: "timeout",
    413: "too_large",
    415: "not_json",
    421: "unknown_host",
    429: "rate_limit",
    499: "client_gone",
    500: "failure",
    503: "unavailable",
}

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\s\[\]:/@]+))(?::\d{0,5})?")
# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may append fields
_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_JSON = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(?:;\s*charset=\"?utf-?8\"?\s*)?;?", re.IGNORECASE)


class Gateway:
    """For `app.add_middleware(Gateway, config=config, keyring=keyring)`.

    Stores in `request.state`: `caller` (access.keys.Caller), `request_id`, `traceparent` (the W3C trace
    context for outgoing requests, or None), and the parsed body for JsonRoute. `on_refused` is called with a
    reason for each response with an error status.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: ServerConfig,
        keyring: Keyring,
        on_refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._app = app
        self._on_refused = on_refused
        self._config = config
        self._keyring = keyring
        self._receiving = 0  # bytes of all incomplete bodies
        self._hosts = _AllowedHosts(config.addresses, config.allowed_hosts)
        self._after_host: ASGIApp = self._admit
        if config.cors_origins:
            self._after_host = CORSMiddleware(
                self._admit,
                allow_origins=config.cors_origins,
                allow_methods=("GET", "POST"),
                allow_headers=("*",),  # OpenAI's browser client sends a dozen headers of its own
                expose_headers=("x-request-id", "retry-after", fields.HEADER),
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        scope = _normalised(scope)
        headers, start = Headers(scope=scope), time.perf_counter()
        state = scope.setdefault("state", {})
        sent = headers.get("x-request-id", "")
        state["request_id"] = sent if _REQUEST_ID.fullmatch(sent) else f"req_{secrets.token_hex(16)}"
        state["traceparent"] = _next_span(headers.get("traceparent", ""))
        state["caller"] = self._keyring.anonymous
        logs.request_id.set(state["request_id"])  # never reset: this task handles only this request
        ignored = fields.FieldReport(self._config.unknown_fields)
        fields.report.set(ignored)
        response = _Response(send, state["request_id"], state["traceparent"], ignored)
        try:
            refusal = None
            # Probes are harmless and often have no name; a page of another site has no key.
            if scope["path"] not in PROBE_PATHS and not self._has_key(headers):
                refusal = self._hosts.refusal(headers.getlist("host"))
            if refusal is not None:
                await error_response(refusal, scope["path"], state["request_id"])(scope, receive, response)
            else:
                await self._after_host(scope, receive, response)
        finally:
            fields.log_report(ignored)
            _log(scope, response.status, time.perf_counter() - start)
            if response.status >= 400:
                self._on_refused(_REASONS.get(response.status, "other"))

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks key and body, then calls the application."""
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            headers = Headers(scope=scope)
            scope["state"]["caller"] = self._caller(scope, headers)
            receive_body = await self._body(scope, headers, receive)
            if receive_body is not None:
                await self._app(scope, receive_body, send_and_note)
        except Exception as error:
            if started:  # no second response: uvicorn logs the error and closes the connection
                raise
            request_id = scope["state"]["request_id"]
            refusal = error_response(as_api_error(error, request_id), scope["path"], request_id)
            await refusal(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        """True if the request has a valid API key."""
        key = _sent_key(headers)
        return (
            self._keyring.required and bool(key) and self._keyring.caller(key.encode("latin-1")) is not None
        )

    def _caller(self, scope: Scope, headers: Headers) -> Caller:
        """The caller with the request's API key. Raises ApiError, 401."""
        key = _sent_key(headers)
        caller = self._keyring.caller(key.encode("latin-1") if key else None)
        if caller is not None:
            return caller
        if self._is_open(scope) and not _has_body(headers):
            return self._keyring.anonymous
        raise ApiError(
            401,
            "the API key is unknown to this server; check its spelling"
            if key
            else "expected one header Authorization: Bearer API_KEY",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _is_open(self, scope: Scope) -> bool:
        path: str = scope["path"]
        return scope["method"] in ("GET", "HEAD") and (
            path in OPEN_PATHS
            or path.startswith(OPEN_FOLDERS)
            or (path == "/metrics" and self._config.metrics_open)
        )

    async def _body(self, scope: Scope, headers: Headers, receive: Receive) -> Receive | None:
        """Reads and parses the body. The `receive` for the application; None if the client disconnected.
        Raises ApiError."""
        if not _has_body(headers):
            return receive
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "expected a body without Content-Encoding", code="unsupported_encoding")
        # This also stops pages of other sites: for this content type a browser sends a CORS preflight first.
        if not _JSON.fullmatch(headers.get("content-type", "").strip()):
            raise ApiError(415, "expected Content-Type: application/json", code="unsupported_media_type")
        if int(headers.get("content-length", 0)) > self._config.max_body_bytes:
            raise self._too_large()
        body = await self._read(receive)
        if body is None:
            return None
        if body:
            value = parse_json(
                body, max_depth=self._config.max_json_depth, max_values=self._config.max_json_values
            )
            store_json(scope, value)
        return _replay(body, receive)

    async def _read(self, receive: Receive) -> bytes | None:
        body, more = bytearray(), True
        try:
            async with asyncio.timeout(self._config.read_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    if len(body) + len(chunk) > self._config.max_body_bytes:
                        raise self._too_large()
                    if self._receiving + len(chunk) > self._config.max_buffered_bytes:
                        raise ApiError(
                            503,
                            "the server is receiving too many large requests; try again later",
                            type="server_error",
                            code="overloaded",
                            headers={"Retry-After": "1"},
                        )
                    self._receiving += len(chunk)
                    body += chunk
            return bytes(body)
        except TimeoutError:
            raise ApiError(
                408,
                f"expected the complete body within {self._config.read_seconds:g} s",
                code="timeout",
                headers={"Connection": "close"},
            ) from None
        finally:
            self._receiving -= len(body)

    def _too_large(self) -> ApiError:
        return ApiError(
            413, f"expected a body of at most {self._config.max_body_bytes:,} bytes", code="request_too_large"
        )


class _AllowedHosts:
    """The names that a Host header may have. Another site can let its own name point to this machine (DNS
    rebinding); the requests of its pages then have that name."""

    def __init__(self, bound: Sequence[str], allowed: Sequence[str]) -> None:
        lowered = [name.lower().removesuffix(".") for name in allowed]
        self._any = "*" in lowered
        self._suffixes = tuple(name[1:] for name in lowered if name.startswith("*."))
        self._names = {"localhost", "127.0.0.1", "::1", *map(str.lower, bound), *lowered}
        # A server on all addresses accepts any address as Host: DNS rebinding needs a name.
        self._any_address = any(one in ("", "0.0.0.0", "::") for one in bound)

    def refusal(self, values: Sequence[str]) -> ApiError | None:
        """The error for a request with these Host headers; None if it is allowed."""
        match = _HOST.fullmatch(values[0].strip().lower()) if len(values) == 1 else None
        if match is None:
            got = "" if len(values) == 1 else f", got {len(values)}"
            message = f"expected one Host header with a name and optionally a port{got}"
            return ApiError(400, message, code="bad_host")
        host = (match[1] or match[2]).removesuffix(".")
        if self._any or host in self._names or (self._suffixes and host.endswith(self._suffixes)):
            return None
        if self._any_address and _is_address(host):
            return None
        message = "the Host header is not a name of this server; its operator can add it with --allowed-host"
        return ApiError(421, message, code="unknown_host")


class _Response:
    """An ASGI `send` that adds our headers to the response and stores its status."""

    def __init__(
        self, send: Send, request_id: str, traceparent: str | None, ignored: fields.FieldReport
    ) -> None:
        self._send = send
        self._ignored = ignored
        self._headers = [(b"x-request-id", request_id.encode())]
        if traceparent:
            self._headers.append((b"traceparent", traceparent.encode()))
        self.status = 0  # not sent

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *self._headers]
            if names := self._ignored.header():
                headers.append((fields.HEADER.encode(), names.encode()))
            message = {**message, "headers": headers}
        await self._send(message)


def _sent_key(headers: Headers) -> str:
    """The API key in `Authorization: Bearer`, or in Anthropic's `x-api-key`; "" if there is none."""
    sent = headers.getlist("authorization")
    scheme, _, key = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    sent = headers.getlist("x-api-key")
    return sent[0].strip() if len(sent) == 1 else ""


def _normalised(scope: Scope) -> Scope:
    """The request as the routes expect it: GET for HEAD (uvicorn, which has the original, drops the body),
    and no slash at the end of the path."""
    changes: dict[str, Any] = {}
    if scope["method"] == "HEAD":
        changes["method"] = "GET"
    path: str = scope["path"]
    if len(path) > 1 and path.endswith("/"):
        changes["path"] = path.rstrip("/") or "/"
        changes["raw_path"] = changes["path"].encode()
    return {**scope, **changes}


def _has_body(headers: Headers) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body first, then the messages of the connection."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _next_span(traceparent: str) -> str | None:
    """A new span in the caller's trace; None if `traceparent` is invalid."""
    match = _TRACEPARENT.fullmatch(traceparent.strip())
    if match is None or (match[1] == "00" and match[5]):
        return None
    return f"00-{match[2]}-{secrets.token_hex(8)}-{match[4]}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _log(scope: Scope, status: int, seconds: float) -> None:
    """Logs one line per request. It has the pattern of the route, not the path, which is client input."""
    route = getattr(scope.get("route"), "path", "")
    state = scope["state"]
    facts = {
        "method": scope["method"],
        "route": route,
        "status": status,  # 0: the client disconnected before the response
        "ms": round(1000 * seconds, 3),
        "key": state["caller"].name,
    }
    if state["traceparent"]:
        facts["trace_id"] = state["traceparent"].split("-")[1]
    (logs.log.debug if route in _QUIET else logs.log.info)("request", extra=facts)
