"""The page of one result. All text of the result is escaped: results come from anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from binhdan.bench.suite.report import charts
from binhdan.bench.suite.result import Cell, Energy, PhaseEnergy, Result, Tail

_FOLDER = Path(__file__).parent
_LATENCIES = (
    ("first_token_s", "Time to the first token, ms"),
    ("per_token_s", "Time of a token after the first, ms"),
    ("end_to_end_s", "Time of a whole answer, ms"),
)

Rows = list[list[str]]


def page(result: Result) -> str:
    """One HTML document."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((_FOLDER / "page.html.j2").read_text("utf-8"))
    prompt, decode = charts.context(result.context)
    facts = result.cost
    keys = [cell.key for cell in result.cells if cell.prefix == "cold" and cell.per_answer is not None]
    return template.render(
        result=result,
        css=Markup((_FOLDER / "page.css").read_text("utf-8")),
        glance=_glance(result.cells),
        latencies=_latencies(result),
        roofline=Markup(charts.roofline(result.machine, result.work)),
        work=[one.name for one in result.work][:4],
        context=[
            (Markup(prompt), "Reading a prompt of 256 tokens after so many others."),
            (Markup(decode), "Decoding after so many tokens."),
        ],
        cost=Markup(charts.cost(facts, keys)) if facts else "",
        parts=charts.part_names(facts) if facts else [],
        sensitivity=_sensitivity(result),
        assumptions=[(one.name, f"{one.value:,.6g}  {one.note}") for one in facts.assumptions]
        if facts
        else [],
        energy=_energy(result.energy) if result.energy else [],
        figures=_figures(result.cells),
        machine=_machine(result),
        pins=_pins(result),
    )


def _latencies(result: Result) -> list[tuple[str, list[tuple[str, Markup]]]]:
    found = []
    for workload in dict.fromkeys(cell.workload for cell in result.cells):
        cells = [cell for cell in result.cells if cell.workload == workload]
        cells.sort(key=lambda cell: (cell.arrival.kind, cell.arrival.users or 0, cell.prefix))
        drawn = [(name, Markup(charts.latency(cells, read, name))) for read, name in _LATENCIES]
        found.append((workload, [(name, svg) for name, svg in drawn if svg]))
    return found


def _glance(cells: Sequence[Cell]) -> Rows:
    """One user, cold: what a person at the machine sees."""
    one = [cell for cell in cells if cell.arrival.users == 1 and cell.prefix == "cold"] or list(cells[:1])
    head = ["workload", "first token, ms", "token, ms", "answer, ms", "tokens/s"]
    rows = [[*head, "s / 1,000 characters", "đ / 1,000 answers", "J / answer"]]
    rows += [
        [
            cell.workload,
            _interval(cell.first_token_s),
            _interval(cell.per_token_s),
            _interval(cell.end_to_end_s),
            f"{cell.tokens_per_s:,.0f}",
            _number(cell.per_1000_characters.seconds if cell.per_1000_characters else None),
            _number(cell.per_answer.vnd if cell.per_answer else None, 1000),
            _number(cell.per_answer.joules if cell.per_answer else None),
        ]
        for cell in one
    ]
    return rows


def _figures(cells: Sequence[Cell]) -> Rows:
    tails = [f"{name} p{share}" for name in ("first token", "token", "answer") for share in (50, 95, 99)]
    spent = ["s / token", "s / 1,000 chars", "s / answer", "J / token", "J / 1,000 chars", "J / answer"]
    head = [
        "workload",
        "asked by",
        "prefix",
        *tails,
        "tokens/s",
        "answers/min",
        *spent,
        "đ / answer",
        "failed",
    ]
    rows = [head]
    for cell in cells:
        kinds = (cell.per_token, cell.per_1000_characters, cell.per_answer)
        rate = f" ({cell.arrival.rate:.2f}/s)" if cell.arrival.rate is not None else ""
        times = [
            f"{value * 1e3:,.2f}" if value is not None else ""
            for tail in (cell.first_token_s, cell.per_token_s, cell.end_to_end_s)
            for value in ((tail.p50, tail.p95, tail.p99) if tail else (None, None, None))
        ]
        rows.append(
            [
                cell.workload,
                cell.arrival.label + rate,
                cell.prefix,
                *times,
                f"{cell.tokens_per_s:,.0f}",
                f"{cell.answers_per_min:,.0f}",
                *(_number(one.seconds if one else None) for one in kinds),
                *(_number(one.joules if one else None) for one in kinds),
                _number(cell.per_answer.vnd if cell.per_answer else None),
                str(cell.failures or ""),
            ]
        )
    return rows


def _sensitivity(result: Result) -> Rows:
    if result.cost is None:
        return [[]]
    rows = [["utilisation", "tariff", "life, years", "đ / 1,000 answers", "times"]]
    rows += [
        [
            f"{one.utilisation:.0%}",
            one.tariff,
            "rented" if one.life_years is None else f"{one.life_years:g}",
            f"{one.vnd_per_1000:,.2f}",
            f"{one.ratio:.2f}",
        ]
        for one in result.cost.sensitivity
    ]
    return rows


def _energy(energy: Energy) -> list[tuple[str, str]]:
    rate = f", {energy.sampling_hz:g} values a second" if energy.sampling_hz else ""
    source = f"{energy.source}{rate}; {'measured' if energy.measured else 'declared, not measured'}"
    sees = "the whole machine" if energy.whole else "the processor's part alone"
    idle = "not measured"
    if energy.idle_watts is not None:
        idle = f"{energy.idle_watts:.2f} W ({energy.idle_least or 0:.2f} to {energy.idle_most or 0:.2f})"
    rows = [("source", source), ("it sees", sees), ("idle", idle)]
    for name, phase in (("a prompt token", energy.prompt), ("a decoded token", energy.decode)):
        if phase is not None:
            rows.append((name, _phase(phase)))
    return rows


def _phase(phase: PhaseEnergy) -> str:
    above = phase.joules_above_idle
    words = f"{phase.per_token * 1e3:,.3f} mJ gross"
    if above is not None and phase.tokens:
        words += f", {above / phase.tokens * 1e3:,.3f} mJ above idle"
    return f"{words}; {phase.tokens:,} tokens in {phase.seconds:.1f} s"


def _machine(result: Result) -> list[tuple[str, str]]:
    machine, seen = result.machine, result.disturbance
    reading = ", ".join(f"{one.gb_per_s:.1f} GB/s with {one.threads} threads" for one in machine.bandwidth)
    memory = _gigabytes(machine.memory_bytes)
    if machine.cgroup_memory_bytes is not None:
        memory += f", limited to {_gigabytes(machine.cgroup_memory_bytes)}"
    quota = f", quota of {machine.cgroup_cores:g}" if machine.cgroup_cores is not None else ""
    rows = [
        ("processor", f"{machine.processor} ({machine.architecture})"),
        ("cores", f"{machine.cores} usable of {machine.processors}{quota}"),
        ("kernels", " ".join(machine.kernels)),
        ("frequency", f"{_number(machine.mhz)} MHz, at most {_number(machine.most_mhz) or 'not known'}"),
        ("governor", machine.governor or "not known"),
        ("memory", memory),
        ("reading memory", reading),
        ("peaks", ", ".join(f"{name} {gops:,.0f} GOPS" for name, gops in machine.peaks.items())),
        ("system", f"{machine.system}, {machine.libc}, Python {machine.python}"),
        ("virtual", {True: "yes", False: "no", None: "not known"}[machine.virtual]),
        ("steal time", "not known" if seen.steal_share is None else f"{seen.steal_share:.2%}"),
        ("other processes", "not known" if seen.others_share is None else f"{seen.others_share:.2%}"),
        ("noise of the rounds", "not known" if seen.noise is None else f"± {seen.noise:.2%}"),
    ]
    if start := result.cold_start:
        words = f"ready after {start.ready_s:.2f} s, first token after {start.first_token_s:.2f} s"
        rows.append(("a fresh process", f"{words}, {start.peak_rss_bytes / 1e6:,.0f} MB at most"))
    if result.peak_rss_bytes:
        rows.append(("memory of the run", f"{result.peak_rss_bytes / 1e6:,.0f} MB at most"))
    return rows


def _pins(result: Result) -> list[tuple[str, str]]:
    pins, protocol = result.pins, result.protocol
    rows = [
        ("engine", pins.engine),
        ("library, SHA-256", pins.engine_sha256 or ""),
        ("compiler", pins.compiler or ""),
        ("commit", pins.commit or ""),
        ("kernels", pins.isa or ""),
        ("options", ", ".join(f"{name}={value}" for name, value in pins.options.items())),
        ("server", pins.url or ""),
        ("model", pins.model),
        ("model, SHA-256", pins.model_sha256 or ""),
        ("parameters", f"{pins.parameters:,}" if pins.parameters else ""),
        ("workloads, SHA-256", ", ".join(f"{name} {one[:12]}" for name, one in pins.workloads.items())),
        ("rounds", f"{protocol.rounds} after {protocol.warm_up_rounds} to warm up, seed {protocol.seed}"),
        ("took", f"{protocol.seconds:.0f} s"),
        ("measuring took", f"{protocol.measuring_share:.3%}" if protocol.measuring_share is not None else ""),
        ("command", protocol.command),
    ]
    if right := result.quality:
        rows.append(("marks restored", f"{right.share:.1%} of {right.syllables} syllables"))
        rows.append(("answers, SHA-256", right.answers_sha256))
    return [(name, value) for name, value in rows if value]


def _interval(tail: Tail | None) -> str:
    if tail is None:
        return ""
    return f"{tail.p50 * 1e3:,.2f} ({tail.low * 1e3:,.2f}–{tail.high * 1e3:,.2f})"


def _number(value: float | None, times: float = 1.0) -> str:
    if value is None:
        return ""
    value *= times
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _gigabytes(size: int | None) -> str:
    return "not known" if size is None else f"{size / 1e9:,.1f} GB"
