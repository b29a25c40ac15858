"""One run of the suite: from the probe of the machine to the finished result."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import binhdan
from binhdan import _native
from binhdan.bench.common.child import EngineError
from binhdan.bench.common.machine import peak_rss_bytes, this_machine
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.suite import cold_start, forward_passes, phase_energy, quality, result
from binhdan.bench.suite.cases import Settings
from binhdan.bench.suite.disturbance import Monitor
from binhdan.bench.suite.engines import Engine, InProcess, Question, Server
from binhdan.bench.suite.machine_probe import commit_of, probe, sha256_of
from binhdan.bench.suite.measure import Measured, Measurement, Progress
from binhdan.bench.suite.summary import CostOf
from binhdan.bench.suite.workloads import TextWorkload, load_workload, load_workloads
from binhdan.runtime.client.model import Model, find_model
from binhdan.runtime.cost.cost_model import CostModel
from binhdan.runtime.cost.figures import load_tariff, tariff_names
from binhdan.runtime.energy import (
    DeclaredWatts,
    EnergyWatch,
    Idle,
    Meter,
    MeterError,
    find_meters,
    measure_idle,
)
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

_IDLE_SECONDS = 5.0
_FORWARD_PASSES_SECONDS = 15.0
_COLD_STARTS, _COLD_START_SECONDS = 10, 20.0
_LONG_ANSWER = 192


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run. `model` None: the embedded model. `watts`: declared power instead of a meter."""

    settings: Settings = field(default_factory=Settings)
    model: str | None = None
    threads: int | None = None
    isa: str | None = None
    url: str | None = None
    api_key: str | None = None
    name: str | None = None
    watts: float | None = None
    cost: CostModel | None = field(default_factory=CostModel)
    cold_starts: bool = True


def run(
    options: RunOptions, progress: Callable[[int], Progress] = lambda total: lambda turn, name: None
) -> result.Result:
    """Raises BinhdanError."""
    return run_loop(_run(options, progress))


async def _run(options: RunOptions, progress: Callable[[int], Progress]) -> result.Result:
    started, begun = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    workloads = load_workloads(options.settings.workloads)
    settings = replace(options.settings, workloads=tuple(workloads))
    meter = DeclaredWatts(options.watts) if options.watts else find_meters().best
    idle = _idle(meter)
    # Some meters measure the whole machine, others only the processor. Declared watts replace the board's.
    cost_model = options.cost and replace(
        options.cost, whole_meter=meter.whole if meter else True, watts=options.watts or options.cost.watts
    )
    threads = library().usable_cores() if options.threads is None else options.threads
    async with contextlib.AsyncExitStack() as stack:
        if meter is not None:
            stack.callback(meter.close)
        subject = await stack.enter_async_context(
            _open_server(options) if options.url else _open_model(options, threads)
        )
        isa = subject.identity["isa"] or _native.isas()[-1]
        probed = probe(isa, threads)
        monitor = Monitor()
        measured = await Measurement(
            subject.engine,
            workloads,
            settings,
            monitor=monitor,
            energy=EnergyWatch(meter, idle) if meter else None,
            cost_of=_cost_of(cost_model, meter),
            progress=progress,
        ).run()
        failure, energy = measured.meter_failure, None
        if meter is not None and failure is None:
            try:
                energy = await _phase_energy(subject.engine, meter, idle, workloads)
            except MeterError as error:
                failure = str(error)
        disturbance = monitor.report(noise=measured.noise, count_others=options.url is None, meter=failure)
        answers = _quality(subject.model) if subject.model else None
        peak = peak_rss_bytes(resource.getrusage(resource.RUSAGE_SELF)) if subject.model else None
    starts, passes, by_depth = None, list[result.ForwardPass](), list[result.DepthPoint]()
    if options.url is None:
        path, bandwidth = find_model(options.model), max(one.gb_per_s for one in probed.bandwidth)
        passes, by_depth = forward_passes.measure(
            path,
            threads=threads,
            isa=options.isa,
            gb_per_s=bandwidth,
            seconds=_FORWARD_PASSES_SECONDS,
        )
        starts = _cold_starts(path, subject.identity["options"]) if options.cold_starts else None
    # A command line with an API key is not recorded.
    command = " ".join(["binhdan", *sys.argv[1:]]) if options.api_key is None else "binhdan bench run"
    return result.Result(
        name=options.name or _name(subject.identity),
        machine=this_machine(),
        probe=probed,
        identity=result.RunIdentity(
            workloads={name: one.sha256 for name, one in workloads.items()}, **subject.identity
        ),
        protocol=result.Protocol(
            rounds=settings.rounds,
            warm_up_rounds=settings.warm_up_rounds,
            seed=settings.seed,
            threads=threads if options.url is None else None,
            started=started,
            seconds=time.monotonic() - begun,
            budget_seconds=settings.budget_seconds,
            measuring_share=_measuring_share(measured) if options.url is None else None,
            command=command,
        ),
        disturbance=disturbance,
        cases=tuple(measured.cases),
        left_out=tuple(measured.left_out),
        forward_passes=tuple(passes),
        speed_by_depth=tuple(by_depth),
        cold_start=starts,
        peak_rss_bytes=peak,
        energy=energy,
        cost=cost_facts(cost_model, measured.cases, measured=_is_measured(meter)) if cost_model else None,
        quality=answers,
    )


# ---- the engine under test -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subject:
    """The engine under test. `model`: None for a server."""

    engine: Engine
    model: Model | None
    identity: Mapping[str, Any]


@contextlib.asynccontextmanager
async def _open_model(options: RunOptions, threads: int) -> AsyncIterator[Subject]:
    path, core = find_model(options.model), library()
    sequences = max((*options.settings.users, 8))
    load_options = LoadOptions(threads=threads, isa=options.isa, max_sequences=sequences)
    with Model(path, load_options) as model:
        identity = {
            "engine": f"binhdan {core.version()}",
            "engine_sha256": sha256_of(core.path),
            "compiler": _native.compiler,
            "commit": commit_of(),
            "isa": model.info.isa,
            "options": {key: value for key, value in asdict(load_options).items() if value is not None},
            "url": None,
            "model": path.name,
            "model_sha256": sha256_of(path),
            "model_bytes": model.info.file_bytes,
            "parameters": model.info.parameters,
            "context": model.context,
        }
        yield Subject(InProcess(model), model, identity)


@contextlib.asynccontextmanager
async def _open_server(options: RunOptions) -> AsyncIterator[Subject]:
    assert options.url is not None
    async with ChatClient(options.url, api_key=options.api_key) as client:
        server = await Server.connect(client, options.model)
        identity = dict.fromkeys(result.RunIdentity.model_fields.keys() - {"workloads"}) | {
            "engine": "OpenAI's API",
            "options": {},
            "url": options.url,
            "model": server.model,
        }
        yield Subject(server, None, identity)


# ---- parts of a run ------------------------------------------------------------------------------------


def _idle(meter: Meter | None) -> Idle | None:
    """Idle power of the machine. Declared watts do not include it."""
    return measure_idle(meter, _IDLE_SECONDS) if meter is not None and meter.measured else None


async def _phase_energy(
    engine: Engine, meter: Meter, idle: Idle | None, workloads: Mapping[str, TextWorkload]
) -> result.Energy:
    """Raises MeterError."""
    turns = [turn for workload in workloads.values() for turn in workload.turns]
    longest = max(turns, key=lambda turn: sum(len(str(one["content"])) for one in turn.messages))
    shortest = min(turns, key=lambda turn: sum(len(str(one["content"])) for one in turn.messages))
    number = iter(range(90_000_000, 100_000_000))
    return await phase_energy.measure(
        engine,
        meter,
        idle,
        lambda: Question(longest.cold(next(number)), 1, 0),
        lambda: Question(shortest.cold(next(number)), _LONG_ANSWER, 0),
    )


def _quality(model: Model) -> result.Quality:
    return quality.measure(model, load_workload("diacritics").turns, load_workload("short").turns)


def _cold_starts(path: Path, options: Mapping[str, Any]) -> result.ColdStart:
    begun = time.monotonic()
    try:
        starts = cold_start.measure(path, options, 1)
        each = max((time.monotonic() - begun) / 2, 1e-3)
        more = min(_COLD_STARTS, int(_COLD_START_SECONDS / each)) - 1
        starts += cold_start.measure(path, options, more) if more > 0 else []
    except EngineError as error:
        raise binhdan.BinhdanError(f"a new process of binhdan failed: {error}") from error
    return result.ColdStart(runs=len(starts), **asdict(cold_start.medians(starts)))


def _cost_of(model: CostModel | None, meter: Meter | None) -> CostOf | None:
    """With declared watts, the cost model computes the energy itself: the joules are not measured."""
    if model is None:
        return None
    measured = _is_measured(meter)

    def cost_of(seconds_busy: float, joules: float | None = None) -> tuple[float, float]:
        cost = model.answer(seconds_busy, joules if measured else None)
        return cost.vnd, cost.usd

    return cost_of


def cost_facts(model: CostModel, cases: list[result.CaseResult], *, measured: bool) -> result.Cost | None:
    """Assumptions behind the costs of the cases; None when no case has a cost. `measured`: a meter measured
    their joules."""
    priced = [
        (case.key, one.seconds, one.joules if measured else None)
        for case in cases
        if (one := case.per_answer) is not None
    ]
    if not priced:
        return None
    key, seconds, joules = priced[0]
    tariffs = [load_tariff(name) for name in tariff_names()]
    rows = model.sensitivity(seconds, joules, tariffs=tariffs)
    parts = {
        name: {part: 1000 * vnd for part, vnd in model.answer(busy, energy).parts.items() if vnd}
        for name, busy, energy in priced
    }
    return result.Cost(
        board=model.board.name,
        tariff=model.tariff.name,
        utilisation=model.utilisation,
        basis=model.answer(seconds, joules).basis,
        assumptions=tuple(
            result.Assumption(name=name, value=value, note=note) for name, value, note in model.assumptions()
        ),
        usd_vnd=model.usd_vnd.value,
        case=key,
        parts=parts,
        sensitivity=tuple(result.Sensitivity(**asdict(row)) for row in rows),
    )


def _is_measured(meter: Meter | None) -> bool:
    return meter is not None and meter.measured


def _measuring_share(measured: Measured) -> float | None:
    return measured.measuring_seconds / measured.cpu_seconds if measured.cpu_seconds else None


def _name(identity: Mapping[str, Any]) -> str:
    return f"{identity['engine']} {identity['isa']}" if identity["isa"] else str(identity["url"])
