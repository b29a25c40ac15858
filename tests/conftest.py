"""Shared fixtures. The tests run against the installed package."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import binhdan

# No deadline per example, because machines are shared.
settings.register_profile("binhdan", deadline=None)
settings.load_profile("binhdan")

# A shell starts background jobs with SIGINT ignored, and child processes inherit that; tests send SIGINT.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Remove the user's settings for the Hugging Face hub, before huggingface_hub reads them.
for variable in [name for name in os.environ if name.startswith("HF_")]:
    del os.environ[variable]


@pytest.fixture(scope="session")
def model() -> Iterator[binhdan.Model]:
    """The embedded model. Tests must not close it."""
    with binhdan.load(threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data next to the checkout; skips the test if it does not exist."""
    folder = Path(os.environ.get("BINHDAN_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"expected shared data in {folder}; set BINHDAN_SHARED")
    return folder
