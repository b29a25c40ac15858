"""Measures a board for some minutes: speed, temperature, clock and throttling, as a result file to send in.

Needs no root and no package beside binhdan. A value that the system does not state is None.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import binhdan
from binhdan.bench.common.machine import Machine, this_machine
from binhdan.bench.micro import speed
from binhdan.runtime.client.model import Model
from binhdan.runtime.energy.sysfs import MeterError, folders, read_int
from binhdan.runtime.ffi import library

SCHEMA = "binhdan.bench.board/1"
PROMPT, DECODE = 256, 64
# The Raspberry Pi's firmware, now: bit 0 low voltage, 1 clock capped, 2 throttled, 3 soft temperature limit.
# Bits 16 to 19 are the same since the start.
_FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensors:
    celsius: float | None  # the hottest zone
    mhz: tuple[float, ...]  # of each cluster of cores now
    throttled: int | None  # of the firmware, see _FIRMWARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One answer."""

    second: float  # since the start
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    sensors: Sensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Speeds in tokens per second. `sustained` is the last fifth of the points, `cold` the first one."""

    schema: str
    binhdan: str
    machine: Machine
    model: str
    isa: str
    threads: int
    prompt_tokens: int
    decode_tokens: int
    bandwidth_gb_per_s: float
    gb_per_token: float
    cold_prefill: float
    cold_decode: float
    sustained_prefill: float
    sustained_decode: float
    max_celsius: float | None
    throttled: bool | None
    points: list[Point]

    def summary(self) -> str:
        heat = "no temperature sensor" if self.max_celsius is None else f"up to {self.max_celsius:.0f} °C"
        throttled = {None: "throttling unknown", False: "not throttled", True: "throttled"}[self.throttled]
        return (
            f"prefill {self.cold_prefill:.1f} -> {self.sustained_prefill:.1f}, "
            f"decode {self.cold_decode:.1f} -> {self.sustained_decode:.1f} tokens/s, cold -> sustained; "
            f"{heat}, {throttled}"
        )


def read_sensors(sysfs: Path = Path("/sys")) -> Sensors:
    zones = [_optional(zone / "temp") for zone in folders(sysfs / "class" / "thermal", "thermal_zone*")]
    celsius = [value / 1000 for value in zones if value is not None and 0 < value < 200_000]
    policies = folders(sysfs / "devices" / "system" / "cpu" / "cpufreq", "policy*")
    clocks = [_optional(policy / "scaling_cur_freq") for policy in policies]
    return Sensors(
        celsius=max(celsius, default=None),
        mhz=tuple(value / 1000 for value in clocks if value is not None),
        throttled=_firmware(sysfs / _FIRMWARE),
    )


def _optional(path: Path) -> int | None:
    try:
        return read_int(path)
    except MeterError:
        return None


def _firmware(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"), 16)
    except (OSError, ValueError):
        return None


def measure(
    model: Model,
    seconds: float,
    report: Callable[[str], None],
    sensors: Callable[[], Sensors] = read_sensors,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """Answers prompts for `seconds`. `report` takes a line after each answer."""
    threads = model.engine_info()["threads"]
    bandwidth = library().measure_bandwidth(threads)
    decode = min(DECODE, model.context // 2)
    prompt = min(PROMPT, model.context - decode)
    start, points = clock(), list[Point]()
    while not points or clock() - start < seconds:
        one = speed.answer(model, prompt, decode, seed=len(points))
        points.append(
            Point(
                second=clock() - start,
                prefill_tokens_per_s=prompt / one.timings.prefill,
                decode_tokens_per_s=one.tokens_per_second,
                sensors=sensors(),
            )
        )
        report(_line(points[-1]))
    last = points[-max(1, len(points) // 5) :]
    heat = [point.sensors.celsius for point in points if point.sensors.celsius is not None]
    firmware = [point.sensors.throttled for point in points if point.sensors.throttled is not None]
    return Result(
        schema=SCHEMA,
        binhdan=binhdan.__version__,
        machine=this_machine(),
        model=model.path.name,
        isa=model.info.isa,
        threads=threads,
        prompt_tokens=prompt,
        decode_tokens=decode,
        bandwidth_gb_per_s=bandwidth / 1e9,
        gb_per_token=model.info.bytes_per_token / 1e9,
        cold_prefill=points[0].prefill_tokens_per_s,
        cold_decode=points[0].decode_tokens_per_s,
        sustained_prefill=median(point.prefill_tokens_per_s for point in last),
        sustained_decode=median(point.decode_tokens_per_s for point in last),
        max_celsius=max(heat, default=None),
        throttled=any(value & 0b1110 for value in firmware) if firmware else None,
        points=points,
    )


def _line(point: Point) -> str:
    heat = "" if point.sensors.celsius is None else f", {point.sensors.celsius:.0f} °C"
    clocks = "".join(f", {mhz:.0f} MHz" for mhz in point.sensors.mhz)
    return (
        f"{point.second:6.0f} s  prefill {point.prefill_tokens_per_s:.1f}, decode "
        f"{point.decode_tokens_per_s:.1f} tokens/s{heat}{clocks}"
    )


def write(path: Path, result: Result) -> None:
    path.write_text(json.dumps(asdict(result), indent=1) + "\n", encoding="utf-8")
