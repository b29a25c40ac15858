"""Boards behind a load balancer, answer by answer.

A board works on up to `len(speeds)` answers at once, at the speed measured with so many, shared evenly: each
of n answers gets on at speeds[n - 1] / n. The balancer gives a request to the board with the fewest answers;
when all places are taken, requests wait in one queue, first come first served. Arrivals go on until the last
answer that counts has ended, so that none of them sees an emptying pool.
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
from binhdan.bench.common.statistics import Tail

WARM_UP = 0.2  # answers before those that count, per answer that counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much there is to do for an answer, 1 on average: one of `samples` times a factor of a gamma
    distribution whose coefficient of variation is `spread` (0: none; with 1 it is exponential)."""

    samples: tuple[float, ...] = (1.0,)
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not self.samples or not min(self.samples) > 0 or abs(fmean(self.samples) - 1) > 1e-6:
            raise binhdan.InvalidArgumentError("expected samples of work above 0 with a mean of 1")
        if not 0 <= self.spread <= 3:
            raise binhdan.InvalidArgumentError(f"spread is {self.spread:g}; expected 0 to 3")

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
    """Boards alike. `speeds`: answers per second of a board with 1, 2, … under way."""

    boards: int
    speeds: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.boards < 1 or not self.speeds or not min(self.speeds) > 0:
            raise binhdan.InvalidArgumentError("expected at least 1 board, and speeds above 0")

    @property
    def most_rate(self) -> float:
        """Answers per second that the boards can give together, all places taken."""
        return self.boards * self.speeds[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a simulation gave; times in seconds, of the answers that count."""

    answers: int
    wait: Tail
    mean_wait: float
    whole: Tail  # from arrival to end
    mean_whole: float
    busy: float  # the part of the boards' time in which they compute
    together: float  # answers under way on a board at work, on average
    arrived: int  # with those that do not count
    finished: int
    waiting: int  # at the end, as the next one
    under_way: int


@lru_cache(maxsize=4096)
def simulate(pool: Pool, rate: float, work: Work, *, answers: int = 10_000, seed: int = 0) -> Run:
    """`rate` requests a second on a pool, until `answers` after the warm-up have ended. The same arguments
    give the same run; other rates see the same work in the same order. Raises InvalidArgumentError."""
    if not 0 < rate < 1e12 or not 1 <= answers <= 10_000_000:
        raise binhdan.InvalidArgumentError(
            f"expected a rate above 0 and 1 to 10,000,000 answers, got {rate:g} and {answers}"
        )
    return _Simulation(pool, rate, work, answers, seed).run()


class _Request:
    __slots__ = ("arrived", "begun", "number", "work")

    def __init__(self, number: int, arrived: float, work: float) -> None:
        self.number, self.arrived, self.work = number, arrived, work
        self.begun = arrived


class _Board:
    """`done` is the work that an answer there since the start would have got: an answer that needs w ends
    when it has grown by w, whoever else comes and goes. So one heap and one timer serve all."""

    def __init__(
        self,
        env: simpy.Environment,
        speeds: tuple[float, ...],
        ended: Callable[[_Request], _Request | None],
    ) -> None:
        self._env, self._speeds, self._ended = env, speeds, ended
        self._done = self._since = 0.0
        self._heap: list[tuple[float, int, _Request]] = []
        self._timer = 0
        self.busy_s = self.answer_s = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def take(self, request: _Request) -> None:
        self.advance()
        self._add(request)
        self._set_timer()

    def advance(self) -> None:
        """Brings the sums up to now."""
        elapsed, self._since = self._env.now - self._since, self._env.now
        if count := len(self._heap):
            self._done += elapsed * self._speeds[count - 1] / count
            self.busy_s += elapsed
            self.answer_s += elapsed * count

    def _add(self, request: _Request) -> None:
        request.begun = self._env.now
        heappush(self._heap, (self._done + request.work, request.number, request))

    def _set_timer(self) -> None:
        self._timer += 1
        if count := len(self._heap):
            left = max(0.0, self._heap[0][0] - self._done)
            timer = self._env.timeout(left * count / self._speeds[count - 1], self._timer)
            timer.callbacks.append(self._end)

    def _end(self, timer: simpy.Event) -> None:
        if timer.value != self._timer:
            return  # set anew since
        self.advance()
        self._done, _, request = heappop(self._heap)
        following = self._ended(request)
        if following is not None:
            self._add(following)
        self._set_timer()


class _Simulation:
    def __init__(self, pool: Pool, rate: float, work: Work, answers: int, seed: int) -> None:
        self._env = simpy.Environment()
        self._places = len(pool.speeds)
        self._boards = [_Board(self._env, pool.speeds, self._ended) for _ in range(pool.boards)]
        self._queue: deque[_Request] = deque()
        self._first = round(answers * WARM_UP)  # that counts
        self._last = self._first + answers - 1
        self._left = answers
        self._all_ended = self._env.event()
        self._waits: list[float] = []
        self._wholes: list[float] = []
        self._arrived = self._finished = 0
        self._sums = [(0.0, 0.0, 0.0)] * 2  # time, busy and answer seconds when the first and last one came
        # Two streams: the work does not depend on the rate.
        self._times = poisson_times(rate, Random(f"arrivals {seed}"))
        self._work, self._random = work, Random(f"work {seed}")

    def run(self) -> Run:
        self._env.process(self._visitors())
        self._env.run(until=self._all_ended)
        (start, busy, answer), (end, busy_end, answer_end) = self._sums
        seconds, busy, answer = end - start, busy_end - busy, answer_end - answer
        return Run(
            answers=len(self._wholes),
            wait=Tail.of(self._waits),
            mean_wait=fmean(self._waits),
            whole=Tail.of(self._wholes),
            mean_whole=fmean(self._wholes),
            busy=busy / (seconds * len(self._boards)) if seconds else 0.0,
            together=answer / busy if busy else 0.0,
            arrived=self._arrived,
            finished=self._finished,
            waiting=len(self._queue),
            under_way=sum(map(len, self._boards)),
        )

    def _visitors(self) -> simpy.events.ProcessGenerator:
        for number, time in enumerate(self._times):
            yield self._env.timeout(max(0.0, time - self._env.now))
            self._arrive(_Request(number, self._env.now, self._work.draw(self._random)))

    def _arrive(self, request: _Request) -> None:
        self._arrived += 1
        if request.number in (self._first, self._last):
            self._sums[request.number == self._last] = self._now()
        board = min(self._boards, key=len)
        if len(board) < self._places:
            board.take(request)
        else:
            self._queue.append(request)

    def _ended(self, request: _Request) -> _Request | None:
        """Takes the figures of an answer; the next request for its place, if one waits."""
        self._finished += 1
        if self._first <= request.number <= self._last:
            self._waits.append(request.begun - request.arrived)
            self._wholes.append(self._env.now - request.arrived)
            self._left -= 1
            if not self._left:
                self._all_ended.succeed()
        return self._queue.popleft() if self._queue else None

    def _now(self) -> tuple[float, float, float]:
        for board in self._boards:
            board.advance()
        boards = self._boards
        return self._env.now, sum(one.busy_s for one in boards), sum(one.answer_s for one in boards)


@lru_cache(maxsize=256)
def _work_p95(work: Work) -> float:
    random = Random("p95")
    return Tail.of([work.draw(random) for _ in range(20_000)]).p95
