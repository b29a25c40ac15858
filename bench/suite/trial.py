"""One trial of a case: which requests it sends, and when. A warm case's prefixes are in the cache first."""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from binhdan.bench.common import arrivals
from binhdan.bench.common.arrivals import Arrivals, Closed, Open
from binhdan.bench.suite.cases import Case
from binhdan.bench.suite.engines import Engine, Question, TimedAnswer
from binhdan.bench.suite.result import Arrival
from binhdan.bench.suite.workloads import TextWorkload, Turn
from binhdan.runtime.prompting.chat import Message

ONE_USER = Arrival(kind="closed", users=1)
_HELLO: Message = {"role": "user", "content": "Xin chào"}
_NUMBERS = 10**8  # eight digits


async def send_all(
    engine: Engine, questions: Sequence[Question], arrival: Arrival, *, seed: int = 0
) -> tuple[list[TimedAnswer], float]:
    """Sends all questions at the times of `arrival`. Returns the answers in the order of the questions, and
    the seconds from the first request to the end of the last answer."""
    loop: Arrivals = Closed(users=arrival.users or 1)
    if arrival.kind == "open":
        loop = Open(rate=arrival.rate or 1.0, requests=len(questions), seed=seed)
    start = perf_counter()
    reads = await arrivals.send_all(questions, loop, engine.ask)
    answers = [read() for read in reads]
    return answers, max(answer.ended for answer in answers) - start


@dataclass(frozen=True, slots=True)
class CountedTurn:
    """A turn of a workload, and the number of tokens that this engine needs for its answer."""

    turn: Turn
    tokens: int

    def question(self, number: int, *, cold: bool) -> Question:
        messages = self.turn.cold(number) if cold else self.turn.warm(number)
        return Question(messages, self.tokens, len(self.turn.answer))

    @property
    def prefix_question(self) -> Question:
        """A short request with the same prefix: afterwards the prefix is in the cache."""
        return Question([*self.turn.messages[:-1], _HELLO], 1, 0)


class TrialRunner:
    """Runs trials of cases on one engine."""

    def __init__(self, engine: Engine, workloads: Mapping[str, TextWorkload], seed: int = 0) -> None:
        self.engine, self._workloads, self._seed = engine, workloads, seed
        self.turns: dict[str, list[CountedTurn]] = {}
        self._numbers = itertools.count(secrets.randbelow(_NUMBERS))

    async def prepare(self) -> None:
        """Counts the tokens of the reference answers. Call once before all other methods."""
        for name, workload in self._workloads.items():
            turns = workload.turns
            # Shuffled once: the first n turns are a mix of all kinds, and the same n in every round.
            random.Random(f"{self._seed} {name}").shuffle(turns)
            self.turns[name] = [
                CountedTurn(turn, max(2, await self.engine.count(turn.answer))) for turn in turns
            ]

    def with_prefix(self) -> list[str]:
        """Workloads in which text precedes every question."""
        return [name for name, turns in self.turns.items() if all(one.turn.has_prefix for one in turns)]

    async def single_answer(self, workload: str) -> tuple[TimedAnswer, float]:
        """One cold answer for one user, and its seconds."""
        question = self.turns[workload][0].question(self._number(), cold=True)
        (answer,), seconds = await send_all(self.engine, [question], ONE_USER)
        return answer, seconds

    async def questions_of(self, case: Case) -> list[Question]:
        """The requests of one trial. For a warm case, first puts their prefixes into the cache: this must
        not be timed."""
        turns = self.turns[case.workload]
        chosen = [turns[index % len(turns)] for index in range(case.questions)]
        cold = case.prefix == "cold"
        if not cold:
            prefixes = {str(one.prefix_question.messages): one.prefix_question for one in chosen}
            await send_all(self.engine, list(prefixes.values()), ONE_USER)
        return [one.question(self._number(), cold=cold) for one in chosen]

    async def run(
        self, questions: Sequence[Question], arrival: Arrival, round_: int
    ) -> tuple[list[TimedAnswer], float]:
        """One trial: the answers to `questions`, and its seconds."""
        return await send_all(self.engine, questions, arrival, seed=1000 * self._seed + round_ + 1)

    def _number(self) -> int:
        return next(self._numbers) % _NUMBERS
