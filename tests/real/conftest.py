"""Published models: see tests/real_models.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_models import GENERATORS, RealModel, missing, path_of


def require(model: RealModel) -> Path:
    """The file; skips the test without it."""
    if reason := missing(model):
        pytest.skip(reason)
    return path_of(model)


@pytest.fixture(scope="session", params=GENERATORS, ids=lambda model: model.file.split(".")[0])
def generator(request: pytest.FixtureRequest) -> Path:
    """Each of the models that generate text."""
    model: RealModel = request.param
    return require(model)
