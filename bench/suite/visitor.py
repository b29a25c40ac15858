"""Visits to cells: which questions are asked there, which prefixes are known and which new."""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from binhdan.bench.suite.cases import Spot
from binhdan.bench.suite.drive import visit
from binhdan.bench.suite.result import Arrival
from binhdan.bench.suite.targets import Question, Sample, Target
from binhdan.bench.suite.workloads import TextWorkload, Turn
from binhdan.runtime.prompting.chat import Message

ONE_USER = Arrival(kind="closed", users=1)
_HELLO: Message = {"role": "user", "content": "Xin chào"}
_NUMBERS = 10**8  # of eight digits


@dataclass(frozen=True, slots=True)
class Asked:
    """A turn, and how many tokens its answer has for this target."""

    turn: Turn
    tokens: int

    def question(self, number: int, *, cold: bool) -> Question:
        messages = self.turn.cold(number) if cold else self.turn.warm(number)
        return Question(messages, self.tokens, len(self.turn.answer))

    @property
    def prime(self) -> Question:
        """Makes the prefix known."""
        return Question([*self.turn.messages[:-1], _HELLO], 1, 0)


class Visitor:
    """Asks one target the questions of cells."""

    def __init__(self, target: Target, workloads: Mapping[str, TextWorkload], seed: int = 0) -> None:
        self.target, self._workloads, self._seed = target, workloads, seed
        self.asked: dict[str, list[Asked]] = {}
        self.answers = 0
        self._numbers = itertools.count(secrets.randbelow(_NUMBERS))

    async def prepare(self) -> None:
        """Counts the tokens of the answers."""
        for name, workload in self._workloads.items():
            turns = workload.turns
            # Shuffled once: the first n are of all kinds, and the same n in every round.
            random.Random(f"{self._seed} {name}").shuffle(turns)
            self.asked[name] = [Asked(turn, max(2, await self.target.count(turn.answer))) for turn in turns]

    def with_prefix(self) -> list[str]:
        """Workloads in which something stands before every question."""
        return [name for name, asked in self.asked.items() if all(one.turn.has_prefix for one in asked)]

    async def alone(self, workload: str) -> tuple[Sample, float]:
        """One cold answer to one user, and its seconds."""
        question = self.asked[workload][0].question(self._number(), cold=True)
        (sample,), seconds = await visit(self.target, [question], ONE_USER)
        self.answers += 1
        return sample, seconds

    async def ready(self, spot: Spot) -> list[Question]:
        """The questions of a visit; afterwards their prefixes are known in a warm cell. Not to be timed."""
        asked = self.asked[spot.workload]
        chosen = [asked[place % len(asked)] for place in range(spot.questions)]
        cold = spot.prefix == "cold"
        if not cold:
            primes = {str(one.prime.messages): one.prime for one in chosen}
            await visit(self.target, list(primes.values()), ONE_USER)
        return [one.question(self._number(), cold=cold) for one in chosen]

    async def visit(
        self, questions: Sequence[Question], arrival: Arrival, turn: int
    ) -> tuple[list[Sample], float]:
        samples, seconds = await visit(self.target, questions, arrival, seed=1000 * self._seed + turn + 1)
        self.answers += len(samples)
        return samples, seconds

    def _number(self) -> int:
        return next(self._numbers) % _NUMBERS
