"""Every function may be called from any thread at any time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from api.stress import REQUIRED


def stress(seconds: float, seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "api.stress", str(seconds), str(seed)],
        capture_output=True,
        text=True,
        timeout=seconds + 120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_random_calls() -> None:
    counts = stress(1.5, 1)
    assert all(call in counts for call in REQUIRED)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 14))
def test_random_calls_for_longer(seed: int) -> None:
    stress(15, seed)
