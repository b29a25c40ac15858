"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from uvicorn_thread import running


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """`serve(app, **options)` runs an app with uvicorn until the test ends, and returns its base URL.

    `options` are those of uvicorn.Config. For one server per module, use `uvicorn_thread.running`.
    """
    with ExitStack() as stack:

        def start(app: Any, **options: Any) -> str:
            return stack.enter_context(running(app, **options))

        yield start


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    """OpenAI's client. The test module defines `url`, the base URL of its server."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client
