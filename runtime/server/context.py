"""What the server consists of, for its routes."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from binhdan.runtime.server.access.limits import Limiter
from binhdan.runtime.server.accounting.bill import Bill, Biller
from binhdan.runtime.server.accounting.ledger import Ledger
from binhdan.runtime.server.accounting.logs import log_answer
from binhdan.runtime.server.accounting.metrics import Metrics
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.models.pool import ModelPool


@dataclass(frozen=True, slots=True)
class Server:
    """One of each; made and closed by app.py."""

    config: ServerConfig
    pool: ModelPool
    limiter: Limiter
    metrics: Metrics
    biller: Biller
    ledger: Ledger

    def account(self, record: AnswerRecord, bill: Bill) -> None:
        """An answer has ended: metrics, ledger and log hear of it."""
        self.metrics.observe(record, bill)
        self.ledger.add(record, bill)
        log_answer(record)


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server
