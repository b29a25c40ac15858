"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from uvicorn_thread import running


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(app, **uvicorn options)` runs an app under a real uvicorn until the test ends, and returns its
    base URL. For one server of a whole module, use `uvicorn_thread.running` in a fixture of your own.
    """
    with ExitStack() as stack:

        def start(app: Any, **options: Any) -> str:
            return stack.enter_context(running(app, **options))

        yield start
