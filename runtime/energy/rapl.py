"""RAPL: the processor's energy counters, through Linux's powercap
(Documentation/power/powercap/powercap.rst).

A package includes its cores, caches and graphics; memory is a separate domain where the processor reports it.
Power supply, disks, fans and network are not included. Counters update about every millisecond (Intel SDM
vol. 3, 16.10) and wrap around after max_energy_range_uj, on a busy server within an hour.
"""

from __future__ import annotations

import re
from pathlib import Path

from binhdan.runtime.energy.meter import Counter, CounterMeter
from binhdan.runtime.energy.sysfs import MeterError, folders, optional_text, read_int

_MICROJOULE = 1e-6


def find_rapl(sysfs: Path) -> CounterMeter:
    """A meter of all packages, with memory as a separate domain. Raises MeterError when there is no package
    or the counters are not readable."""
    powercap = sysfs / "class" / "powercap"
    domains: dict[str, list[Counter]] = {}
    # intel-rapl-mmio:* is left out: it repeats the same packages.
    for zone in folders(powercap, "intel-rapl:*"):
        name = optional_text(zone / "name")
        if re.fullmatch(r"intel-rapl:\d+", zone.name) and name.startswith("package"):
            domains.setdefault("package", []).append(_counter(zone))
        elif re.fullmatch(r"intel-rapl:\d+:\d+", zone.name) and name == "dram":
            domains.setdefault("dram", []).append(_counter(zone))
    if "package" not in domains:
        raise MeterError(f"no RAPL: {powercap} has no package (virtual machine, or missing driver)")
    # Poll often enough to see each wrap-around: twice per range at 1,000 W, the maximum of a package.
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
            # Root only since 2020: the counters are a side channel (CVE-2020-8694).
            raise MeterError(f"RAPL: only root may read {energy}; run as root or chmod it") from error
        raise
    if largest <= 0:
        raise MeterError(f"{zone / 'max_energy_range_uj'} is {largest}; expected more than 0")
    return Counter(energy, _MICROJOULE, wraps_at=largest)
