"""`binhdan bench kernels`: runs the benchmark suite of the matrix kernels (kernels_suite.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binhdan.bench.micro import pytest_benchmarks

_SUITE = Path(__file__).with_name("kernels_suite.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The best run of one kernel on one thread."""

    isa: str
    type: str
    shape: str  # "name: activation rows x columns x weight rows"
    ms: float
    gb_per_s: float  # of packed weights
    gops: float  # 10^9 multiplications and additions per second


def measure(select: str = "", seconds: float = 0.2) -> list[Figure]:
    """Kernels whose names match `select`, an expression of pytest -k, each for about `seconds`.

    Raises UnsupportedError when a package is missing, InvalidArgumentError when no kernel matches.
    """
    return [_figure(entry) for entry in pytest_benchmarks.run(_SUITE, select, seconds)]


def _figure(entry: dict[str, Any]) -> Figure:
    info, seconds = entry["extra_info"], entry["stats"]["min"]
    return Figure(
        isa=info["isa"],
        type=info["type"],
        shape=info["shape"],
        ms=seconds * 1e3,
        gb_per_s=info["gigabytes"] / seconds,
        gops=info["giga_operations"] / seconds,
    )
