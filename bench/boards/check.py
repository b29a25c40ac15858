"""Prediction and measurement of this machine, side by side: a check of the method of predict.py.

Both use one thread and its processor time, so that other programs on the machine disturb little.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from binhdan.bench.boards.predict import Prediction, measured_rates, predict
from binhdan.bench.boards.work import work_of
from binhdan.bench.micro import speed
from binhdan.runtime.client.model import Model

DECODE = 33
ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Tokens per second of one thread, predicted and measured."""

    model: str
    isa: str
    predicted: Prediction
    prefill_tokens_per_s: float
    decode_tokens_per_s: float

    @property
    def prefill_ratio(self) -> float:
        return self.predicted.prefill_tokens_per_s / self.prefill_tokens_per_s

    @property
    def decode_ratio(self) -> float:
        return self.predicted.decode_tokens_per_s / self.decode_tokens_per_s


def check(model: Model, prompt: int) -> Check:
    """`model` must have one thread. Rounds of kernels and answers alternate; the best of each counts."""
    work = work_of(str(model.path))
    rates = measured_rates(work, model.info.isa, 1, _bandwidth())
    prefill, both = float("inf"), float("inf")
    for index in range(ROUNDS):
        prefill = min(prefill, _seconds(model, prompt, 1, 2 * index))
        both = min(both, _seconds(model, prompt, DECODE, 2 * index + 1))
        again = measured_rates(work, model.info.isa, 1, rates.bytes_per_s, seconds=0.1)
        for best, new in ((rates.prefill, again.prefill), (rates.decode, again.decode)):
            best.update({kind: max(best[kind], new[kind]) for kind in best})
        rates.bytes_per_s = max(rates.bytes_per_s, _bandwidth())
    return Check(
        model=model.path.name,
        isa=model.info.isa,
        predicted=predict(work, rates, prompt + DECODE // 2),
        prefill_tokens_per_s=prompt / prefill,
        decode_tokens_per_s=(DECODE - 1) / max(both - prefill, 1e-9),
    )


def _bandwidth() -> float:
    """Bytes a second that one thread reads from memory, in its processor time."""
    memory, best = np.ones(1 << 25, np.int64), float("inf")
    for _ in range(3):
        start = time.thread_time()
        memory.max()
        best = min(best, time.thread_time() - start)
    return memory.nbytes / best


def _seconds(model: Model, prompt: int, decode: int, seed: int) -> float:
    start = time.process_time()
    speed.answer(model, prompt, decode, seed)
    return time.process_time() - start


def check_table(result: Check) -> str:
    predicted = result.predicted
    return "\n".join(
        [
            f"{result.model}, `{result.isa}`, one thread, tokens for each second of processor time:",
            f"  prefill  predicted {predicted.prefill_tokens_per_s:8.1f}, measured "
            f"{result.prefill_tokens_per_s:8.1f}, ratio {result.prefill_ratio:.2f}",
            f"  decode   predicted {predicted.decode_tokens_per_s:8.1f}, measured "
            f"{result.decode_tokens_per_s:8.1f}, ratio {result.decode_ratio:.2f}",
        ]
    )
