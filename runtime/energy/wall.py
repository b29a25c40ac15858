"""The log of a wall meter, as CSV: all that the machine takes, power supply and all, read after the run.

The first row names the columns: `time` (or `timestamp`), in seconds since 1970 or as ISO 8601, and `watts`
(or `power`, `power_w`, `w`). Others are ignored. A meter's clock is not the machine's, so that

    time in the log = time of the machine + offset.

The offset is given, or found by `align`: have the machine rest, work and rest for some seconds each, and
tell when the work began and ended. The offset at which the log's watts within those stretches lie highest
above the watts around them is the right one, to about half the log's interval: make the stretches several
intervals long.
"""

from __future__ import annotations

import csv
import os
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import median

from binhdan.runtime.energy.meter import MOST_WATTS
from binhdan.runtime.energy.sysfs import MeterError

_TIME, _WATTS = ("time", "timestamp"), ("watts", "power", "power_w", "w")
_MOST_ROWS = 5_000_000
_VIETNAM = timezone(timedelta(hours=7))


class WallLog:
    """A log in memory. Between two rows power goes in a straight line."""

    name, measured, whole = "wall", True, True

    def __init__(self, times: Sequence[float], watts: Sequence[float], offset: float = 0.0) -> None:
        """`times` in seconds since 1970, rising. Raises MeterError for less than two, and for impossible
        ones."""
        if len(times) != len(watts) or len(times) < 2:
            raise MeterError(
                f"a wall meter's log needs two rows or more, each with a time; it has {len(times)}"
            )
        for row, (before, after) in enumerate(pairwise(times), 2):
            if not before < after:
                raise MeterError(f"row {row} of the wall meter's log is not later than the one before")
        self._times, self._watts = list(times), list(watts)
        steps = (
            (b - a) * (p + q) / 2 for (a, b), (p, q) in zip(pairwise(times), pairwise(watts), strict=True)
        )
        self._joules = list(accumulate(steps, initial=0.0))
        self._interval = median(b - a for a, b in pairwise(times))
        self.sampling_hz = 1.0 / self._interval
        self.offset = offset
        self.source = "wall meter"

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, offset: float = 0.0, zone: tzinfo = _VIETNAM) -> WallLog:
        """Reads a CSV. Times that name no zone are of `zone`. Raises MeterError, with the line."""
        times: list[float] = []
        watts: list[float] = []
        try:
            with Path(path).open(encoding="utf-8-sig", newline="", errors="replace") as file:
                rows = csv.reader(file)
                names = [name.strip().lower() for name in next(rows, [])]
                time_column, watts_column = _column(names, _TIME), _column(names, _WATTS)
                for row in rows:
                    if not row:
                        continue
                    if len(times) >= _MOST_ROWS:
                        raise MeterError(f"more than {_MOST_ROWS:,} rows")
                    try:
                        times.append(_seconds(row[time_column], zone))
                        watts.append(_power(row[watts_column]))
                    except (ValueError, IndexError, OverflowError) as error:
                        raise MeterError(f"line {rows.line_num}: {error}") from error
        except (csv.Error, OSError) as error:
            raise MeterError(f"cannot read the wall meter's log: {error}") from error
        return cls(times, watts, offset)

    def joules(self, start: float, end: float) -> float:
        """Between two times of the machine, in seconds since 1970. Raises MeterError where the log has a gap
        of more than ten intervals, or does not reach."""
        if end < start:
            raise ValueError(f"end, {end}, lies before start, {start}")
        a, b = start + self.offset, end + self.offset
        if a < self._times[0] or b > self._times[-1]:
            raise MeterError(
                f"the wall meter's log covers {self._times[-1] - self._times[0]:,.1f} s, "
                "but not all that is asked for"
            )
        first, last = bisect_right(self._times, a) - 1, bisect_right(self._times, b)
        gap = max((q - p for p, q in pairwise(self._times[first : last + 1])), default=0.0)
        if gap > 10 * self._interval:
            raise MeterError(f"the wall meter's log has a gap of {gap:,.1f} s")
        return self._until(b) - self._until(a)

    def align(self, busy: Iterable[tuple[float, float]], most: float = 60.0) -> float:
        """Finds and sets the offset, at most `most` seconds either way, from stretches (begin, end) in which
        the machine worked and around which it rested as long. Raises MeterError where the watts do not show
        them."""
        stretches = list(busy)
        if not stretches or any(end - begin < 2 * self._interval for begin, end in stretches):
            raise ValueError("align needs stretches of work, each at least two intervals of the log long")
        step = self._interval / 4
        tries = int(most / step)
        contrasts = {
            shift * step: self._contrast(stretches, shift * step) for shift in range(-tries, tries + 1)
        }
        known = {offset: value for offset, value in contrasts.items() if value is not None}
        if not known:
            raise MeterError(
                "the wall meter's log does not cover the stretches of work and the rest around them"
            )
        offset = max(known, key=lambda offset: known[offset])
        mean = self._joules[-1] / (self._times[-1] - self._times[0])
        if known[offset] < 0.2 * mean:
            raise MeterError(
                f"work shows in the wall meter's log by {known[offset]:.2f} W at most: "
                "the offset cannot be found"
            )
        self.offset = offset
        return offset

    def _contrast(self, stretches: Sequence[tuple[float, float]], offset: float) -> float | None:
        """Mean watts of the stretches less those of as long a rest before and after."""
        work = rest = seconds = 0.0
        for begin, end in stretches:
            length, a, b = end - begin, begin + offset, end + offset
            if a - length < self._times[0] or b + length > self._times[-1]:
                return None
            work += self._until(b) - self._until(a)
            rest += (self._until(a) - self._until(a - length) + self._until(b + length) - self._until(b)) / 2
            seconds += length
        return (work - rest) / seconds

    def _until(self, time: float) -> float:
        """Joules from the log's begin to a time within it."""
        row = min(bisect_right(self._times, time), len(self._times) - 1) - 1
        t0, t1, p0, p1 = *self._times[row : row + 2], *self._watts[row : row + 2]
        x = time - t0
        return self._joules[row] + x * (p0 + (p1 - p0) * x / (t1 - t0) / 2)


def _column(names: Sequence[str], wanted: Sequence[str]) -> int:
    for name in wanted:
        if name in names:
            return names.index(name)
    raise MeterError(f"the first line names no column {' or '.join(wanted)}")


def _seconds(text: str, zone: tzinfo) -> float:
    try:
        seconds = float(text)
    except ValueError:
        moment = datetime.fromisoformat(text.strip())
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    if not 0 <= seconds < 1e11:
        raise ValueError("the time is out of range")
    return seconds


def _power(text: str) -> float:
    watts = float(text)
    if not 0 <= watts <= MOST_WATTS:
        raise ValueError(f"watts out of range: expected 0 to {MOST_WATTS:,.0f}")
    return watts
