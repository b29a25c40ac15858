"""RAPL: the processor's own counters, through Linux's powercap (Documentation/power/powercap/powercap.rst).

A package holds its cores, caches and graphics; memory is a domain of its own where the processor tells it.
What lies outside (power supply, disk, fan, network) is not counted. Counters have a new value about every
millisecond (Intel SDM vol. 3, 16.10) and begin again after max_energy_range_uj, on a busy server within the
hour.
"""

from __future__ import annotations

import re
from pathlib import Path

from binhdan.runtime.energy.meter import Counter, CounterMeter
from binhdan.runtime.energy.sysfs import MeterError, folders, optional_text, read_int

_MICROJOULE = 1e-6


def find_rapl(sysfs: Path) -> CounterMeter:
    """All packages, and their memory apart. Raises MeterError when there are none, or they may not be
    read."""
    powercap = sysfs / "class" / "powercap"
    domains: dict[str, list[Counter]] = {}
    # Not intel-rapl-mmio:*, which are the same packages once more.
    for zone in folders(powercap, "intel-rapl:*"):
        name = optional_text(zone / "name")
        if re.fullmatch(r"intel-rapl:\d+", zone.name) and name.startswith("package"):
            domains.setdefault("package", []).append(_counter(zone))
        elif re.fullmatch(r"intel-rapl:\d+:\d+", zone.name) and name == "dram":
            domains.setdefault("dram", []).append(_counter(zone))
    if "package" not in domains:
        raise MeterError(f"no RAPL: {powercap} has no package (a virtual machine, or no driver)")
    # The slowest wrap-around that is seen for sure: half of the range at the most watts that a package takes.
    shortest = min(counter.wraps_at or 0 for counters in domains.values() for counter in counters)
    poll = max(1.0, min(30.0, shortest * _MICROJOULE / 2 / 1000.0))
    return CounterMeter(
        "rapl", "rapl " + " + ".join(domains), domains, sampling_hz=1000.0, whole=False, poll=poll
    )


def _counter(zone: Path) -> Counter:
    energy = zone / "energy_uj"
    try:
        read_int(energy)
        largest = read_int(zone / "max_energy_range_uj")
    except MeterError as error:
        if isinstance(error.__cause__, PermissionError):
            # Since 2020, because the counters tell secrets (CVE-2020-8694).
            raise MeterError(f"RAPL is there, but only root may read {energy}") from error
        raise
    if largest <= 0:
        raise MeterError(f"{zone / 'max_energy_range_uj'} is {largest}; expected more than 0")
    return Counter(energy, _MICROJOULE, wraps_at=largest)
