"""`binhdan bench hot-paths`: times of the code that every request runs, for one build or two in turns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import binhdan
from binhdan.bench.micro import pytest_benchmarks

SUITE = Path(__file__).with_name("hot_paths_suite.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPath:
    """The best time of each round, in seconds. `old`: times of the build to compare with; may be empty."""

    name: str
    unit: str  # the work that takes this time
    gate: bool  # True: a slower build fails; False: informational
    seconds: tuple[float, ...]
    old: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Median time over the old build's; None without an old build."""
        return median(self.seconds) / median(self.old) if self.old else None

    @property
    def slower(self) -> bool:
        """Whether the best round is slower than the old build's worst. Noise rarely causes that."""
        return bool(self.old) and min(self.seconds) > max(self.old)


def measure(
    select: str = "",
    seconds: float = 0.2,
    rounds: int = 1,
    against: str | None = None,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> list[HotPath]:
    """Paths whose names match `select`, each for about `seconds` per round.

    `against`: a Python interpreter with another build and the packages of binhdan[bench]. Only paths that
    both builds have are compared. Raises UnsupportedError when a package is missing, InvalidArgumentError
    when no path matches.
    """
    if rounds < 1:
        raise binhdan.InvalidArgumentError(f"rounds: expected at least 1, got {rounds}")
    builds = [sys.executable] if against is None else [sys.executable, against]
    times: list[dict[str, list[float]]] = [{} for _ in builds]
    facts: dict[str, tuple[str, bool]] = {}
    for turn in range(rounds):
        for position in range(len(builds)):
            side = (turn + position) % len(builds)
            progress(turn, "the other build" if side else "this build")
            for entry in pytest_benchmarks.run(SUITE, select, seconds, builds[side]):
                name = entry["name"].removeprefix("test_")
                facts[name] = entry["extra_info"]["unit"], bool(entry["extra_info"]["gate"])
                times[side].setdefault(name, []).append(entry["stats"]["min"])
    common = [name for name in times[0] if all(name in one for one in times)]
    return [
        HotPath(
            name=name,
            unit=facts[name][0],
            gate=facts[name][1],
            seconds=tuple(times[0][name]),
            old=tuple(times[1][name]) if against is not None else (),
        )
        for name in common
    ]
