"""Times of what every answer goes through, of one build or of two in turns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import binhdan
from binhdan.bench.micro import benchmarks

SUITE = Path(__file__).with_name("hot_paths_suite.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class HotPath:
    """One path: the best time of each round, in seconds. `old`: of the build that it is compared with."""

    name: str
    unit: str  # what was done in this time
    gate: bool  # a build that makes it slower is not taken; otherwise it informs
    seconds: tuple[float, ...]
    old: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """Times of the new build over those of the old one; None without one."""
        return median(self.seconds) / median(self.old) if self.old else None

    @property
    def slower(self) -> bool:
        """The best round is worse than the worst of the old build: no noise does that often."""
        return bool(self.old) and min(self.seconds) > max(self.old)


def measure(
    select: str = "",
    seconds: float = 0.2,
    rounds: int = 1,
    against: str | None = None,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> list[HotPath]:
    """Paths whose names fit `select`, each for about `seconds` a round. `against`: a Python that has another
    build and what `bench` needs; a path that only one of the two has is left out.

    Raises UnsupportedError without the packages that it needs, InvalidArgumentError when nothing fits.
    """
    if rounds < 1:
        raise binhdan.InvalidArgumentError(f"rounds: expected at least 1, got {rounds}")
    builds = [sys.executable] if against is None else [sys.executable, against]
    times: list[dict[str, list[float]]] = [{} for _ in builds]
    about: dict[str, tuple[str, bool]] = {}
    for turn in range(rounds):
        for place in range(len(builds)):
            side = (turn + place) % len(builds)
            progress(turn, "the other build" if side else "this build")
            for entry in benchmarks.run(SUITE, select, seconds, builds[side]):
                name = entry["name"].removeprefix("test_")
                about[name] = entry["extra_info"]["unit"], bool(entry["extra_info"]["gate"])
                times[side].setdefault(name, []).append(entry["stats"]["min"])
    common = [name for name in times[0] if all(name in one for one in times)]
    return [
        HotPath(
            name=name,
            unit=about[name][0],
            gate=about[name][1],
            seconds=tuple(times[0][name]),
            old=tuple(times[1][name]) if against is not None else (),
        )
        for name in common
    ]
