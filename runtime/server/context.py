"""What the server consists of, for its routes."""

from __future__ import annotations

from dataclasses import dataclass

from binhdan.runtime.server.bill import Bill, Biller
from binhdan.runtime.server.config import ServerConfig
from binhdan.runtime.server.ledger import Ledger
from binhdan.runtime.server.limits import Limiter
from binhdan.runtime.server.logs import log_answer
from binhdan.runtime.server.metrics import Metrics
from binhdan.runtime.server.pool import ModelPool
from binhdan.runtime.server.record import AnswerRecord
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

    def account(self, record: AnswerRecord, bill: Bill) -> None:
        """An answer has ended: metrics, ledger and log hear of it."""
        self.metrics.observe(record, bill)
        self.ledger.add(record, bill)
        log_answer(record)


def server_of(request: Request) -> Server:
    server: Server = request.app.state.server
    return server
