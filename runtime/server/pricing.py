"""The biller of a server: what energy is measured here, and what the cost model of its board says."""

from __future__ import annotations

from binhdan.runtime.server.bill import Biller
from binhdan.runtime.server.config import ServerConfig


def make_biller(config: ServerConfig) -> Biller:
    return Biller()
