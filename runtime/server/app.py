"""The server as an ASGI application: constructs all parts and registers the routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response

from binhdan.runtime.energy import find_meters
from binhdan.runtime.ffi import library
from binhdan.runtime.server.access.limits import Limiter
from binhdan.runtime.server.accounting.bill import Biller
from binhdan.runtime.server.accounting.ledger import Ledger
from binhdan.runtime.server.accounting.metrics import Metrics
from binhdan.runtime.server.accounting.pricing import make_cost_model
from binhdan.runtime.server.answers.lifecycle import ClientGone
from binhdan.runtime.server.api import (
    attachment,
    chat,
    completions,
    cost,
    embeddings,
    llama_cpp,
    messages,
    models,
    ollama,
    operation,
    page,
    props,
    rerank,
    responses,
    restore,
    spell,
    text,
)
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.context import Server
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.errors import install_handlers
from binhdan.runtime.server.http.gateway import Gateway
from binhdan.runtime.server.http.openapi import ERRORS
from binhdan.runtime.server.models.pool import ModelPool, Source
from binhdan.runtime.server.postgres import is_postgres


def create_app(config: ServerConfig) -> FastAPI:
    """The application for `config`. It starts to load the default model when the application starts.

    Raises LedgerError, FigureError for an unknown board or tariff, and InvalidArgumentError.
    """
    options, aliases = config.sources()
    pool = ModelPool(
        {name: Source(path, options[name]) for name, path in config.models.items()},
        aliases=aliases,
        adapters=config.adapters,
        max_bytes=config.max_model_memory_bytes,
        idle_seconds=config.idle_unload,
    )
    meter = find_meters().best
    cost_model = make_cost_model(config.board, config.tariff, config.watts, meter)
    server = Server(
        config=config,
        pool=pool,
        limiter=_limiter(config),
        metrics=Metrics(lambda: {one.name: one.model.engine_info() for one in pool.loaded()}),
        biller=Biller(cost_model, meter),
        ledger=Ledger(config.ledger),
        keyring=config.keyring(),
        meter=meter,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load_default(pool))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await pool.close()
            await asyncio.to_thread(server.limiter.close)
            await asyncio.to_thread(server.ledger.close)
            if meter is not None:
                meter.close()

    app = FastAPI(
        title="binhdan",
        version=library().version(),
        description="OpenAI's API over small Vietnamese language models.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's documentation pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,  # the gateway removes the slash
        responses=ERRORS,
    )
    app.state.server = server
    install_handlers(app)
    app.add_exception_handler(ClientGone, _client_gone)
    for module in (
        chat,
        completions,
        responses,
        messages,
        embeddings,
        rerank,
        restore,
        llama_cpp,
        props,
        spell,
        models,
        text,
        operation,
        cost,
    ):
        app.include_router(module.router)
    if config.ollama:
        app.include_router(ollama.router)
    if config.page:
        app.include_router(page.router)
        app.include_router(attachment.router)
    app.add_middleware(Gateway, config=config, keyring=server.keyring, on_refused=server.metrics.refused)
    return app


def _limiter(config: ServerConfig) -> Limiter:
    """Limits of this server, or those of all servers that share a database."""
    max_running = config.max_sequences + config.max_waiting
    if not is_postgres(config.ledger):
        return Limiter(max_running)
    from binhdan.runtime.server.access.shared_limits import SharedLimiter  # needs the extra `postgresql`

    return SharedLimiter(str(config.ledger), max_running)


async def _load_default(pool: ModelPool) -> None:
    """Loads the default model. On an error it sets `pool.failed`, and the process ends: a server without its
    default model cannot serve."""
    try:
        await pool.start()
    except ApiError as error:
        pool.failed = error


async def _client_gone(request: Request, error: Exception) -> Response:
    """An empty response with nginx's status for a closed request. It is only logged: the client is gone."""
    return Response(status_code=499)
