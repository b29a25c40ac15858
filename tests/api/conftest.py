"""Fixtures of the C ABI tests: one engine for the whole session, and one per test for tests that close it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api.abi import Running


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[Running]:
    """A test must not close it, and must read all events of the requests that it submits."""
    running = Running.start()
    yield running
    running.close()


@pytest.fixture
def own_engine() -> Iterator[Running]:
    running = Running.start()
    yield running
    running.close()


@pytest.fixture
def stepped_engine() -> Iterator[Running]:
    """An engine that computes only in binhdan_engine_step()."""
    running = Running.start(flags=1, max_sequences=1, max_waiting=2)
    yield running
    running.close()
