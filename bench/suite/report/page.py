"""The HTML page of one result. Every text of the result is escaped: a result file may be hostile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from binhdan.bench.suite.report import charts
from binhdan.bench.suite.result import CaseResult, Energy, Percentiles, PhaseEnergy, Result

_FOLDER = Path(__file__).parent
_LATENCIES = (
    ("ttft_s", "Time to first token (TTFT), ms"),
    ("tpot_s", "Time per output token after the first (TPOT), ms"),
    ("end_to_end_s", "Time of a complete answer, ms"),
)

Rows = list[list[str]]


def page(result: Result) -> str:
    """One HTML document."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = environment.from_string((_FOLDER / "page.html.j2").read_text("utf-8"))
    prompt, decode = charts.speed_by_depth(result.speed_by_depth)
    facts = result.cost
    keys = [case.key for case in result.cases if case.prefix == "cold" and case.per_answer is not None]
    return template.render(
        result=result,
        css=Markup((_FOLDER / "page.css").read_text("utf-8")),
        glance=_glance(result.cases),
        latencies=_latencies(result),
        roofline=Markup(charts.roofline(result.probe, result.forward_passes)),
        passes=[one.name for one in result.forward_passes][:4],
        by_depth=[
            (Markup(prompt), "Prefill of 256 tokens, by depth (tokens before)."),
            (Markup(decode), "Decode, by depth (tokens before)."),
        ],
        cost=Markup(charts.cost(facts, keys)) if facts else "",
        parts=charts.part_names(facts) if facts else [],
        sensitivity=_sensitivity(result),
        assumptions=[(one.name, f"{one.value:,.6g}  {one.note}") for one in facts.assumptions]
        if facts
        else [],
        energy=_energy(result.energy) if result.energy else [],
        figures=_figures(result.cases),
        machine=_machine(result),
        identity=_identity(result),
    )


def _latencies(result: Result) -> list[tuple[str, list[tuple[str, Markup]]]]:
    found = []
    for workload in dict.fromkeys(case.workload for case in result.cases):
        cases = [case for case in result.cases if case.workload == workload]
        cases.sort(key=lambda case: (case.arrival.kind, case.arrival.users or 0, case.prefix))
        drawn = [(name, Markup(charts.latency(cases, read, name))) for read, name in _LATENCIES]
        found.append((workload, [(name, svg) for name, svg in drawn if svg]))
    return found


def _glance(cases: Sequence[CaseResult]) -> Rows:
    """The cold cases of one user."""
    shown = [case for case in cases if case.arrival.users == 1 and case.prefix == "cold"] or list(cases[:1])
    head = ["workload", "TTFT, ms", "TPOT, ms", "answer, ms", "tokens/s"]
    rows = [[*head, "s / 1,000 characters", "đ / 1,000 answers", "J / answer"]]
    rows += [
        [
            case.workload,
            _interval(case.ttft_s),
            _interval(case.tpot_s),
            _interval(case.end_to_end_s),
            f"{case.tokens_per_s:,.0f}",
            _number(case.per_1000_characters.seconds if case.per_1000_characters else None),
            _number(case.per_answer.vnd if case.per_answer else None, 1000),
            _number(case.per_answer.joules if case.per_answer else None),
        ]
        for case in shown
    ]
    return rows


def _figures(cases: Sequence[CaseResult]) -> Rows:
    names = [f"{name} p{share}" for name in ("TTFT", "TPOT", "answer") for share in (50, 95, 99)]
    spent = ["s / token", "s / 1,000 chars", "s / answer", "J / token", "J / 1,000 chars", "J / answer"]
    head = [
        "workload",
        "arrival",
        "prefix",
        *names,
        "tokens/s",
        "answers/min",
        *spent,
        "đ / answer",
        "failed",
    ]
    rows = [head]
    for case in cases:
        kinds = (case.per_token, case.per_1000_characters, case.per_answer)
        rate = f" ({case.arrival.rate:.2f}/s)" if case.arrival.rate is not None else ""
        times = [
            f"{value * 1e3:,.2f}" if value is not None else ""
            for times in (case.ttft_s, case.tpot_s, case.end_to_end_s)
            for value in ((times.p50, times.p95, times.p99) if times else (None, None, None))
        ]
        rows.append(
            [
                case.workload,
                case.arrival.label + rate,
                case.prefix,
                *times,
                f"{case.tokens_per_s:,.0f}",
                f"{case.answers_per_min:,.0f}",
                *(_number(one.seconds if one else None) for one in kinds),
                *(_number(one.joules if one else None) for one in kinds),
                _number(case.per_answer.vnd if case.per_answer else None),
                str(case.failures or ""),
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
    rate = f", {energy.sampling_hz:g} values per second" if energy.sampling_hz else ""
    source = f"{energy.source}{rate}; {'measured' if energy.measured else 'declared, not measured'}"
    scope = "the whole machine" if energy.whole else "the processor only"
    idle = "not measured"
    if energy.idle_watts is not None:
        low, high = energy.idle_min_watts or 0, energy.idle_max_watts or 0
        idle = f"{energy.idle_watts:.2f} W ({low:.2f} to {high:.2f})"
    rows = [("source", source), ("scope", scope), ("idle", idle)]
    for name, phase in (("per prompt token", energy.prefill), ("per decoded token", energy.decode)):
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
    machine, probe, seen = result.machine, result.probe, result.disturbance
    reading = ", ".join(f"{one.gb_per_s:.1f} GB/s with {one.threads} threads" for one in probe.bandwidth)
    memory = _gigabytes(probe.memory_bytes)
    if probe.cgroup_memory_bytes is not None:
        memory += f", limited to {_gigabytes(probe.cgroup_memory_bytes)}"
    quota = f", quota of {probe.cgroup_cores:g}" if probe.cgroup_cores is not None else ""
    rows = [
        ("processor", f"{machine.processor} ({probe.architecture})"),
        ("cores", f"{machine.cores} usable of {probe.processors}{quota}"),
        ("kernels", " ".join(machine.kernels)),
        ("frequency", f"{_number(probe.mhz)} MHz, maximum {_number(probe.max_mhz) or 'unknown'}"),
        ("governor", probe.governor or "unknown"),
        ("memory", memory),
        ("reading memory", reading),
        ("peaks", ", ".join(f"{name} {gops:,.0f} GOPS" for name, gops in probe.peaks.items())),
        ("system", f"{machine.system}, {probe.libc}, Python {probe.python}"),
        ("virtual", {True: "yes", False: "no", None: "unknown"}[probe.virtual]),
        ("steal time", "unknown" if seen.steal_share is None else f"{seen.steal_share:.2%}"),
        ("other processes", "unknown" if seen.others_share is None else f"{seen.others_share:.2%}"),
        ("noise of the rounds", "unknown" if seen.noise is None else f"± {seen.noise:.2%}"),
    ]
    if start := result.cold_start:
        words = f"ready after {start.ready_s:.2f} s, first token after {start.ttft_s:.2f} s"
        rows.append(("cold start", f"{words}, peak memory {start.peak_rss_bytes / 1e6:,.0f} MB"))
    if result.peak_rss_bytes:
        rows.append(("peak memory of the run", f"{result.peak_rss_bytes / 1e6:,.0f} MB"))
    return rows


def _identity(result: Result) -> list[tuple[str, str]]:
    identity, protocol = result.identity, result.protocol
    rows = [
        ("engine", identity.engine),
        ("library, SHA-256", identity.engine_sha256 or ""),
        ("compiler", identity.compiler or ""),
        ("commit", identity.commit or ""),
        ("kernels", identity.isa or ""),
        ("options", ", ".join(f"{name}={value}" for name, value in identity.options.items())),
        ("server", identity.url or ""),
        ("model", identity.model),
        ("model, SHA-256", identity.model_sha256 or ""),
        ("parameters", f"{identity.parameters:,}" if identity.parameters else ""),
        ("workloads, SHA-256", ", ".join(f"{name} {one[:12]}" for name, one in identity.workloads.items())),
        ("rounds", f"{protocol.rounds} after {protocol.warm_up_rounds} warm-up rounds, seed {protocol.seed}"),
        ("duration", f"{protocol.seconds:.0f} s"),
        (
            "measuring itself",
            f"{protocol.measuring_share:.3%}" if protocol.measuring_share is not None else "",
        ),
        ("command", protocol.command),
    ]
    if quality := result.quality:
        rows.append(("restored syllables", f"{quality.share:.1%} of {quality.syllables} syllables"))
        rows.append(("answers, SHA-256", quality.answers_sha256))
    return [(name, value) for name, value in rows if value]


def _interval(times: Percentiles | None) -> str:
    if times is None:
        return ""
    return f"{times.p50 * 1e3:,.2f} ({times.low * 1e3:,.2f}–{times.high * 1e3:,.2f})"


def _number(value: float | None, times: float = 1.0) -> str:
    if value is None:
        return ""
    value *= times
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def _gigabytes(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 1e9:,.1f} GB"
