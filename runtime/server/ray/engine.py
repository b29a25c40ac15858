"""The deployment whose replicas hold the models: each runs the whole application of `binhdan serve`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.types import Message, Scope

from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.app import create_app
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.ray.affinity import Affinity

_PUSH_SECONDS = 5.0  # between two copies of the metrics


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, as it travels from the front to a replica."""

    scope: Scope
    body: bytes


class Engine:
    """A replica. `metrics`: the deployment that collects the metrics of all replicas."""

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, config: ServerConfig, metrics: DeploymentHandle
    ) -> None:
        logs.configure(config.log_level)
        if config.threads is None:  # the cores that Ray has assigned, not all of the machine
            cpus = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
            config = config.model_copy(update={"threads": max(1, int(cpus))})
        self._name = serve.get_replica_context().replica_id.unique_id
        self._metrics = metrics
        self._app = create_app(config)
        self._server = self._app.state.server
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(self._app.router.lifespan_context(self._app))
        pool = self._server.pool
        while not pool.ready:
            if pool.failed is not None:
                raise RuntimeError(str(pool.failed))
            await asyncio.sleep(0.02)
        self._pushing = asyncio.create_task(self._push_metrics())

    async def call(self, call: Call, affinity: Affinity | None = None) -> AsyncIterator[list[Message]]:
        """Runs a request. Yields lists of ASGI messages: those that have come since the last list. Closing
        the iterator cancels the request. `affinity` is for the router."""
        messages: asyncio.Queue[Message | None] = asyncio.Queue()
        body: list[Message] = [{"type": "http.request", "body": call.body, "more_body": False}]

        async def receive() -> Message:
            if not body:
                await asyncio.Event().wait()  # a client that disconnects cancels the task
            return body.pop()

        async def run() -> None:
            try:
                await self._app(call.scope, receive, messages.put)
            finally:
                messages.put_nowait(None)

        task = asyncio.create_task(run())
        try:
            ended = False
            while not ended:
                batch = [await messages.get()]
                while not messages.empty():
                    batch.append(messages.get_nowait())
                ended = batch[-1] is None
                if got := [message for message in batch if message is not None]:
                    yield got
            await task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    def check_health(self) -> None:
        """Called by Ray Serve. Raises an exception if the replica has to be replaced."""
        if self._server.pool.failed is not None:
            raise RuntimeError(str(self._server.pool.failed))

    async def __del__(self) -> None:
        """Called by Ray Serve at the end of a replica, after its requests."""
        self._pushing.cancel()
        await self._stack.aclose()

    async def _push_metrics(self) -> None:
        while True:
            page, _ = self._server.metrics.render()
            with suppress(Exception):  # a lost copy is replaced by the next one
                await self._metrics.push.remote(self._name, page.decode())
            await asyncio.sleep(_PUSH_SECONDS)


def call_of(scope: Scope, body: bytes, request_id: str) -> Call:
    """The request without what cannot leave the process."""
    kept: dict[str, Any] = {
        name: scope.get(name)
        for name in ("type", "http_version", "method", "scheme", "path", "query_string", "root_path")
    }
    headers = [pair for pair in scope["headers"] if pair[0] != b"x-request-id"]
    headers.append((b"x-request-id", request_id.encode()))
    client = scope.get("client")
    return Call(
        kept
        | {
            "asgi": {"version": "3.0"},
            "raw_path": scope["path"].encode(),
            "headers": headers,
            "client": tuple(client) if client else None,
            "server": None,
            "state": {},
        },
        body,
    )
