"""One run of the suite, from probing the machine to the finished result."""

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
from binhdan.bench.common.machine import peak_rss_bytes
from binhdan.bench.load.chat_client import ChatClient
from binhdan.bench.load.event_loop import run_loop
from binhdan.bench.load.prompts import count_tokens
from binhdan.bench.micro.engines import EngineError
from binhdan.bench.suite import cold_start, passes, phases, quality, result
from binhdan.bench.suite.cases import Settings
from binhdan.bench.suite.disturbance import Watch
from binhdan.bench.suite.measure import Measurement, Progress, Rounds
from binhdan.bench.suite.probe import commit_of, probe, sha256_of
from binhdan.bench.suite.summary import CostOf
from binhdan.bench.suite.targets import InProcess, Question, Server, Target
from binhdan.bench.suite.workloads import TextWorkload, load_workload
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
_PASSES_SECONDS = 15.0
_COLD_STARTS, _COLD_START_SECONDS = 10, 20.0
_LONG_ANSWER = 192


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run. `model` None: the embedded one. `watts`: declared, instead of a meter."""

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
    order: Order, progress: Callable[[int], Progress] = lambda total: lambda turn, name: None
) -> result.Result:
    """Raises BinhdanError."""
    return run_loop(_run(order, progress))


async def _run(order: Order, progress: Callable[[int], Progress]) -> result.Result:
    started, begun = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    settings, workloads = with_workloads(order.settings)
    meter = DeclaredWatts(order.watts) if order.watts else find_meters().best
    idle = _idle(meter)
    # What a meter sees of the machine is the meter's to say; declared watts count for the cost too.
    model = order.cost and replace(
        order.cost, whole_meter=meter.whole if meter else True, watts=order.watts or order.cost.watts
    )
    threads = library().usable_cores() if order.threads is None else order.threads
    async with contextlib.AsyncExitStack() as stack:
        if meter is not None:
            stack.callback(meter.close)
        subject = await stack.enter_async_context(_server(order) if order.url else _engine(order, threads))
        isa = subject.pins["isa"] or _native.isas()[-1]
        machine = probe(isa, threads)
        watch = Watch()
        measured = await Measurement(
            subject.target,
            workloads,
            settings,
            watch=watch,
            energy=EnergyWatch(meter, idle) if meter else None,
            cost_of=_cost_of(model, meter),
            progress=progress,
        ).run()
        failure, energy = measured.meter_failure, None
        if meter is not None and failure is None:
            try:
                energy = await _phases(subject.target, meter, idle, workloads)
            except MeterError as error:
                failure = str(error)
        disturbance = watch.report(noise=measured.noise, others_count=order.url is None, meter=failure)
        right = _quality(subject.model) if subject.model else None
        peak = peak_rss_bytes(resource.getrusage(resource.RUSAGE_SELF)) if subject.model else None
    starts, work, context = None, list[result.Work](), list[result.ContextPoint]()
    if order.url is None:
        path, best = find_model(order.model), max(one.gb_per_s for one in machine.bandwidth)
        work, context = passes.measure(
            path, threads=threads, isa=order.isa, gb_per_s=best, seconds=_PASSES_SECONDS
        )
        starts = _cold_starts(path, subject.pins["options"]) if order.cold_starts else None
    return result.Result(
        name=order.name or _name(subject.pins),
        machine=machine,
        pins=result.Pins(workloads={name: one.sha256 for name, one in workloads.items()}, **subject.pins),
        protocol=result.Protocol(
            rounds=settings.rounds,
            warm_up_rounds=settings.warm_up_rounds,
            seed=settings.seed,
            threads=threads if order.url is None else None,
            started=started,
            seconds=time.monotonic() - begun,
            budget_seconds=settings.budget_seconds,
            measuring_share=_share(measured) if order.url is None else None,
            command=" ".join(["binhdan", *sys.argv[1:]]) if order.api_key is None else "binhdan bench run",
        ),
        disturbance=disturbance,
        cells=tuple(measured.cells),
        left_out=tuple(measured.left_out),
        work=tuple(work),
        context=tuple(context),
        cold_start=starts,
        peak_rss_bytes=peak,
        energy=energy,
        cost=cost_facts(model, measured.cells, measured=_is_measured(meter)) if model else None,
        quality=right,
    )


def with_workloads(settings: Settings) -> tuple[Settings, dict[str, TextWorkload]]:
    """The files that `settings` names, and settings that name them by their stems. Raises BinhdanError."""
    loaded = [load_workload(name) for name in dict.fromkeys(settings.workloads)]
    workloads = {workload.name: workload for workload in loaded}
    if len(workloads) < len(loaded):
        raise binhdan.InvalidArgumentError("two workloads have the same name")
    return replace(settings, workloads=tuple(workloads)), workloads


# ---- who is asked --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subject:
    """An open target. `model`: of our engine."""

    target: Target
    model: Model | None
    pins: Mapping[str, Any]


@contextlib.asynccontextmanager
async def _engine(order: Order, threads: int) -> AsyncIterator[Subject]:
    path, core = find_model(order.model), library()
    together = max((*order.settings.users, 8))
    options = LoadOptions(threads=threads, isa=order.isa, max_sequences=together)
    with Model(path, options) as model:
        pins = {
            "engine": f"binhdan {core.version()}",
            "engine_sha256": sha256_of(core.path),
            "compiler": _native.compiler,
            "commit": commit_of(Path(__file__).parents[1]),
            "isa": model.info.isa,
            "options": {key: value for key, value in asdict(options).items() if value is not None},
            "url": None,
            "model": path.name,
            "model_sha256": sha256_of(path),
            "model_bytes": model.info.file_bytes,
            "parameters": model.info.parameters,
            "context": model.context,
        }
        yield Subject(InProcess(model), model, pins)


@contextlib.asynccontextmanager
async def _server(order: Order) -> AsyncIterator[Subject]:
    assert order.url is not None
    async with ChatClient(order.url, api_key=order.api_key) as client:
        server = await open_server(client, order.model)
        pins = dict.fromkeys(result.Pins.model_fields.keys() - {"workloads"}) | {
            "engine": "OpenAI's API",
            "options": {},
            "url": order.url,
            "model": server.model,
        }
        yield Subject(server, None, pins)


async def open_server(client: ChatClient, model: str | None) -> Server:
    """`model` None: the server's only or first one. Raises BinhdanError."""
    name = model or await client.model()
    text = "\n".join(turn.answer for turn in load_workload("short").turns)
    return Server(client, name, await count_tokens(client, name, text) / len(text))


# ---- parts of it ---------------------------------------------------------------------------------------


def _idle(meter: Meter | None) -> Idle | None:
    """Declared watts have no idle of their own."""
    return measure_idle(meter, _IDLE_SECONDS) if meter is not None and meter.measured else None


async def _phases(
    target: Target, meter: Meter, idle: Idle | None, workloads: Mapping[str, TextWorkload]
) -> result.Energy:
    """Raises MeterError."""
    turns = [turn for workload in workloads.values() for turn in workload.turns]
    longest = max(turns, key=lambda turn: sum(len(str(one["content"])) for one in turn.messages))
    shortest = min(turns, key=lambda turn: sum(len(str(one["content"])) for one in turn.messages))
    number = iter(range(90_000_000, 100_000_000))
    return await phases.measure(
        target,
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
        raise binhdan.BinhdanError(f"a fresh process failed: {error}") from error
    return result.ColdStart(runs=len(starts), **asdict(cold_start.medians(starts)))


def _cost_of(model: CostModel | None, meter: Meter | None) -> CostOf | None:
    """Declared joules are no measured ones: the model counts with the watts itself."""
    if model is None:
        return None
    measured = _is_measured(meter)

    def cost_of(seconds_busy: float, joules: float | None = None) -> tuple[float, float]:
        cost = model.answer(seconds_busy, joules if measured else None)
        return cost.vnd, cost.usd

    return cost_of


def cost_facts(model: CostModel, cells: list[result.Cell], *, measured: bool) -> result.Cost | None:
    """What the đồng of the cells stand on; None when no cell has any. `measured`: their joules are."""
    priced = [
        (cell.key, one.seconds, one.joules if measured else None)
        for cell in cells
        if (one := cell.per_answer) is not None
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
        cell=key,
        parts=parts,
        sensitivity=tuple(result.Sensitivity(**asdict(row)) for row in rows),
    )


def _is_measured(meter: Meter | None) -> bool:
    return meter is not None and meter.measured


def _share(measured: Rounds) -> float | None:
    return measured.measuring_seconds / measured.cpu_seconds if measured.cpu_seconds else None


def _name(pins: Mapping[str, Any]) -> str:
    return f"{pins['engine']} {pins['isa']}" if pins["isa"] else str(pins["url"])
