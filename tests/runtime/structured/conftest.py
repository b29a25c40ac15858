"""Fixtures of the tests of constraints and tools."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import binhdan
from binhdan.runtime.structured.constraints import Constraints


@pytest.fixture(scope="module")
def constraints(model: binhdan.Model) -> Iterator[Constraints]:
    """The constraints of the embedded model."""
    constraints = Constraints(model)
    constraints.prepare()
    yield constraints
    constraints.close()
