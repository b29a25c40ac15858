"""bench/suite/measure.py: rounds of trials, meters that fail, noise, workloads without answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import bench_results
import pytest

import binhdan
from binhdan.bench.suite.cases import Settings
from binhdan.bench.suite.disturbance import Monitor
from binhdan.bench.suite.engines import InProcess
from binhdan.bench.suite.measure import Measurement, noise
from binhdan.bench.suite.workloads import load_workload
from binhdan.runtime.energy import EnergyWatch, Meter, MeterError

SMALL = Settings(workloads=("short",), users=(1, 2), rounds=2, budget_seconds=None)


class Failing(Meter):
    """A meter that is removed while it measures."""

    name, source, sampling_hz, measured, whole = "failing", "a sensor", 10.0, True, True

    def __init__(self, reads: int) -> None:
        self.left = reads

    def parts(self) -> dict[str, float]:
        self.left -= 1
        if self.left < 0:
            raise MeterError("a sensor: it is gone")
        return {"board": 0.0}


async def test_a_meter_that_fails_ends_only_the_energy_figures(model: binhdan.Model) -> None:
    settings = replace(SMALL, workloads=("short",), users=(1,), open_load=0.0, rounds=3)
    measurement = Measurement(
        InProcess(model),
        {"short": load_workload("short")},
        settings,
        monitor=Monitor(),
        energy=EnergyWatch(Failing(6)),
    )
    measured = await measurement.run()
    assert measured.meter_failure == "a sensor: it is gone"
    (case,) = measured.cases
    assert len(case.trials) == 3 and case.per_answer is not None and case.per_answer.joules is None
    found = Monitor().report(meter=measured.meter_failure).findings
    assert [one.text for one in found if one.kind == "meter"] == [
        "the meter failed, so there are no energy figures: a sensor: it is gone"
    ]


def test_noise_is_the_half_width_of_a_round() -> None:
    def of(spread: float) -> float | None:
        return noise(bench_results.make(noise=spread).cases)

    quiet, loud = of(0.01), of(0.3)
    assert quiet is not None and loud is not None and quiet < 0.01 < 0.03 < loud


async def test_workloads_without_a_prefix_have_no_warm_cases(model: binhdan.Model) -> None:
    settings = replace(SMALL, prefixes=("warm",))
    with pytest.raises(binhdan.InvalidArgumentError, match="no case to measure"):
        await Measurement(InProcess(model), {"short": load_workload("short")}, settings).run()


async def test_a_workload_without_answers_is_an_error(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    messages = [{"role": "user", "content": "dài " * 500}, {"role": "assistant", "content": "Ừ thôi"}]
    own.write_text(json.dumps({"id": "a", "messages": messages}))
    settings = replace(SMALL, workloads=("own",))
    with binhdan.load(threads=1, context=64) as model:
        with pytest.raises(binhdan.BinhdanError, match="own gets no answer"):
            await Measurement(InProcess(model), {"own": load_workload(own)}, settings).run()
