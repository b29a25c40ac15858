"""The parts of a running server, for its routes."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from binhdan.runtime.energy import Meter
from binhdan.runtime.server.access.keys import Keyring
from binhdan.runtime.server.access.limits import Limiter
from binhdan.runtime.server.accounting.bill import Bill, Biller
from binhdan.runtime.server.accounting.ledger import Ledger
from binhdan.runtime.server.accounting.logs import log_answer
from binhdan.runtime.server.accounting.metrics import Metrics
from binhdan.runtime.server.accounting.pricing import make_cost_model
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.models.pool import ModelPool


@dataclass(frozen=True, slots=True)
class Server:
    """The parts. app.py constructs and closes them."""

    config: ServerConfig
    pool: ModelPool
    limiter: Limiter
    metrics: Metrics
    biller: Biller
    ledger: Ledger
    keyring: Keyring
    meter: Meter | None = None

    def reload(self, config: ServerConfig) -> None:
        """Takes the API keys with their limits, and the prices, of other settings. Running requests continue.
        Raises FigureError and InvalidArgumentError, and then changes nothing."""
        keyring = config.keyring()
        cost_model = make_cost_model(config.board, config.tariff, config.watts, self.meter)
        self.keyring.replace(keyring)
        self.biller.cost_model = cost_model

    def account(self, record: AnswerRecord, bill: Bill) -> None:
        """Adds an answer that has ended to metrics, ledger and log."""
        self.metrics.observe(record, bill)
        self.ledger.add(record, bill)
        log_answer(record)

    async def committed(self) -> None:
        """Waits until bills and limits of the answers so far are in the database that servers share."""
        await self.ledger.committed()
        await self.limiter.settled()


def server_of(request: Request) -> Server:
    """The server that handles `request`."""
    server: Server = request.app.state.server
    return server
