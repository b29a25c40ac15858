"""Checks of numbers that the caller of a command chooses."""

from __future__ import annotations

import binhdan


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises InvalidArgumentError for a value outside of `low` to `high`, and for NaN."""
    if not low <= value <= high:
        raise binhdan.InvalidArgumentError(f"{name}: expected {low:g} to {high:,g}, got {value:g}")
