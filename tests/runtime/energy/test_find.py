"""runtime/energy: batteries, and the order of meters."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sysfs_tree import chip, laptop, rapl, supply

from binhdan.runtime.energy import MeterError, find_meters
from binhdan.runtime.energy.battery import find_battery
from binhdan.runtime.energy.meter import PowerMeter


@pytest.mark.parametrize(
    ("files", "watts"),
    [
        ({}, 6.5),
        ({"power_now": -6_500_000}, 6.5),
        ({"power_now": None, "current_now": 500_000, "voltage_now": 12_000_000}, 6.0),
    ],
)
def test_battery(tmp_path: Path, files: dict[str, object], watts: float) -> None:
    laptop(tmp_path, **files)
    meter = find_battery(tmp_path)
    assert meter.whole and meter.measured
    start = time.monotonic()
    meter.read()
    time.sleep(0.1)
    assert 0.1 * watts <= meter.read() <= (time.monotonic() - start) * watts
    meter.close()


def test_batteries_are_summed(tmp_path: Path) -> None:
    laptop(tmp_path)
    supply(tmp_path, "BAT1", type="Battery", status="Discharging", power_now=3_500_000)
    supply(tmp_path, "BAT2", type="Battery", status="Not charging", power_now=9_000_000)
    meter = find_battery(tmp_path)
    start = time.monotonic()
    meter.read()
    time.sleep(0.1)
    assert 0.1 * 10.0 <= meter.read() <= (time.monotonic() - start) * 10.0
    meter.close()


def test_a_battery_without_power_uses_its_remaining_energy(tmp_path: Path) -> None:
    battery = laptop(tmp_path, power_now=None, energy_now=50_000_000)
    meter = find_battery(tmp_path)
    assert meter.read() == 0.0 and meter.source == "battery energy"
    (battery / "energy_now").write_text("49999000")
    assert meter.read() == pytest.approx(3.6)
    meter.close()


def test_a_battery_is_a_meter_only_while_discharging(tmp_path: Path) -> None:
    battery = laptop(tmp_path, power_now=None, energy_now=50_000_000)
    meter = find_battery(tmp_path)
    meter.read()
    (battery.parent / "AC" / "online").write_text("1")
    with pytest.raises(MeterError, match="on mains power"):
        meter.read()
    meter.close()
    with pytest.raises(MeterError, match="on mains power"):
        find_battery(tmp_path)
    (battery.parent / "AC" / "online").write_text("0")
    for status in ("Charging", "Full", "Unknown", "\x00"):
        (battery / "status").write_text(status)
        with pytest.raises(MeterError, match="expected 'Discharging'"):
            find_battery(tmp_path)


def test_a_charger_ends_the_meter_at_once(tmp_path: Path) -> None:
    battery = laptop(tmp_path)
    meter = find_battery(tmp_path)
    assert isinstance(meter, PowerMeter)
    meter.read()
    (battery / "status").write_text("Charging")
    with pytest.raises(MeterError, match="expected 'Discharging'"):
        meter.take()
    with pytest.raises(MeterError, match="expected 'Discharging'"):
        meter.read()
    meter.close()


def names(sysfs: Path) -> list[str]:
    found = find_meters(sysfs)
    for meter in found.meters:
        meter.close()
    return [meter.name for meter in found.meters]


def test_the_best_meter_is_first(tmp_path: Path) -> None:
    assert names(tmp_path) == []
    chip(tmp_path, 0, "ina219", power1_input=1_000_000)
    assert names(tmp_path) == ["hwmon"]
    laptop(tmp_path)
    assert names(tmp_path) == ["battery", "hwmon"]
    rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    assert names(tmp_path) == ["rapl", "battery", "hwmon"]
    chip(tmp_path, 1, "ina3221", in1_label="VDD_IN", in1_input=5000, curr1_input=100)
    assert names(tmp_path) == ["hwmon", "rapl", "battery", "hwmon"]


def test_no_meter_gives_reasons(tmp_path: Path) -> None:
    found = find_meters(tmp_path)
    assert found.best is None and len(found.reasons) == 3
    found = find_meters(tmp_path / "no such folder")
    assert found.best is None and len(found.reasons) == 3


def test_this_machine() -> None:
    found = find_meters()
    if found.best is not None:
        try:
            first = found.best.read()
            assert found.best.read() >= first >= 0.0
        except MeterError:
            pass  # a sensor exists but fails
    for meter in found.meters:
        meter.close()
