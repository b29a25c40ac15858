"""The server as an ASGI app: one place where all parts meet."""

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
    chat,
    completions,
    cost,
    embeddings,
    models,
    operation,
    page,
    responses,
    text,
)
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.context import Server
from binhdan.runtime.server.http.errors import ApiError, install_handlers
from binhdan.runtime.server.http.gateway import Door
from binhdan.runtime.server.http.openapi import ERRORS, use_own_errors
from binhdan.runtime.server.models.pool import ModelPool, Source


def create_app(config: ServerConfig) -> FastAPI:
    """The app of these settings. It loads the default model once it has started.

    Raises LedgerError, and what a wrong board or tariff raises.
    """
    options = config.load_options()
    pool = ModelPool(
        {name: Source(path, options) for name, path in config.models.items()},
        most_bytes=config.model_memory_bytes,
        idle_seconds=config.idle_unload,
    )
    meter = find_meters().best
    cost_model = make_cost_model(config.board, config.tariff, config.watts, meter)
    server = Server(
        config=config,
        pool=pool,
        limiter=Limiter(most=config.max_sequences + config.max_waiting),
        metrics=Metrics(lambda: {one.name: one.model.load_report() for one in pool.loaded()}),
        biller=Biller(cost_model, meter),
        ledger=Ledger(config.ledger),
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load_first(pool))
        try:
            yield
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            await pool.close()
            await asyncio.to_thread(server.ledger.close)
            if meter is not None:
                meter.close()

    app = FastAPI(
        title="binhdan",
        version=library().version(),
        description="OpenAI's API over small Vietnamese language models.",
        lifespan=lifespan,
        docs_url=None,  # their pages come from a CDN
        redoc_url=None,
        responses=ERRORS,
    )
    use_own_errors(app)
    app.state.server = server
    install_handlers(app)
    app.add_exception_handler(ClientGone, _nobody)
    for module in (chat, completions, responses, embeddings, models, text, operation, cost):
        app.include_router(module.router)
    if config.page:
        app.include_router(page.router)
    app.add_middleware(Door, config=config, keyring=config.keyring(), refused=server.metrics.refused)
    return app


async def _load_first(pool: ModelPool) -> None:
    """Whoever runs the app looks at `pool.failed`: a server without its first model is of no use."""
    try:
        await pool.start()
    except ApiError as error:
        pool.failed = error


async def _nobody(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # as nginx calls it; nobody reads it
