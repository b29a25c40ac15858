"""The Meter interface and its implementations: energy counters, and power sensors that a thread samples."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from binhdan.runtime.energy.sysfs import MeterError, MeterLost, read_int

__all__ = ["Counter", "CounterMeter", "DeclaredWatts", "Meter", "MeterError", "MeterLost", "PowerMeter"]

# Above the consumption of any supported machine: a larger value means a broken sensor or a reset counter.
MAX_WATTS = 10_000.0

Clock = Callable[[], float]


class Meter(ABC):
    """Joules since the first `read`. Methods may be called from any thread.

    `measured`: False for declared watts. `sampling_hz`: how often the source has a new value, 0 when unknown.
    `whole`: the meter measures the whole machine, not the processor alone.
    """

    name: str
    source: str
    measured: bool
    sampling_hz: float
    whole: bool

    @abstractmethod
    def parts(self) -> Mapping[str, float]:
        """Joules since the first call by domain, such as {"package": …, "dram": …}.

        Raises MeterError. After MeterLost every call raises: the energy of the gap is unknown.
        """

    def read(self) -> float:
        """Joules of all domains since the first call; never decreases. Raises MeterError like `parts`."""
        return sum(self.parts().values())

    def close(self) -> None:  # noqa: B027, most meters have no thread
        """Stops the meter's thread. Idempotent."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source}>"


class DeclaredWatts(Meter):
    """Constant watts from the user, for machines without a meter; `measured` is False."""

    def __init__(self, watts: float, clock: Clock = time.monotonic) -> None:
        if not 0 < watts <= MAX_WATTS:
            raise ValueError(f"watts: expected more than 0 and up to {MAX_WATTS:,.0f}, got {watts}")
        self.name, self.source = "declared", f"declared {watts:g} W"
        self.measured, self.sampling_hz, self.whole = False, 0.0, True
        self._watts, self._clock = watts, clock
        self._start: float | None = None

    def parts(self) -> Mapping[str, float]:
        now = self._clock()
        if self._start is None:
            self._start = now
        return {"declared": self._watts * (now - self._start)}


@dataclass(frozen=True, slots=True)
class Counter:
    """A file that counts energy.

    `joules`: of one count. `wraps_at`: the count at which it restarts at zero. `falls`: it counts down, like
    the remaining energy of a battery.
    """

    path: Path
    joules: float
    wraps_at: int | None = None
    falls: bool = False


class CounterMeter(Meter):
    """Sums hardware energy counters. A thread polls them often enough to see every wrap-around."""

    measured = True

    def __init__(
        self,
        name: str,
        source: str,
        domains: Mapping[str, Sequence[Counter]],
        *,
        sampling_hz: float,
        whole: bool,
        poll: float = 30.0,
        check: Callable[[], None] | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """`poll`: seconds between two polls. `check` raises MeterError when the counters are not valid."""
        self.name, self.source, self.sampling_hz, self.whole = name, source, sampling_hz, whole
        self._domains = {domain: tuple(counters) for domain, counters in domains.items()}
        self._check, self._clock = check, clock
        self._joules = dict.fromkeys(self._domains, 0.0)
        self._last: dict[Path, int] = {}
        self._when = 0.0
        self._lost = ""  # the reason; "" while the meter works
        self._lock = threading.Lock()
        self._poller = _Every(poll, self._update)

    def parts(self) -> Mapping[str, float]:
        self._update()
        self._poller.start()
        with self._lock:
            return dict(self._joules)

    def close(self) -> None:
        self._poller.end()

    def _update(self) -> None:
        with self._lock:
            if self._lost:
                raise MeterLost(self._lost)
            try:
                if self._check is not None:
                    self._check()
                now = self._clock()
                max_joules = MAX_WATTS * max(now - self._when, 1.0)
                for domain, counters in self._domains.items():
                    self._joules[domain] += sum(self._step(counter, max_joules) for counter in counters)
                self._when = now
            except MeterError as error:
                self._lost = str(error)
                raise

    def _step(self, counter: Counter, max_joules: float) -> float:
        value = read_int(counter.path)
        before = self._last.setdefault(counter.path, value)
        self._last[counter.path] = value
        step = before - value if counter.falls else value - before
        if step < 0:
            if counter.wraps_at is None:
                raise MeterError(f"{self.source}: the counter was reset")
            step += counter.wraps_at
        joules = step * counter.joules
        if not 0 <= joules <= max_joules:
            raise MeterError(f"{self.source}: {joules:,.0f} J in one step: a reset or broken counter")
        return joules


class PowerMeter(Meter):
    """Integrates power sensors. A value holds until the next sample, so that `read` does not wait for a slow
    sensor and never decreases.

    `sample` returns watts by domain. The meter is lost after `max_gap` seconds without a sample, and at once
    when `sample` raises MeterLost.
    """

    measured = True

    def __init__(
        self,
        name: str,
        source: str,
        sample: Callable[[], Mapping[str, float]],
        *,
        sampling_hz: float,
        whole: bool,
        max_gap: float = 2.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name, self.source, self.sampling_hz, self.whole = name, source, sampling_hz, whole
        self._sample, self._clock = sample, clock
        self._max_gap = max_gap + 2.0 / sampling_hz
        self._joules: dict[str, float] = {}
        self._watts: Mapping[str, float] = {}
        self._when = 0.0  # time of the last sample
        self._fresh = 0.0  # time of the last good sample
        self._lost = ""  # the reason; "" while the meter works
        self._lock = threading.Lock()
        self._sampler = _Every(1.0 / sampling_hz, self.take)

    def parts(self) -> Mapping[str, float]:
        if not self._watts and not self._lost:
            self.take()
            self._sampler.start()
            return dict.fromkeys(self._watts, 0.0)
        with self._lock:
            now = self._clock()
            self._check_lost(now, None)
            return {domain: joules + self._held(domain, now) for domain, joules in self._joules.items()}

    def take(self) -> None:
        """Takes one sample; called by the thread and by tests. Raises MeterError when the meter is lost."""
        error: MeterError | None = None
        watts: Mapping[str, float] = {}
        try:
            watts = self._sample()
            for domain, value in watts.items():
                if not 0 <= value <= MAX_WATTS:
                    raise MeterError(
                        f"{self.source}: {domain}: expected 0 to {MAX_WATTS:,.0f} W, got {value:,.1f}"
                    )
        except MeterError as failure:
            error = failure
        with self._lock:
            now = self._clock()
            if error is not None:
                self._check_lost(now, error)
                return
            self._check_lost(now, None)
            self._joules = {
                domain: self._joules.get(domain, 0.0) + self._held(domain, now) for domain in watts
            }
            self._watts, self._when, self._fresh = watts, now, now

    def close(self) -> None:
        self._sampler.end()

    def _held(self, domain: str, now: float) -> float:
        return self._watts.get(domain, 0.0) * max(now - self._when, 0.0)

    def _check_lost(self, now: float, error: MeterError | None) -> None:
        """Raises MeterLost when `sample` said so, when the first sample failed, or after `max_gap` without
        one."""
        silent = now - self._fresh
        if not self._lost and (isinstance(error, MeterLost) or (error and not self._watts)):
            self._lost = str(error)
        elif not self._lost and self._watts and silent > self._max_gap:
            self._lost = str(error or f"{self.source}: no sample for {silent:.1f} s")
        if self._lost:
            raise MeterLost(self._lost)


class _Every:
    """Calls a function periodically in a thread until it raises MeterError."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._seconds, self._call = seconds, call
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._thread is None and not self._ended.is_set():
                self._thread = threading.Thread(target=self._run, name="binhdan-meter", daemon=True)
                self._thread.start()

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            try:
                self._call()
            except MeterError:
                return
