"""Fixtures that many tests share. The tests run against the installed package."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import binhdan

# How long an example takes is a benchmark's business: machines are shared.
settings.register_profile("binhdan", deadline=None)
settings.load_profile("binhdan")

# A shell makes what it starts in the background deaf to Ctrl-C, and that is inherited: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The user's settings for Hugging Face's hub, which huggingface_hub reads once, are not the tests'.
for setting in [name for name in os.environ if name.startswith("HF_")]:
    del os.environ[setting]


@pytest.fixture(scope="session")
def model() -> Iterator[binhdan.Model]:
    """The embedded model. Tests must not close it."""
    with binhdan.load(threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data that lies beside a checkout; tests that need it are skipped where it is not."""
    folder = Path(os.environ.get("BINHDAN_SHARED") or Path(__file__).parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder
