"""The ingress of a cluster: checks each request and passes it to the replica with the right prefix cache.

It runs the gateway of `binhdan serve`, so that requests without a valid key and body reach no engine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from typing import Any

from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
from ray.serve.handle import DeploymentHandle
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.config import ServerConfig, is_loopback
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.dialects import dialect_of, error_body, error_response
from binhdan.runtime.server.http.errors import as_api_error
from binhdan.runtime.server.http.gateway import PROBE_PATHS, Gateway
from binhdan.runtime.server.http.json_route import stored_json
from binhdan.runtime.server.http.sse import frame
from binhdan.runtime.server.ray.affinity import affinity_of
from binhdan.runtime.server.ray.engine import call_of

_PROBE_SECONDS = 5.0
_OUR_HEADERS = (b"x-request-id", b"traceparent")  # the gateway here adds them

_log = logging.getLogger("binhdan.server")


class Front:
    """The ASGI application. `handle`: returns the handle of a deployment of this application by its name."""

    def __init__(self, config: ServerConfig, handle: Callable[[str], DeploymentHandle]) -> None:
        self._handle = handle
        self._keys_required = bool(config.keys)
        # HAProxy listens on all addresses and does not pass on those of clients.
        self._hidden_clients = os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"
        self._gateway = Gateway(self._answer, config, config.keyring())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        client = scope.get("client")
        local = not self._hidden_clients and (client is None or is_loopback(client[0]))
        if scope["type"] == "http" and not self._keys_required and not local:
            message = "a server without API keys answers requests of its own machine only; set API keys"
            await error_response(ApiError(403, message), scope["path"])(scope, receive, send)
            return

        async def send_once(message: Message) -> None:
            """Without the request id of the gateway: Ray Serve's proxy adds the same one."""
            if message["type"] == "http.response.start":
                headers = [pair for pair in message["headers"] if pair[0] != b"x-request-id"]
                message = {**message, "headers": headers}
            await send(message)

        await self._gateway(scope, receive, send_once)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/livez":
            await JSONResponse({"status": "ok"})(scope, receive, send)
        elif path == "/metrics":
            page = await self._handle("metrics").render.remote()
            await Response(page, media_type="text/plain; version=0.0.4")(scope, receive, send)
        elif path in PROBE_PATHS:
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._forward(scope, receive, send)
            except TimeoutError:
                raise _unavailable("no replica has answered in time") from None
        else:
            await self._forward(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to a replica, and its response back. Raises ApiError if no response starts."""
        body = await _body(receive)
        state = scope["state"]
        affinity = affinity_of(state["caller"].name, stored_json(scope))
        engines = self._handle("engine").options(stream=True, method_name="call")
        messages = engines.remote(call_of(scope, body, state["request_id"]), affinity=affinity)
        response = _Passed(send, scope["path"], state["request_id"])
        passing = asyncio.create_task(response.pass_on(messages))
        watching = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((passing, watching), return_when=asyncio.FIRST_COMPLETED)
            if passing.done():
                passing.result()
        finally:
            if not passing.done():
                messages.cancel()
            for task in (passing, watching):
                task.cancel()
            await asyncio.gather(passing, watching, return_exceptions=True)


class _Passed:
    """A response on its way from a replica to the client."""

    def __init__(self, send: Send, path: str, request_id: str) -> None:
        self._send = send
        self._path = path
        self._request_id = request_id
        self._media_type = b""  # after the start

    async def pass_on(self, batches: Any) -> None:
        """Sends the messages of a replica. If the replica is lost, a stream of events ends with an error
        event; before the start of the response, raises ApiError."""
        try:
            async for batch in batches:
                for message in batch:
                    await self._send(self._prepared(message))
        except RequestCancelledError:  # the client has disconnected
            return
        except BackPressureError:
            raise _unavailable("all replicas are busy", "overloaded") from None
        except (RayError, RayServeException) as error:
            _log.warning("replica lost", extra={"reason": type(error).__name__})
            failed = _unavailable("the machine that computed this answer is lost")
            if isinstance(error, RayTaskError):  # an exception of the application, not a loss
                failed = as_api_error(error, self._request_id)
            if not self._media_type:
                raise failed from None
            ending = self._ending(failed)
            if ending is None:  # the rest of a JSON object cannot be replaced
                raise
            await self._send({"type": "http.response.body", "body": ending})

    def _prepared(self, message: Message) -> Message:
        if message["type"] != "http.response.start":
            return message
        headers = [(name, value) for name, value in message["headers"] if name not in _OUR_HEADERS]
        self._media_type = dict(headers).get(b"content-type", b"-").partition(b";")[0]
        return {**message, "headers": headers}

    def _ending(self, error: ApiError) -> bytes | None:
        body = error_body(error, self._path, self._request_id)
        if self._media_type == b"application/x-ndjson":
            return json.dumps(body, ensure_ascii=False).encode() + b"\n"
        if self._media_type != b"text/event-stream":
            return None
        if dialect_of(self._path) == "anthropic" or self._path == "/v1/responses":
            return frame(body, "error")
        return frame(body) + b"data: [DONE]\n\n"


def front_builder(config: ServerConfig) -> Callable[[], ASGIApp]:
    """The builder for serve.ingress; it runs in each replica of the front."""

    def build() -> ASGIApp:
        logs.configure(config.log_level)
        application = serve.get_replica_context().app_name
        handles: dict[str, DeploymentHandle] = {}

        def handle(name: str) -> DeploymentHandle:
            if name not in handles:
                handles[name] = serve.get_deployment_handle(name, application)
            return handles[name]

        return Front(config, handle)

    return build


def _unavailable(message: str, code: str = "replica_lost") -> ApiError:
    return ApiError(
        503, f"{message}; try again", type="server_error", code=code, headers={"Retry-After": "1"}
    )


async def _body(receive: Receive) -> bytes:
    """The body of a request. The gateway has checked its size."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _live(receive: Receive, send: Send) -> None:
    """ASGI's lifespan, with nothing to start or stop."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
