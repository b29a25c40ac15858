"""The bill of an answer: its share of the machine's time and energy, and what they cost.

Answers run in the same batches, so the machine's time and the meter's joules are divided among them by
*work*:

    work = prompt tokens that were computed + ANSWER_TOKEN_WORK * answer tokens,

times a scale when several models run. An answer is charged in proportion to its work while it ran:

    share   = its work / work that all answers reported between its start and its end      (at most 1)
    seconds = share * (end - start)
    joules  = share * joules of the meter between start and end

An answer that runs alone is charged for its whole duration. Under steady load the shares add up to the total.
When an answer ends during the prefill of another, that prefill is not reported yet, and the answer that ends
is charged slightly too much. No bill includes idle time: the cost model adds it through the utilisation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from binhdan.runtime.cost.cost_model import CostModel
from binhdan.runtime.energy import Meter
from binhdan.runtime.server.accounting import logs
from binhdan.runtime.server.accounting.record import AnswerRecord
from binhdan.runtime.server.errors import without_paths

# Work of an answer token; a prompt token has 1. A decode step reads all weights for a few rows, so a token
# takes longer than in prefill: on x86 about 8 times as long with one sequence, 3 times in a batch of 16. One
# constant lets a reader recompute a bill.
ANSWER_TOKEN_WORK = 4.0

# Weight of the newest prompt in the moving average Biller.computed_fraction.
_AVERAGE_RATE = 0.1


@dataclass(frozen=True, slots=True)
class Bill:
    """What one answer used and cost."""

    queue_ms: float
    prompt_ms: float  # prefill
    decode_ms: float
    joules: float | None  # measured; None without a meter, never derived from declared watts
    energy_source: str | None
    cost_vnd: float | None
    cost_basis: str

    def usage(self) -> dict[str, Any]:
        """Returns the object `usage.binhdan` of an HTTP response."""
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
    """The work of one running answer. Biller.begin makes it, Biller.bill ends it; it may also be dropped."""

    __slots__ = ("_biller", "_reported", "_scale", "_total_at_start", "joules_at_start", "started")

    def __init__(self, biller: Biller, scale: float) -> None:
        self._biller = biller
        self._scale = scale
        self._total_at_start = biller.total_work
        self._reported = 0.0
        self.started = biller.clock()
        self.joules_at_start = biller.read_joules()

    def first_token(self, prompt_tokens: int) -> None:
        """Reports the prefill of a prompt and the first token of its answer.

        How many tokens the prefix cache held is not known yet, so the average of recent prompts is used.
        `settle` corrects it.
        """
        self._report(prompt_tokens * self._biller.computed_fraction + ANSWER_TOKEN_WORK)

    def tokens(self, count: int = 1) -> None:
        """Reports further tokens of the answer."""
        self._report(count * ANSWER_TOKEN_WORK)

    def settle(self, work: float) -> float:
        """Replaces the reported work by the final `work`.

        Returns its share of the work that all answers have reported since the start, 0 to 1.
        """
        own = work * self._scale
        self._biller.total_work += own - self._reported
        self._reported = own
        all_answers = max(self._biller.total_work - self._total_at_start, own)
        return own / all_answers if all_answers > 0 else 0.0

    def _report(self, work: float) -> None:
        self._reported += work * self._scale
        self._biller.total_work += work * self._scale


class Biller:
    """Makes bills. Use it and its Works in the thread of the event loop only.

    Without a cost model the bills have no cost, without a meter no joules. After the meter has failed once,
    it is not read again: the error is logged, and `meter_error` holds its message.
    """

    def __init__(
        self,
        cost_model: CostModel | None = None,
        meter: Meter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.cost_model = cost_model
        # Declared watts are part of the cost model, which names them in the basis of the cost.
        self._meter = meter if meter is not None and meter.measured else None
        self.clock = clock
        self.meter_error: str | None = None
        self.total_work = 0.0  # reported by all answers so far
        self.computed_fraction = 1.0  # of recent prompts, the part that the prefix cache did not hold

    def begin(self, scale: float = 1.0) -> Work:
        """Call it when a request is submitted to the engine.

        `scale`: cost of a token of this model relative to the other models, such as ModelInfo.bytes_per_token
        in gigabytes; 1 for a single model.
        """
        return Work(self, scale)

    def bill(self, record: AnswerRecord, work: Work) -> Bill:
        """Call it once, when the engine has finished; the last bytes of the response contain the bill."""
        computed = max(record.prompt_tokens - record.cached_tokens, 0)
        if record.prompt_tokens > 0:
            self.computed_fraction += _AVERAGE_RATE * (
                computed / record.prompt_tokens - self.computed_fraction
            )
        share = work.settle(computed + ANSWER_TOKEN_WORK * record.answer_tokens)
        seconds = share * (self.clock() - work.started)
        now = self.read_joules()
        joules = None if now is None or work.joules_at_start is None else share * (now - work.joules_at_start)
        cost = None if self.cost_model is None else self.cost_model.answer(seconds, joules)
        return Bill(
            queue_ms=record.queue * 1e3,
            prompt_ms=record.prefill * 1e3,
            decode_ms=record.decode * 1e3,
            joules=joules,
            energy_source=None if joules is None or self._meter is None else self._meter.source,
            cost_vnd=None if cost is None else cost.vnd,
            cost_basis="not computed: no cost model" if cost is None else cost.basis,
        )

    def read_joules(self) -> float | None:
        """Returns the meter's count, None without a meter or after it has failed."""
        if self._meter is None or self.meter_error is not None:
            return None
        try:
            return self._meter.read()
        except OSError as error:
            self.meter_error = str(error)
            fields = {"source": self._meter.source, "reason": without_paths(self.meter_error)}
            logs.log.warning("meter failed; further answers have no joules", extra=fields)
            return None
