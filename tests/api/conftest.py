"""An engine that the tests of the C ABI share, and one per test for those that close it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api.abi import Running


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[Running]:
    """Tests must not close it, and must read what they submit."""
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
    """One that runs only when binhdan_engine_step is called."""
    running = Running.start(flags=1, max_sequences=1, max_waiting=2)
    yield running
    running.close()
