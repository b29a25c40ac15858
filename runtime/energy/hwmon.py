"""Power sensors behind Linux's hwmon (Documentation/hwmon/sysfs-interface.rst): INA219 and similar chips on
boards, INA3221 on Jetsons, ACPI's power meter on servers.

Only chips that measure supplies are used: sensors of GPUs and disks measure one component.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from binhdan.runtime.energy.meter import PowerMeter
from binhdan.runtime.energy.sysfs import MeterError, folders, optional_text, read_int

CHIPS = frozenset(
    {"ina209", "ina219", "ina220", "ina226", "ina230", "ina231", "ina233", "ina237", "ina238", "ina260"}
    | {"ina3221", "isl28022", "ltc2945", "ltc2947", "ltc4151", "pac1934", "power_meter"}
)
# The rail that feeds the whole board: VDD_IN on Jetson Orin and Xavier NX, POM_5V_IN on Nano.
_INPUT_RAIL = re.compile(r"(?i)(.*_)?(v?in|input)")
_HZ = 20.0


def find_hwmon(sysfs: Path) -> list[PowerMeter]:
    """One meter per chip, chips that measure the whole board first. Raises MeterError when there is none."""
    parent = sysfs / "class" / "hwmon"
    meters = []
    for chip in folders(parent, "hwmon*"):
        name = optional_text(chip / "name")
        if name in CHIPS:
            meter = _meter(chip, name)
            if meter is not None:
                meters.append(meter)
    if not meters:
        raise MeterError(f"no known power sensor in {parent}")
    return sorted(meters, key=lambda meter: not meter.whole)


def _meter(chip: Path, name: str) -> PowerMeter | None:
    channels = _channels(chip)
    inputs = {label: watts for label, watts in channels.items() if _INPUT_RAIL.fullmatch(label)}
    whole = bool(inputs) or name == "power_meter"
    chosen = inputs or channels
    if not chosen:
        return None

    def sample() -> Mapping[str, float]:
        return {label: watts() for label, watts in chosen.items()}

    source = f"{name} {' + '.join(chosen)}"
    return PowerMeter("hwmon", source, sample, sampling_hz=_HZ, whole=whole)


def _channels(chip: Path) -> dict[str, Callable[[], float]]:
    """Functions that return each channel's watts, by label. Unreadable channels are left out."""
    channels: dict[str, Callable[[], float]] = {}
    for number in range(1, 17):
        label = next(
            filter(None, (optional_text(chip / f"{kind}{number}_label") for kind in ("power", "in", "curr"))),
            f"channel {number}",
        )
        while label in channels:
            label += "'"
        for watts in (
            _microwatts(chip / f"power{number}_input"),
            _microwatts(chip / f"power{number}_average"),
            _milli_product(chip / f"in{number}_input", chip / f"curr{number}_input"),
        ):
            try:
                watts()
            except MeterError:
                continue
            channels[label] = watts
            break
    return channels


def _microwatts(path: Path) -> Callable[[], float]:
    return lambda: read_int(path) * 1e-6


def _milli_product(volts: Path, amperes: Path) -> Callable[[], float]:
    return lambda: read_int(volts) * read_int(amperes) * 1e-6
