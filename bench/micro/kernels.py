"""Runs the pytest-benchmark suite of the kernels and reads its figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binhdan.bench.micro import benchmarks

_SUITE = Path(__file__).with_name("kernels_matmul.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One kernel on one thread: the best of its runs."""

    isa: str
    type: str
    shape: str  # name: activation rows x columns x weight rows
    ms: float
    gb_per_s: float  # of packed weights
    gops: float  # 10^9 multiplications and additions per second


def measure(select: str = "", seconds: float = 0.2) -> list[Figure]:
    """Every kernel whose name fits `select`, an expression as for pytest -k, each for about `seconds`.

    Raises UnsupportedError without the packages that it needs, InvalidArgumentError when nothing fits.
    """
    return [_figure(entry) for entry in benchmarks.run(_SUITE, select, seconds)]


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
