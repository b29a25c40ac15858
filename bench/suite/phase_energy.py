"""Energy of prefill and of decode, measured separately: each runs alone for as long as the meter needs."""

from __future__ import annotations

import time
from collections.abc import Callable

from binhdan.bench.suite import result
from binhdan.bench.suite.engines import Engine, Question, TimedAnswer
from binhdan.bench.suite.trial import ONE_USER, send_all
from binhdan.runtime.energy import EnergyWatch, Idle, Meter

# Meter values per phase. The first and the last are only partly inside the phase.
_VALUES = 30
_MIN_SECONDS, _MAX_SECONDS = 2.0, 30.0


async def measure(
    engine: Engine,
    meter: Meter,
    idle: Idle | None,
    prefill: Callable[[], Question],
    decode: Callable[[], Question],
) -> result.Energy:
    """`prefill` returns long questions with answers of one token, `decode` short questions with long answers.

    Raises MeterError, and BinhdanError when there is no answer.
    """
    watch = EnergyWatch(meter, idle)
    seconds = _MIN_SECONDS
    if meter.measured and meter.sampling_hz:
        seconds = min(max(_VALUES / meter.sampling_hz, _MIN_SECONDS), _MAX_SECONDS)
    prefilled = await _phase(
        engine, watch, prefill, seconds, lambda one: one.prompt_tokens - one.cached_tokens
    )
    decoded = await _phase(engine, watch, decode, seconds, lambda one: one.tokens)
    return result.Energy(
        source=meter.source,
        sampling_hz=meter.sampling_hz,
        measured=meter.measured,
        whole=meter.whole,
        idle_watts=idle.watts if idle else None,
        idle_min_watts=idle.min_watts if idle else None,
        idle_max_watts=idle.max_watts if idle else None,
        prefill=prefilled,
        decode=decoded,
    )


async def _phase(
    engine: Engine,
    watch: EnergyWatch,
    question: Callable[[], Question],
    seconds: float,
    tokens: Callable[[TimedAnswer], int],
) -> result.PhaseEnergy | None:
    answers: list[TimedAnswer] = []
    watch.lap()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        more, _ = await send_all(engine, [question()], ONE_USER)
        answers += more
    energy = watch.lap()
    complete = [answer for answer in answers if answer.error is None]
    if not complete:
        return None
    return result.PhaseEnergy(
        tokens=sum(map(tokens, complete)),
        seconds=energy.seconds,
        joules=energy.joules,
        joules_above_idle=energy.above_idle,
    )
