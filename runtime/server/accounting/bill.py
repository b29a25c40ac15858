"""The bill of an answer: what it took of the machine's time and energy, and what that costs.

Answers run together, so the machine's time and its meter's joules have to be shared. The unit is *work*:

    work = tokens of the prompt that had to be computed + ANSWER_TOKEN_WORK * tokens of the answer,

times a scale where several models run. An answer pays for its own work the mean price of work while it lived:

    share = its work / all work that was reported between its begin and its end      (at most 1)
    seconds = share * how long it lived,    joules = share * what the meter counted meanwhile

Alone, an answer pays for everything between its begin and its end. In a steady load the shares add up to the
whole; a prompt that is under way when an answer ends is not seen by that answer, which pays a little more.
What the machine takes while nobody asks is on nobody's bill: the cost model adds it by utilisation.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from binhdan.runtime.server.accounting.record import AnswerRecord

# A token of an answer takes longer than one of a prompt, since it reads all weights for itself: on x86 about
# eight times as long alone, three times in a batch of sixteen. One figure, so that a bill can be checked.
ANSWER_TOKEN_WORK = 4.0

# How fast the guess of what part of a prompt has to be computed follows the answers.
_FRESH_RATE = 0.1


class Meter(Protocol):
    """What the bill needs of binhdan.runtime.energy.Meter."""

    @property
    def source(self) -> str:
        """What is measured, as "rapl package"."""

    @property
    def measured(self) -> bool:
        """False for watts that someone declared."""

    def read(self) -> float:
        """Joules since some start. Raises OSError when the meter is lost."""


class Cost(Protocol):
    """What the bill needs of binhdan.runtime.cost.cost_model.Cost."""

    @property
    def vnd(self) -> float: ...

    @property
    def basis(self) -> str: ...


class Pricing(Protocol):
    """What the bill needs of binhdan.runtime.cost.cost_model.CostModel."""

    def answer(self, seconds_busy: float, joules: float | None) -> Cost: ...


@dataclass(frozen=True, slots=True)
class Bill:
    """What one answer took."""

    queue_ms: float
    prompt_ms: float
    decode_ms: float
    joules: float | None  # measured, never computed from declared watts
    energy_source: str | None
    cost_vnd: float | None
    cost_basis: str
    machine_seconds: float  # the answer's share of the machine's time

    def usage(self) -> dict[str, Any]:
        """`usage.binhdan` of an answer."""
        return {
            "queue_ms": round(self.queue_ms, 3),
            "prompt_ms": round(self.prompt_ms, 3),
            "decode_ms": round(self.decode_ms, 3),
            "joules": None if self.joules is None else round(self.joules, 6),
            "energy_source": self.energy_source,
            "cost_vnd": None if self.cost_vnd is None else round(self.cost_vnd, 6),
            "cost_basis": self.cost_basis,
        }


class Work:
    """The work of one answer as it grows. Made by Biller.begin, ended by Biller.bill; may be dropped."""

    __slots__ = ("_biller", "began", "joules", "reported", "scale", "work")

    def __init__(self, biller: Biller, scale: float) -> None:
        self._biller = biller
        self.scale = scale
        self.began = biller.clock()
        self.joules = biller.read_joules()
        self.work = biller.work  # everyone's, at the begin
        self.reported = 0.0  # of our own so far

    def first_token(self, prompt_tokens: int) -> None:
        """The prompt has been computed: all of it, or but for a part that only the record will tell."""
        self._report(prompt_tokens * self._biller.fresh + ANSWER_TOKEN_WORK)

    def tokens(self, count: int = 1) -> None:
        """Further tokens of the answer."""
        self._report(count * ANSWER_TOKEN_WORK)

    def settle(self, work: float) -> float:
        """Says what the work was in the end; its share of all work in this life."""
        own = work * self.scale
        self._biller.work += own - self.reported
        self.reported = own
        everyone = max(self._biller.work - self.work, own)
        return own / everyone if everyone > 0 else 0.0

    def _report(self, work: float) -> None:
        self.reported += work * self.scale
        self._biller.work += work * self.scale


class Biller:
    """Makes bills. Lives in the event loop's thread, as the Works it gives out do.

    `pricing` None leaves costs out, `meter` None joules. A meter that fails is not asked again; `lost` says
    why.
    """

    def __init__(self, pricing: Pricing | None = None, meter: Meter | None = None) -> None:
        self._pricing = pricing
        # Watts that someone declared are known to `pricing`, which says so in its basis.
        self._meter = meter if meter is not None and meter.measured else None
        self.lost: str | None = None
        self.clock = time.perf_counter
        self.work = 0.0  # all that was ever reported
        self.fresh = 1.0  # the part of recent prompts that had to be computed

    def begin(self, scale: float = 1.0) -> Work:
        """Call when a request goes to the engine. `scale`: how dear a token of this model is beside those of
        others that may run with it, such as ModelInfo.bytes_per_token in gigabytes; 1 where it is alone.
        """
        return Work(self, scale)

    def bill(self, record: AnswerRecord, work: Work) -> Bill:
        """Call when the engine has finished, before the last bytes go out, since they carry the bill."""
        computed = max(record.prompt_tokens - record.cached_tokens, 0)
        if record.prompt_tokens > 0:
            self.fresh += _FRESH_RATE * (computed / record.prompt_tokens - self.fresh)
        share = work.settle(computed + ANSWER_TOKEN_WORK * record.answer_tokens)
        seconds = share * (self.clock() - work.began)
        now = self.read_joules()
        joules = None if now is None or work.joules is None else share * (now - work.joules)
        cost = None if self._pricing is None else self._pricing.answer(seconds, joules)
        return Bill(
            queue_ms=record.queue * 1e3,
            prompt_ms=record.prompt * 1e3,
            decode_ms=record.decode * 1e3,
            joules=joules,
            energy_source=None if joules is None or self._meter is None else self._meter.source,
            cost_vnd=None if cost is None else cost.vnd,
            cost_basis="not computed: no cost model" if cost is None else cost.basis,
            machine_seconds=seconds,
        )

    def read_joules(self) -> float | None:
        """Of the meter, None without one or when it is lost."""
        if self._meter is None or self.lost is not None:
            return None
        try:
            return self._meter.read()
        except OSError as error:
            self.lost = str(error)
            return None
