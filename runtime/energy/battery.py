"""A laptop's or phone's battery (Linux's Documentation/ABI/testing/sysfs-class-power): all that the machine
takes, while it is discharging and nothing else feeds the machine. Slow: most have a new value every few
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from binhdan.runtime.energy.meter import Counter, CounterMeter, Meter, PowerMeter
from binhdan.runtime.energy.sysfs import MeterError, MeterLost, folders, optional_text, read_int

_HZ = 1.0
_MICROWATT_HOUR = 3600e-6


def find_battery(sysfs: Path) -> Meter:
    """All batteries together. Raises MeterError when there is none, or the machine does not live on it."""
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
    """For those that tell no power: by what is left in them."""
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
    """What a charger fed is unknown: it ends the meter."""
    for folder in folders(supplies, "*"):
        charger = optional_text(folder / "type") in ("Mains", "USB", "Wireless")
        if charger and optional_text(folder / "online") == "1":
            raise MeterLost("the machine is plugged in: its battery does not tell what it takes")
    states = [optional_text(battery / "status") for battery in batteries]
    if "Charging" in states or "Discharging" not in states:
        raise MeterLost(f"the battery says {' and '.join(states)!r}; expected 'Discharging'")


def _watts(batteries: list[Path]) -> float:
    """Of those that discharge. Some drivers give what flows out a minus sign."""
    watts = 0.0
    for battery in batteries:
        if optional_text(battery / "status") != "Discharging":
            continue
        try:
            watts += abs(read_int(battery / "power_now")) * 1e-6
        except MeterError:
            watts += abs(read_int(battery / "current_now")) * read_int(battery / "voltage_now") * 1e-12
    return watts
