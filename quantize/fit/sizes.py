"""Sizes on the command line: ``350MB``, ``1.5 GiB``, ``4.25`` bits per weight."""

from __future__ import annotations

import re
from typing import Final

from binhdan.runtime.errors import InvalidArgumentError

_UNITS: Final = {
    "": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_SIZE: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)
_MAX: Final = 1 << 50


def parse_size(text: str) -> int:
    """Returns the bytes. Raises InvalidArgumentError."""
    match = _SIZE.fullmatch(text[:80])
    unit = _UNITS.get(match[2].lower()) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if not 0 < size <= _MAX:
        raise InvalidArgumentError(
            f"--fit {text[:80]!r}: expected a size such as 350MB, 1.2GiB or 350000000", param="fit"
        )
    return size


def show_size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
