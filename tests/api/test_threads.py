"""Every function from any thread at any time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def hammer(seconds: float, seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "api.hammer", str(seconds), str(seed)],
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_hammer() -> None:
    counts = hammer(1.5, 1)
    for call in ["engine_create OK", "submit OK", "queue_next OK", "engine_close OK", "cancel OK"]:
        assert call in counts


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 14))
def test_hammer_longer(seed: int) -> None:
    hammer(15, seed)
