"""Runs the real server with the embedded model, for tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from uvicorn_thread import running

from binhdan.runtime.server.app import create_app
from binhdan.runtime.server.config import ServerConfig

QUESTION = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam"


@contextmanager
def serving(**settings: Any) -> Iterator[str]:
    """Yields the base URL of a ready server with these settings (fields of ServerConfig)."""
    app = create_app(ServerConfig.model_validate({"threads": 1} | settings))
    with running(app) as url:
        deadline = time.monotonic() + 60
        while httpx.get(f"{url}/readyz", timeout=30).status_code != 200:
            assert time.monotonic() < deadline, "the server was not ready within 60 s"
            time.sleep(0.02)
        yield url
