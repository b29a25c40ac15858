"""What a meter is, and the two ways to be one: counters of energy, and sensors of power that a thread
samples.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from binhdan.runtime.energy.sysfs import MeterError, MeterLost, read_int

__all__ = ["Counter", "CounterMeter", "DeclaredWatts", "Meter", "MeterError", "MeterLost", "PowerMeter"]

# No machine that this is for takes more: what says so is a broken sensor or a counter that was set back.
MOST_WATTS = 10_000.0

Clock = Callable[[], float]


class Meter(ABC):
    """Joules since the first `read`. Methods may be called from any thread.

    `measured` is False for what someone declared. `sampling_hz` is how often the source has a new value, 0
    where that is not known. `whole`: all that the machine takes, not the processor's part alone."""

    name: str
    source: str
    measured: bool
    sampling_hz: float
    whole: bool

    @abstractmethod
    def parts(self) -> Mapping[str, float]:
        """Joules since the first call, by domain, as {"package": …, "dram": …}. Raises MeterError, and does
        so for ever when the source was lost: the joules of a gap are unknown."""

    def read(self) -> float:
        """Joules since the first call, of all domains; never less than before. Raises MeterError as
        `parts`."""
        return sum(self.parts().values())

    def close(self) -> None:  # noqa: B027, most have nothing to end
        """Ends threads. Twice is no error."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.source}>"


class DeclaredWatts(Meter):
    """Watts that someone declared, for machines without a meter. Not measured, and says so."""

    def __init__(self, watts: float, clock: Clock = time.monotonic) -> None:
        if not 0 < watts <= MOST_WATTS:
            raise ValueError(f"watts is {watts}; expected more than 0, at most {MOST_WATTS:,.0f}")
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
    """A file that counts energy. `joules`: of one count. `wraps_at`: counts at which it begins again at zero.
    `falls`: it counts down, as what is left in a battery."""

    path: Path
    joules: float
    wraps_at: int | None = None
    falls: bool = False


class CounterMeter(Meter):
    """Adds up counters that count by themselves. A thread looks often enough to see every wrap-around."""

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
        """`poll`: seconds between looks. `check` raises MeterError when the counters are not to be
        believed."""
        self.name, self.source, self.sampling_hz, self.whole = name, source, sampling_hz, whole
        self._domains = {domain: tuple(counters) for domain, counters in domains.items()}
        self._check, self._clock = check, clock
        self._joules = dict.fromkeys(self._domains, 0.0)
        self._last: dict[Path, int] = {}
        self._when = 0.0
        self._lost = ""  # why, for good
        self._lock = threading.Lock()
        self._poller = _Every(poll, self._look)

    def parts(self) -> Mapping[str, float]:
        self._look()
        self._poller.start()
        with self._lock:
            return dict(self._joules)

    def close(self) -> None:
        self._poller.end()

    def _look(self) -> None:
        with self._lock:
            if self._lost:
                raise MeterLost(self._lost)
            try:
                if self._check is not None:
                    self._check()
                now = self._clock()
                most = MOST_WATTS * max(now - self._when, 1.0)
                for domain, counters in self._domains.items():
                    self._joules[domain] += sum(self._step(counter, most) for counter in counters)
                self._when = now
            except MeterError as error:
                self._lost = str(error)
                raise

    def _step(self, counter: Counter, most: float) -> float:
        value = read_int(counter.path)
        before = self._last.setdefault(counter.path, value)
        self._last[counter.path] = value
        step = before - value if counter.falls else value - before
        if step < 0:
            if counter.wraps_at is None:
                raise MeterError(f"{self.source}: the counter was set back")
            step += counter.wraps_at
        joules = step * counter.joules
        if not 0 <= joules <= most:
            raise MeterError(f"{self.source}: {joules:,.0f} J at once; the counter was set back or is broken")
        return joules


class PowerMeter(Meter):
    """Integrates sensors of power. Each value counts until the next, so that `read` needs no sensor and never
    goes back; sensors may take long to answer.

    `sample` gives watts by domain. Samples may fail for `patience` seconds; then the meter is lost, and at
    once with MeterLost."""

    measured = True

    def __init__(
        self,
        name: str,
        source: str,
        sample: Callable[[], Mapping[str, float]],
        *,
        sampling_hz: float,
        whole: bool,
        patience: float = 2.0,
        clock: Clock = time.monotonic,
    ) -> None:
        self.name, self.source, self.sampling_hz, self.whole = name, source, sampling_hz, whole
        self._sample, self._clock = sample, clock
        self._patience = patience + 2.0 / sampling_hz
        self._joules: dict[str, float] = {}
        self._watts: Mapping[str, float] = {}
        self._when = 0.0  # of the watts
        self._fresh = 0.0  # when a sample was last had
        self._lost = ""  # why, for good
        self._lock = threading.Lock()
        self._sampler = _Every(1.0 / sampling_hz, self.take)

    def parts(self) -> Mapping[str, float]:
        if not self._watts and not self._lost:
            self.take()
            self._sampler.start()
            return dict.fromkeys(self._watts, 0.0)
        with self._lock:
            now = self._clock()
            self._give_up(now, None)
            return {domain: joules + self._held(domain, now) for domain, joules in self._joules.items()}

    def take(self) -> None:
        """Takes one sample; the thread does, and tests. Raises MeterError when the meter is lost."""
        error: MeterError | None = None
        watts: Mapping[str, float] = {}
        try:
            watts = self._sample()
            for domain, value in watts.items():
                if not 0 <= value <= MOST_WATTS:
                    raise MeterError(f"{self.source}: {domain} takes {value:,.1f} W, which cannot be")
        except MeterError as failure:
            error = failure
        with self._lock:
            now = self._clock()
            if error is not None:
                self._give_up(now, error)
                return
            self._give_up(now, None)
            self._joules = {
                domain: self._joules.get(domain, 0.0) + self._held(domain, now) for domain in watts
            }
            self._watts, self._when, self._fresh = watts, now, now

    def close(self) -> None:
        self._sampler.end()

    def _held(self, domain: str, now: float) -> float:
        return self._watts.get(domain, 0.0) * max(now - self._when, 0.0)

    def _give_up(self, now: float, error: MeterError | None) -> None:
        """Raises when the source is lost: it says so, there never was a sample, or none for too long."""
        silent = now - self._fresh
        if not self._lost and (isinstance(error, MeterLost) or (error and not self._watts)):
            self._lost = str(error)
        elif not self._lost and self._watts and silent > self._patience:
            self._lost = str(error or f"{self.source}: no sample for {silent:.1f} s")
        if self._lost:
            raise MeterLost(self._lost)


class _Every:
    """Calls something again and again in a thread, until it raises MeterError."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._seconds, self._call = seconds, call
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Twice is no error."""
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
