"""Energy of reading a prompt and of decoding, apart: each done alone for as long as the meter needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from binhdan.bench.suite import result
from binhdan.bench.suite.drive import visit
from binhdan.bench.suite.targets import Question, Sample, Target
from binhdan.runtime.energy import EnergyWatch, Idle, Meter

_ONE = result.Arrival(kind="closed", users=1)
# New values of the meter in a phase: its first and last are cut off.
_VALUES = 30
_LEAST_SECONDS, _MOST_SECONDS = 2.0, 30.0


async def measure(
    target: Target,
    meter: Meter,
    idle: Idle | None,
    prompts: Callable[[], Question],
    decode: Callable[[], Question],
) -> result.Energy:
    """`prompts` gives long questions with answers of one token, `decode` short ones with long answers.

    Raises MeterError, and BinhdanError when there is no answer.
    """
    watch = EnergyWatch(meter, idle)
    seconds = _LEAST_SECONDS
    if meter.measured and meter.sampling_hz:
        seconds = min(max(_VALUES / meter.sampling_hz, _LEAST_SECONDS), _MOST_SECONDS)
    read = await _phase(target, watch, prompts, seconds, lambda one: one.prompt_tokens - one.cached_tokens)
    decoded = await _phase(target, watch, decode, seconds, lambda one: one.tokens)
    known = asdict(idle) if idle else {"watts": None, "least": None, "most": None}
    return result.Energy(
        source=meter.source,
        sampling_hz=meter.sampling_hz,
        measured=meter.measured,
        whole=meter.whole,
        idle_watts=known["watts"],
        idle_least=known["least"],
        idle_most=known["most"],
        prompt=read,
        decode=decoded,
    )


async def _phase(
    target: Target,
    watch: EnergyWatch,
    question: Callable[[], Question],
    seconds: float,
    tokens: Callable[[Sample], int],
) -> result.PhaseEnergy | None:
    samples: list[Sample] = []
    watch.lap()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        more, _ = await visit(target, [question()], _ONE)
        samples += more
    energy = watch.lap()
    whole = [sample for sample in samples if sample.error is None]
    if not whole:
        return None
    return result.PhaseEnergy(
        tokens=sum(map(tokens, whole)),
        seconds=energy.seconds,
        joules=energy.joules,
        joules_above_idle=energy.above_idle,
    )
