"""runtime/energy on copies of Linux's sysfs trees, with their faults."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sysfs_tree import RANGE, chip, laptop, rapl

from binhdan.runtime.energy import (
    DeclaredWatts,
    EnergyWatch,
    Meter,
    MeterError,
    find_meters,
    measure_idle,
)
from binhdan.runtime.energy.battery import find_battery
from binhdan.runtime.energy.hwmon import find_hwmon
from binhdan.runtime.energy.meter import Counter, CounterMeter, PowerMeter
from binhdan.runtime.energy.rapl import find_rapl


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


# ---- RAPL ----------------------------------------------------------------------------------------------


def test_rapl_sums_packages_and_separates_memory(tmp_path: Path) -> None:
    zones = [
        rapl(tmp_path, "intel-rapl:0", "package-0", 5_000_000),
        rapl(tmp_path, "intel-rapl:1", "package-1", 7_000_000),
        rapl(tmp_path, "intel-rapl:0:1", "dram", 1_000_000),
        rapl(tmp_path, "intel-rapl:0:0", "core", 2_000_000),  # a part of package-0
        rapl(tmp_path, "intel-rapl:2", "psys", 9_000_000),
        rapl(tmp_path, "intel-rapl-mmio:0", "package-0", 5_000_000),  # the same as package-0
    ]
    meter = find_rapl(tmp_path)
    assert meter.read() == 0.0
    for zone in zones:
        path = zone / "energy_uj"
        path.write_text(str(int(path.read_text()) + 500_000))
    assert meter.parts() == pytest.approx({"package": 1.0, "dram": 0.5})
    assert meter.read() == pytest.approx(1.5)
    assert (meter.source, meter.measured, meter.whole) == ("rapl package + dram", True, False)
    meter.close()


def test_rapl_wraps_around_to_zero(tmp_path: Path) -> None:
    zone = rapl(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000)
    meter = find_rapl(tmp_path)
    meter.read()
    (zone / "energy_uj").write_text("2000000")
    assert meter.read() == pytest.approx(3.0)
    meter.close()


@given(st.lists(st.integers(0, 900), min_size=1, max_size=50), st.integers(1000, 5000))
def test_a_wrapping_counter_equals_one_without_wraps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], wraps_at: int
) -> None:
    path = tmp_path_factory.mktemp("counter") / "energy"
    path.write_text("0")
    meter = CounterMeter(
        "test", "test", {"all": [Counter(path, 1.0, wraps_at)]}, sampling_hz=1.0, whole=True, poll=3600.0
    )
    meter.read()
    for total in itertools.accumulate(steps):
        path.write_text(str(total % wraps_at))
        assert meter.read() == total
    meter.close()


def test_the_thread_sees_each_wrap(tmp_path: Path) -> None:
    path = tmp_path / "energy"
    path.write_text("0")
    counters = {"all": [Counter(path, 1.0, wraps_at=1000)]}
    looks = threading.Semaphore(0)
    meter = CounterMeter(
        "test", "test", counters, sampling_hz=1.0, whole=True, poll=0.005, check=looks.release
    )
    meter.read()
    for value in (900, 800, 700):  # decreasing: two wraps between two calls of read()
        swap(path, value)
        while looks.acquire(blocking=False):
            pass
        for _ in range(3):  # three polls: the last one starts after the swap
            assert looks.acquire(timeout=60)
    assert meter.read() == 900 + 900 + 900
    meter.close()


def swap(path: Path, value: int) -> None:
    """Replaces a file atomically, as sysfs does."""
    other = path.with_suffix(".new")
    other.write_text(str(value))
    os.replace(other, path)


def test_a_reset_counter_is_lost(tmp_path: Path) -> None:
    zone = rapl(tmp_path, "intel-rapl:0", "package-0", 200_000_000_000)
    meter = find_rapl(tmp_path)
    meter.read()
    (zone / "energy_uj").write_text("0")  # as after a suspend; equals 62 kJ in no time
    for _ in range(2):
        with pytest.raises(MeterError, match="a reset or broken counter"):
            meter.read()
    (zone / "energy_uj").write_text("200000000000")
    with pytest.raises(MeterError, match="a reset or broken counter"):  # the energy in between is unknown
        meter.read()
    meter.close()


def test_rapl_without_read_permission() -> None:
    with tempfile.TemporaryDirectory() as name:
        sysfs = Path(name)
        sysfs.chmod(0o755)
        zone = rapl(sysfs, "intel-rapl:0", "package-0", 5)
        (zone / "energy_uj").chmod(0o000)
        with as_unprivileged_user():
            with pytest.raises(MeterError, match="only root may read"):
                find_rapl(sysfs)
            found = find_meters(sysfs)
    assert found.best is None and any("only root may read" in reason for reason in found.reasons)


@contextmanager
def as_unprivileged_user() -> Iterator[None]:
    """Drops root, which may read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# ---- power sensors -------------------------------------------------------------------------------------


def tolerant(meters: Sequence[PowerMeter]) -> Sequence[PowerMeter]:
    """Allows long gaps between samples: a shared machine may stall for seconds."""
    for meter in meters:
        meter._max_gap = 60.0
    return meters


def test_ina219(tmp_path: Path) -> None:
    files = {"in0_input": 10, "in1_input": 5000, "curr1_input": 1000, "power1_input": 8_000_000}
    folder = chip(tmp_path, 0, "ina219", **files)
    for watts in (8.0, 5.0):
        (meter,) = tolerant(find_hwmon(tmp_path))
        assert meter.source == "ina219 channel 1" and meter.sampling_hz == 20.0 and not meter.whole
        start = time.monotonic()
        assert meter.read() == 0.0
        time.sleep(0.1)
        assert 0.1 * watts <= meter.read() <= (time.monotonic() - start) * watts
        meter.close()
        (folder / "power1_input").unlink(missing_ok=True)  # then from volts and amperes


def test_jetson_uses_its_input_rail(tmp_path: Path) -> None:
    chip(
        tmp_path,
        3,
        "ina3221",
        in1_label="VDD_IN",
        in1_input=5000,
        curr1_input=1200,
        in2_label="VDD_CPU_GPU_CV",
        in2_input=5000,
        curr2_input=600,
        in3_label="VDD_SOC",
        in3_input=5000,
        curr3_input=300,
        in7_label="sum of shunt voltages",
        in7_input=12,
    )
    (meter,) = tolerant(find_hwmon(tmp_path))
    assert meter.source == "ina3221 VDD_IN" and meter.whole
    start = time.monotonic()
    meter.read()
    time.sleep(0.15)
    joules, seconds = meter.read(), time.monotonic() - start
    assert 0.15 * 6.0 <= joules <= seconds * 6.0
    meter.close()


def test_rails_without_an_input_rail_are_summed(tmp_path: Path) -> None:
    chip(
        tmp_path,
        0,
        "ina3221",
        in1_label="CPU",
        in1_input=5000,
        curr1_input=1000,
        in2_input=5000,
        curr2_input=400,
    )
    (meter,) = find_hwmon(tmp_path)
    assert set(meter.parts()) == {"CPU", "channel 2"} and not meter.whole
    meter.close()


def test_component_sensors_are_ignored(tmp_path: Path) -> None:
    chip(tmp_path, 0, "amdgpu", power1_average=9_000_000)
    chip(tmp_path, 1, "nvme", power1_input=2_000_000)
    chip(tmp_path, 2, "coretemp", temp1_input=40_000)
    with pytest.raises(MeterError, match="no known power sensor"):
        find_hwmon(tmp_path)


def test_acpi_power_meter(tmp_path: Path) -> None:
    chip(tmp_path, 0, "power_meter", power1_average=85_000_000)
    (meter,) = find_hwmon(tmp_path)
    assert meter.whole
    meter.close()


def power_meter(clock: Clock, watts: dict[str, float]) -> PowerMeter:
    """A meter that the test samples by hand."""

    def sample() -> Mapping[str, float]:
        if not watts:
            raise MeterError("the file is gone")
        return dict(watts)

    return PowerMeter("test", "test rail", sample, sampling_hz=1.0, whole=True, max_gap=5.0, clock=clock)


def test_power_is_integrated() -> None:
    clock, watts = Clock(), {"rail": 4.0}
    meter = power_meter(clock, watts)
    meter.read()
    clock.now += 1.0
    assert meter.read() == pytest.approx(4.0)  # between samples too
    meter.take()
    watts["rail"] = 10.0
    clock.now += 1.0
    meter.take()
    clock.now += 0.5
    assert meter.read() == pytest.approx(4.0 + 4.0 + 5.0)
    meter.close()


@given(st.lists(st.tuples(st.floats(0, 5), st.one_of(st.none(), st.floats(0, 9999))), max_size=30))
def test_joules_never_decrease(steps: list[tuple[float, float | None]]) -> None:
    clock, watts = Clock(), {"rail": 1.0}
    meter = power_meter(clock, watts)
    last = meter.read()
    for seconds, power in steps:
        clock.now += seconds
        watts.clear()
        if power is not None:
            watts["rail"] = power
        try:
            meter.take()
            now = meter.read()
        except MeterError:
            break
        assert now >= last
        last = now
    meter.close()


def test_a_meter_is_lost_after_max_gap_without_a_sample() -> None:
    clock, watts = Clock(), {"rail": 4.0}
    meter = power_meter(clock, watts)
    meter.read()
    watts.clear()
    clock.now += 3.0
    meter.take()
    assert meter.read() == pytest.approx(12.0)  # the last value holds
    clock.now += 30.0
    with pytest.raises(MeterError, match="the file is gone"):
        meter.take()
    watts["rail"] = 4.0
    with pytest.raises(MeterError, match="the file is gone"):
        meter.read()
    meter.close()


def test_a_stalled_sampler_thread_is_noticed() -> None:
    clock = Clock()
    meter = power_meter(clock, {"rail": 4.0})
    meter.read()
    clock.now += 100.0
    with pytest.raises(MeterError, match="no sample for 100"):
        meter.read()
    meter.close()


def test_a_removed_file_ends_the_meter(tmp_path: Path) -> None:
    folder = chip(tmp_path, 0, "ina219", power1_input=5_000_000)
    (found,) = find_hwmon(tmp_path)
    meter = PowerMeter("hwmon", "ina219", found._sample, sampling_hz=100.0, whole=False, max_gap=0.05)
    meter.read()
    (folder / "power1_input").unlink()
    with pytest.raises(MeterError):
        for _ in range(200):
            time.sleep(0.02)
            meter.read()
    meter.close()


@pytest.mark.parametrize(
    "garbage", ["", "\n", "abc", "5e6", "1 2", "0x10", "9" * 40, "\x00\x01", "-" * 70, "1\n2\n"]
)
def test_malformed_files_raise(tmp_path: Path, garbage: str) -> None:
    folder = chip(tmp_path, 0, "ina219")
    (folder / "power1_input").write_text(garbage)
    with pytest.raises(MeterError, match="no known power sensor"):
        find_hwmon(tmp_path)
    zone = rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    (zone / "energy_uj").write_text(garbage)
    with pytest.raises(MeterError, match="expected an integer"):
        find_rapl(tmp_path)
    battery = laptop(tmp_path)
    (battery / "power_now").write_text(garbage)
    with pytest.raises(MeterError):
        find_battery(tmp_path)


def test_impossible_values_raise(tmp_path: Path) -> None:
    folder = chip(tmp_path, 0, "ina219", power1_input="9" * 17)
    (meter,) = find_hwmon(tmp_path)
    with pytest.raises(MeterError, match="expected 0 to 10,000 W"):
        meter.read()
    (folder / "power1_input").write_text("-5000000")
    (meter,) = find_hwmon(tmp_path)
    with pytest.raises(MeterError, match="expected 0 to 10,000 W"):
        meter.read()
    rapl(tmp_path, "intel-rapl:0", "package-0", 5, max_range=0)
    with pytest.raises(MeterError, match="expected more than 0"):
        find_rapl(tmp_path)


# ---- intervals -----------------------------------------------------------------------------------------


class FakeMeter(Meter):
    """A meter whose watts a test sets."""

    name, source, measured, sampling_hz, whole = "oven", "the oven's meter", True, 50.0, True

    def __init__(self, clock: Clock) -> None:
        self.clock, self.watts, self.joules = clock, 3.0, 0.0

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.joules += self.watts * seconds

    def parts(self) -> Mapping[str, float]:
        return {"oven": self.joules}


def test_idle_and_laps() -> None:
    clock = Clock()
    oven = FakeMeter(clock)
    idle = measure_idle(oven, seconds=10.0, sleep=oven.pass_time, clock=clock)
    assert (idle.watts, idle.min_watts, idle.max_watts, idle.seconds) == pytest.approx((3.0, 3.0, 3.0, 10.0))
    watch = EnergyWatch(oven, idle, clock=clock)
    oven.watts = 8.0
    oven.pass_time(2.0)
    prompt = watch.lap()
    oven.watts = 6.0
    oven.pass_time(4.0)
    decode = watch.lap()
    assert (prompt.joules, prompt.above_idle, prompt.watts) == pytest.approx((16.0, 10.0, 8.0))
    assert (decode.joules, decode.above_idle, decode.watts) == pytest.approx((24.0, 12.0, 6.0))
    assert (decode.source, decode.sampling_hz, decode.measured) == ("the oven's meter", 50.0, True)
    assert EnergyWatch(oven, clock=clock).lap().above_idle is None


def test_windows_show_a_machine_that_was_not_idle() -> None:
    clock = Clock()
    oven = FakeMeter(clock)
    powers = iter([3.0, 3.0, 30.0, 3.0, 3.0])

    def sleep(seconds: float) -> None:
        oven.watts = next(powers)
        oven.pass_time(seconds)

    idle = measure_idle(oven, seconds=5.0, sleep=sleep, clock=clock)
    assert (idle.min_watts, idle.max_watts) == pytest.approx((3.0, 30.0))


def test_declared_watts_are_not_measured() -> None:
    clock = Clock()
    meter = DeclaredWatts(12.5, clock)
    assert meter.read() == 0.0
    clock.now += 4.0
    assert meter.read() == pytest.approx(50.0)
    assert not meter.measured and meter.source == "declared 12.5 W"
    for watts in (0.0, -1.0, float("nan"), 1e9):
        with pytest.raises(ValueError, match="expected more than 0"):
            DeclaredWatts(watts)
