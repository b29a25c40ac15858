"""Trees of files that mimic the meters in Linux sysfs, for the tests of runtime/energy."""

from __future__ import annotations

from pathlib import Path

RANGE = 262_143_328_850  # µJ, on a desktop processor


def write(folder: Path, **files: object) -> Path:
    """Writes `files` (name → content) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(f"{content}\n")
    return folder


def rapl(sysfs: Path, zone: str, name: str, energy: int, max_range: int = RANGE) -> Path:
    folder = sysfs / "class" / "powercap" / zone
    return write(folder, name=name, energy_uj=energy, max_energy_range_uj=max_range)


def chip(sysfs: Path, number: int, name: str, **files: object) -> Path:
    return write(sysfs / "class" / "hwmon" / f"hwmon{number}", name=name, **files)


def supply(sysfs: Path, name: str, **files: object) -> Path:
    return write(sysfs / "class" / "power_supply" / name, **files)


def laptop(sysfs: Path, **changes: object) -> Path:
    """Writes a laptop's power supplies; `changes` are files of its battery, None removes one."""
    supply(sysfs, "AC", type="Mains", online=0)
    supply(sysfs, "mouse", type="Battery", scope="Device", status="Discharging", power_now=1)
    files = {"type": "Battery", "status": "Discharging", "power_now": 6_500_000} | changes
    return supply(sysfs, "BAT0", **{name: value for name, value in files.items() if value is not None})
