"""What the server consists of, for its routes."""

from __future__ import annotations

from dataclasses import dataclass

from binhdan.runtime.server.bill import Biller
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.ledger import Ledger
from binhdan.runtime.server.limits import Limiter
from binhdan.runtime.server.metrics import Metrics
from binhdan.runtime.server.pool import ModelPool
from fastapi import Request


@dataclass(frozen=True, slots=True)
class Server:
    """One of each; made and closed by app.py."""

    config: ServerConfig
    pool: ModelPool
    limiter: Limiter
    metrics: Metrics
    biller: Biller
    ledger: Ledger


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server
