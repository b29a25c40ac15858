"""Finds the meters of this machine, the best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from binhdan.runtime.energy.battery import find_battery
from binhdan.runtime.energy.hwmon import find_hwmon
from binhdan.runtime.energy.meter import Meter
from binhdan.runtime.energy.rapl import find_rapl
from binhdan.runtime.energy.sysfs import MeterError


@dataclass(frozen=True, slots=True)
class Found:
    """Readable meters, the best first, and the reasons why others are not available."""

    meters: tuple[Meter, ...]
    reasons: tuple[str, ...]

    @property
    def best(self) -> Meter | None:
        return self.meters[0] if self.meters else None


def find_meters(sysfs: Path = Path("/sys")) -> Found:
    """Order: a fast meter of the whole board; RAPL, fast but of the processor alone; a battery, of the whole
    machine but slow; sensors of single rails. Without a meter the result is empty."""
    finders: Sequence[Callable[[Path], Sequence[Meter]]] = (
        find_hwmon,
        lambda sysfs: [find_rapl(sysfs)],
        lambda sysfs: [find_battery(sysfs)],
    )
    meters: list[Meter] = []
    reasons = []
    for find in finders:
        try:
            meters += find(sysfs)
        except MeterError as error:
            reasons.append(str(error))
    order = {"rapl": 1, "battery": 2}
    meters.sort(key=lambda meter: order.get(meter.name, 0 if meter.whole else 3))
    return Found(tuple(meters), tuple(reasons))
