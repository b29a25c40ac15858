"""A discrete-event simulation of boards behind a load balancer.

A board runs up to `len(speeds)` answers at once and shares its measured speed evenly: each of n answers
progresses at speeds[n - 1] / n. The balancer sends a request to the board with the fewest answers. When all
boards are full, requests wait in one queue, first come, first served. Requests arrive until the last counted
answer has ended, so that the pool does not drain while answers are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from random import Random
from statistics import fmean

import simpy

import binhdan
from binhdan.bench.common.arrivals import poisson_times
from binhdan.bench.common.statistics import Percentiles

WARM_UP = 0.2  # answers before the counted ones, as a share of the counted ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The distribution of the work per answer, with a mean of 1.

    The work is a random one of `samples`, times a gamma-distributed factor with the coefficient of variation
    `spread` (0: always 1; 1: an exponential distribution).
    """

    samples: tuple[float, ...] = (1.0,)
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not self.samples or not min(self.samples) > 0 or abs(fmean(self.samples) - 1) > 1e-6:
            raise binhdan.InvalidArgumentError(
                "samples of work: expected values above 0 with a mean of 1, "
                f"got {len(self.samples)} values with a mean of {fmean(self.samples or (0.0,)):g}"
            )
        if not 0 <= self.spread <= 3:
            raise binhdan.InvalidArgumentError(f"spread: expected 0 to 3, got {self.spread:g}")

    def draw(self, random: Random) -> float:
        sample = random.choice(self.samples)
        if not self.spread:
            return sample
        square = self.spread**2
        return sample * random.gammavariate(1.0 / square, square)

    def p95(self) -> float:
        return _work_p95(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Identical boards. `speeds`: answers per second of one board with 1, 2, ... running."""

    boards: int
    speeds: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.boards < 1 or not self.speeds or not min(self.speeds) > 0:
            raise binhdan.InvalidArgumentError(
                "expected at least 1 board, and speeds above 0, "
                f"got {self.boards} and {list(self.speeds[:9])}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The result of a simulation. Times are in seconds, of the counted answers."""

    answers: int
    wait: Percentiles
    mean_wait: float
    latency: Percentiles  # from arrival to end
    mean_latency: float
    busy: float  # share of the boards' time in which they compute
    concurrency: float  # mean number of running answers on a board that computes
    arrived: int  # requests, including those that do not count
    finished: int
    waiting: int  # at the end of the simulation
    running: int  # at the end of the simulation


@lru_cache(maxsize=4096)
def simulate(pool: Pool, rate: float, work: Work, *, answers: int = 10_000, seed: int = 0) -> Run:
    """Simulates `rate` requests per second until `answers` answers after the warm-up have ended.

    The same arguments return the same run. A different rate does not change the work of the requests. Raises
    InvalidArgumentError.
    """
    if not 0 < rate < 1e12 or not 1 <= answers <= 10_000_000:
        raise binhdan.InvalidArgumentError(
            f"expected a rate above 0 and 1 to 10,000,000 answers, got {rate:g} and {answers}"
        )
    return _Simulation(pool, rate, work, answers, seed).run()


class _Request:
    __slots__ = ("arrived", "number", "started", "work")

    def __init__(self, number: int, arrived: float, work: float) -> None:
        self.number, self.arrived, self.work = number, arrived, work
        self.started = arrived


class _Board:
    """`_done` is the work that an answer would have received by now if it had run from the start.

    All running answers receive work at the same speed. So an answer with work w ends when `_done` has grown
    by w, however many other answers start and end: one heap and one timer are enough for the board.
    """

    def __init__(
        self,
        env: simpy.Environment,
        speeds: tuple[float, ...],
        on_end: Callable[[_Request], _Request | None],
    ) -> None:
        self._env, self._speeds, self._on_end = env, speeds, on_end
        self._done = self._since = 0.0
        self._heap: list[tuple[float, int, _Request]] = []
        self._timer = 0
        self.busy_s = self.answer_s = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def start(self, request: _Request) -> None:
        self.advance()
        self._add(request)
        self._set_timer()

    def advance(self) -> None:
        """Updates the sums to the current time."""
        elapsed, self._since = self._env.now - self._since, self._env.now
        if count := len(self._heap):
            self._done += elapsed * self._speeds[count - 1] / count
            self.busy_s += elapsed
            self.answer_s += elapsed * count

    def _add(self, request: _Request) -> None:
        request.started = self._env.now
        heappush(self._heap, (self._done + request.work, request.number, request))

    def _set_timer(self) -> None:
        self._timer += 1
        if count := len(self._heap):
            left = max(0.0, self._heap[0][0] - self._done)
            timer = self._env.timeout(left * count / self._speeds[count - 1], self._timer)
            timer.callbacks.append(self._end)

    def _end(self, timer: simpy.Event) -> None:
        if timer.value != self._timer:
            return  # a later timer replaced this one
        self.advance()
        self._done, _, request = heappop(self._heap)
        next_request = self._on_end(request)
        if next_request is not None:
            self._add(next_request)
        self._set_timer()


class _Simulation:
    def __init__(self, pool: Pool, rate: float, work: Work, answers: int, seed: int) -> None:
        self._env = simpy.Environment()
        self._max_running = len(pool.speeds)
        self._boards = [_Board(self._env, pool.speeds, self._on_end) for _ in range(pool.boards)]
        self._queue: deque[_Request] = deque()
        self._first = round(answers * WARM_UP)  # the first counted request
        self._last = self._first + answers - 1
        self._left = answers
        self._all_ended = self._env.event()
        self._waits: list[float] = []
        self._latencies: list[float] = []
        self._arrived = self._finished = 0
        # Time, busy seconds and answer seconds at the arrival of the first and of the last counted request.
        self._sums = [(0.0, 0.0, 0.0)] * 2
        # Separate random streams: the work does not depend on the rate.
        self._times = poisson_times(rate, Random(f"arrivals {seed}"))
        self._work, self._random = work, Random(f"work {seed}")

    def run(self) -> Run:
        self._env.process(self._arrivals())
        self._env.run(until=self._all_ended)
        (start, busy, answer), (end, busy_end, answer_end) = self._sums
        seconds, busy, answer = end - start, busy_end - busy, answer_end - answer
        return Run(
            answers=len(self._latencies),
            wait=Percentiles.of(self._waits),
            mean_wait=fmean(self._waits),
            latency=Percentiles.of(self._latencies),
            mean_latency=fmean(self._latencies),
            busy=busy / (seconds * len(self._boards)) if seconds else 0.0,
            concurrency=answer / busy if busy else 0.0,
            arrived=self._arrived,
            finished=self._finished,
            waiting=len(self._queue),
            running=sum(map(len, self._boards)),
        )

    def _arrivals(self) -> simpy.events.ProcessGenerator:
        for number, time in enumerate(self._times):
            yield self._env.timeout(max(0.0, time - self._env.now))
            self._arrive(_Request(number, self._env.now, self._work.draw(self._random)))

    def _arrive(self, request: _Request) -> None:
        self._arrived += 1
        if request.number in (self._first, self._last):
            self._sums[request.number == self._last] = self._sums_now()
        board = min(self._boards, key=len)
        if len(board) < self._max_running:
            board.start(request)
        else:
            self._queue.append(request)

    def _on_end(self, request: _Request) -> _Request | None:
        """Records a finished answer. Returns the waiting request that takes its place, if there is one."""
        self._finished += 1
        if self._first <= request.number <= self._last:
            self._waits.append(request.started - request.arrived)
            self._latencies.append(self._env.now - request.arrived)
            self._left -= 1
            if not self._left:
                self._all_ended.succeed()
        return self._queue.popleft() if self._queue else None

    def _sums_now(self) -> tuple[float, float, float]:
        for board in self._boards:
            board.advance()
        boards = self._boards
        return self._env.now, sum(one.busy_s for one in boards), sum(one.answer_s for one in boards)


@lru_cache(maxsize=256)
def _work_p95(work: Work) -> float:
    random = Random("p95")
    return Percentiles.of([work.draw(random) for _ in range(20_000)]).p95
