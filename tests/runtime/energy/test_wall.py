"""runtime/energy/wall.py: logs of wall meters, and clocks that do not agree."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binhdan.runtime.energy import MeterError, WallLog

START = 1_795_323_600.0  # 2026-11-22T12:00:00+07:00


def csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "wall.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reading(tmp_path: Path) -> None:
    path = csv(tmp_path, f"watts,note,time\n5,idle,{START}\n5,,{START + 1}\n9,busy,{START + 2}\n")
    log = WallLog.read(path)
    assert log.joules(START, START + 1) == pytest.approx(5.0)
    assert log.joules(START + 1, START + 2) == pytest.approx(7.0)
    assert log.joules(START + 0.5, START + 1.5) == pytest.approx(2.5 + 3.0)
    assert log.joules(START + 1, START + 1) == 0.0
    assert (log.sampling_hz, log.measured, log.whole, log.source) == (1.0, True, True, "wall meter")


@pytest.mark.parametrize(
    "times",
    [
        ("2026-11-22T12:00:00", "2026-11-22T12:00:10"),
        ("2026-11-22 05:00:00+00:00", "2026-11-22T05:00:10Z"),
        ("2026-11-22T12:00:00.000+07:00", str(START + 10)),
    ],
)
def test_times_as_text_are_of_vietnam_unless_they_say_so(tmp_path: Path, times: tuple[str, str]) -> None:
    log = WallLog.read(csv(tmp_path, f"\ufeffTimestamp, Power_W\n{times[0]},6\n\n{times[1]},6\n"))
    assert log.joules(START, START + 10) == pytest.approx(60.0)


def test_a_given_offset(tmp_path: Path) -> None:
    log = WallLog([START, START + 10, START + 20], [4.0, 4.0, 8.0], offset=10.0)
    assert log.joules(START - 10, START) == pytest.approx(40.0)
    assert log.joules(START, START + 10) == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column time or timestamp"),
        ("when,watts\n1,2\n", "no column time or timestamp"),
        ("time,volts\n1,2\n", "no column watts"),
        ("time,watts\n1,2\n", "two rows"),
        ("time,watts\n1,2\n2,many\n", "line 3: could not convert"),
        ("time,watts\n1,2\n2\n", "line 3"),
        ("time,watts\n1,2\nnoon,2\n", "line 3: Invalid isoformat"),
        ("time,watts\n1,2\n1,2\n", "row 2 .* not later"),
        ("time,watts\n5,2\n6,2\n2,2\n", "row 3 .* not later"),
        ("time,watts\n1,2\n2,-1\n", "line 3: watts out of range"),
        ("time,watts\n1,2\n2,nan\n", "line 3: watts out of range"),
        ("time,watts\n1,2\ninf,3\n", "line 3: the time is out of range"),
        ("time,watts\n1,2\n2," + "9" * 200_000 + "\n", "field larger than field limit"),
    ],
)
def test_wrong_logs_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MeterError, match=message):
        WallLog.read(csv(tmp_path, text))


def test_a_log_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="cannot read"):
        WallLog.read(tmp_path / "none.csv")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_log_or_an_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("wall") / "wall.csv"
    path.write_bytes(b"time,watts\n1,1\n" + data)
    with suppress(MeterError):
        assert WallLog.read(path).joules(1.0, 1.0) == 0.0


def test_what_the_log_does_not_cover() -> None:
    log = WallLog([*map(float, range(10)), 100.0, 101.0], [5.0] * 12)
    for start, end in ((-1.0, 5.0), (5.0, 101.5)):
        with pytest.raises(MeterError, match="not all that is asked for"):
            log.joules(start, end)
    with pytest.raises(MeterError, match="a gap of 91"):
        log.joules(5.0, 100.5)
    assert log.joules(100.0, 101.0) == pytest.approx(5.0)
    with pytest.raises(ValueError, match="before start"):
        log.joules(5.0, 4.0)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0, 100))
def test_stretches_add_up(a: float, b: float, c: float) -> None:
    a, b, c = sorted((a, b, c))
    numbers = random.Random(7)
    log = WallLog([float(second) for second in range(101)], [numbers.uniform(3, 30) for _ in range(101)])
    assert log.joules(a, b) + log.joules(b, c) == pytest.approx(log.joules(a, c), abs=1e-6)


def office(
    offset: float, interval: float, noise: float, seed: int = 1
) -> tuple[WallLog, list[tuple[float, float]]]:
    """An hour of a machine that rests at 5 W and works at 12 W, as a meter saw it whose clock is off."""
    numbers = random.Random(seed)
    busy = [(START + 600, START + 610), (START + 630, START + 645), (START + 660, START + 668)]
    rows = int(1200 / interval)
    times = [START + row * interval for row in range(rows)]
    watts = [
        (12.0 if any(a <= time - offset < b for a, b in busy) else 5.0) + numbers.uniform(-noise, noise)
        for time in times
    ]
    return WallLog(times, watts), busy


@pytest.mark.parametrize("offset", [0.0, 3.7, -21.4, 55.0])
@pytest.mark.parametrize("interval", [0.2, 1.0])
def test_the_offset_is_found_by_the_load(offset: float, interval: float) -> None:
    log, busy = office(offset, interval, noise=1.5)
    assert log.align(busy) == pytest.approx(offset, abs=interval)
    assert log.offset == pytest.approx(offset, abs=interval)
    seconds = sum(end - begin for begin, end in busy)
    assert sum(log.joules(*stretch) for stretch in busy) == pytest.approx(12.0 * seconds, rel=0.1)


def test_no_load_no_offset() -> None:
    log, busy = office(0.0, 1.0, noise=0.1)
    with pytest.raises(MeterError, match="cannot be found"):
        WallLog(log._times, [5.0] * len(log._times)).align(busy)
    with pytest.raises(MeterError, match="does not cover"):
        log.align([(START + 100_000, START + 100_010)])
    for stretches in ([], [(START, START + 0.5)]):
        with pytest.raises(ValueError, match="at least two intervals"):
            log.align(stretches)
