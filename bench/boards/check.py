"""Prediction and measurement of this machine, side by side: a check of the method of predict.py."""

from __future__ import annotations

from dataclasses import dataclass

from binhdan.bench.boards.predict import Prediction, measured_rates, predict
from binhdan.bench.boards.work import work_of
from binhdan.bench.micro import speed
from binhdan.runtime.client.model import Model
from binhdan.runtime.ffi import library

_DECODE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Tokens per second, predicted and measured."""

    model: str
    isa: str
    threads: int
    predicted: Prediction
    measured: speed.Speed

    @property
    def prefill_ratio(self) -> float:
        return self.predicted.prefill_tokens_per_s / self.measured.prompt_tokens_per_s

    @property
    def decode_ratio(self) -> float:
        return self.predicted.decode_tokens_per_s / self.measured.decode_tokens_per_s


def check(model: Model, depth: int) -> Check:
    threads = model.engine_info()["threads"]
    work = work_of(str(model.path))
    bandwidth = library().measure_bandwidth(threads)
    rates = measured_rates(work, model.info.isa, threads, bandwidth)
    measured = speed.measure(model, prompt=depth, decode=_DECODE, runs=3)
    bandwidth = max(bandwidth, measured.bandwidth_gb_per_s * 1e9)
    again = measured_rates(work, model.info.isa, threads, bandwidth)  # the best of before and after
    for rate, other in ((rates.prefill, again.prefill), (rates.decode, again.decode)):
        for kind in rate:
            other[kind] = max(other[kind], rate[kind])
    return Check(
        model=model.path.name,
        isa=model.info.isa,
        threads=threads,
        predicted=predict(work, again, depth + _DECODE // 2),
        measured=measured,
    )


def check_table(result: Check) -> str:
    predicted, measured = result.predicted, result.measured
    return "\n".join(
        [
            f"{result.model}, `{result.isa}`, {result.threads} threads, in tokens/s",
            "           predicted / measured = ratio",
            f"  prefill  {predicted.prefill_tokens_per_s:8.1f} / {measured.prompt_tokens_per_s:8.1f} = "
            f"{result.prefill_ratio:.2f}",
            f"  decode   {predicted.decode_tokens_per_s:8.1f} / {measured.decode_tokens_per_s:8.1f} = "
            f"{result.decode_ratio:.2f}",
        ]
    )
