"""The battery of a laptop or phone (Linux's Documentation/ABI/testing/sysfs-class-power).

It measures the whole machine while it discharges and no charger is connected. Most batteries update their
value only every few seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from binhdan.runtime.energy.meter import Counter, CounterMeter, Meter, PowerMeter
from binhdan.runtime.energy.sysfs import MeterError, MeterLost, folders, optional_text, read_int

_HZ = 1.0
_MICROWATT_HOUR = 3600e-6


def find_battery(sysfs: Path) -> Meter:
    """One meter over all batteries. Raises MeterError when there is none, or when none is discharging."""
    supplies = sysfs / "class" / "power_supply"
    # scope is "Device" for the batteries of mice and headsets.
    batteries = [
        folder
        for folder in folders(supplies, "*")
        if optional_text(folder / "type") == "Battery" and optional_text(folder / "scope") != "Device"
    ]
    if not batteries:
        raise MeterError(f"no battery in {supplies}")
    _check_discharging(supplies, batteries)
    try:
        _watts(batteries)
    except MeterError as error:
        return _by_energy(supplies, batteries, error)

    def sample() -> Mapping[str, float]:
        _check_discharging(supplies, batteries)
        return {"battery": _watts(batteries)}

    return PowerMeter("battery", "battery power", sample, sampling_hz=_HZ, whole=True)


def _by_energy(supplies: Path, batteries: list[Path], error: MeterError) -> CounterMeter:
    """A meter from the remaining energy, for batteries that report no power."""
    counters = [Counter(battery / "energy_now", _MICROWATT_HOUR, falls=True) for battery in batteries]
    try:
        for counter in counters:
            read_int(counter.path)
    except MeterError:
        raise error from None
    return CounterMeter(
        "battery",
        "battery energy",
        {"battery": counters},
        sampling_hz=0.0,
        whole=True,
        poll=1.0,
        check=lambda: _check_discharging(supplies, batteries),
    )


def _check_discharging(supplies: Path, batteries: list[Path]) -> None:
    """Raises MeterLost when a charger is connected: the energy that it supplies is unknown."""
    for folder in folders(supplies, "*"):
        charger = optional_text(folder / "type") in ("Mains", "USB", "Wireless")
        if charger and optional_text(folder / "online") == "1":
            raise MeterLost("on mains power the battery does not measure the machine; unplug the charger")
    states = [optional_text(battery / "status") for battery in batteries]
    if "Charging" in states or "Discharging" not in states:
        raise MeterLost(f"the battery's status is {' and '.join(states)!r}; expected 'Discharging'")


def _watts(batteries: list[Path]) -> float:
    """Watts of all discharging batteries. Some drivers report an outflow as a negative number."""
    watts = 0.0
    for battery in batteries:
        if optional_text(battery / "status") != "Discharging":
            continue
        try:
            watts += abs(read_int(battery / "power_now")) * 1e-6
        except MeterError:
            watts += abs(read_int(battery / "current_now")) * read_int(battery / "voltage_now") * 1e-12
    return watts
