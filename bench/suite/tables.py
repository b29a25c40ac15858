"""Results of the suite as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from binhdan.bench.common.tables import columns
from binhdan.bench.suite.compare import Ranking
from binhdan.bench.suite.history import Entry, same_series
from binhdan.bench.suite.pairs import METRICS, Pairs, Side
from binhdan.bench.suite.result import CaseResult, Disturbance, Energy, Percentiles, Result


def result_table(result: Result) -> str:
    parts = [_warning(result.disturbance), _head(result), _cases(result.cases), _facts(result)]
    return "\n\n".join(part for part in parts if part)


def _warning(disturbance: Disturbance) -> str:
    if not disturbance.disturbed:
        return ""
    found = "\n".join(f"  - {finding.text}" for finding in disturbance.findings)
    return f"THE MACHINE WAS DISTURBED: do not publish these figures.\n{found}"


def _head(result: Result) -> str:
    machine, probe, protocol = result.machine, result.probe, result.protocol
    bandwidth = ", ".join(f"{one.gb_per_s:.1f} GB/s with {one.threads} threads" for one in probe.bandwidth)
    peaks = ", ".join(f"{name} {gops:,.0f}" for name, gops in probe.peaks.items())
    lines = [
        f"{result.name}: {result.identity.model}",
        f"{machine.processor}, {machine.cores} usable cores, {machine.system}",
        f"memory {bandwidth}; GOPS {peaks}",
        f"{protocol.rounds} rounds after {protocol.warm_up_rounds} warm-up rounds, {protocol.seconds:.0f} s; "
        "medians",
    ]
    return "\n".join(lines)


def _cases(cases: Sequence[CaseResult]) -> str:
    times = ["TTFT ms", "p95", "p99", "TPOT ms", "answer ms", "p95", "p99", "tokens/s"]
    rows = [["case", *times, "s / 1,000 characters", "đ / 1,000 answers", "J / answer"]]
    rows += [
        [
            case.key,
            *_percentiles(case.ttft_s),
            f"{case.tpot_s.p50 * 1e3:.2f}" if case.tpot_s else "",
            *_percentiles(case.end_to_end_s),
            f"{case.tokens_per_s:,.0f}",
            f"{case.per_1000_characters.seconds:.2f}" if case.per_1000_characters else "",
            _number(case.per_answer.vnd if case.per_answer else None, 1000),
            _number(case.per_answer.joules if case.per_answer else None, 1),
        ]
        for case in cases
    ]
    return columns(_without_empty_columns(rows))


def _without_empty_columns(rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """Rows without the columns in which only the header has text, such as joules without a meter."""
    filled = [i for i in range(len(rows[0])) if i == 0 or any(row[i] for row in rows[1:])]
    return [[row[i] for i in filled] for row in rows]


def _percentiles(times: Percentiles | None) -> list[str]:
    return [f"{value * 1e3:,.1f}" for value in (times.p50, times.p95, times.p99)] if times else ["", "", ""]


def _number(value: float | None, times: float) -> str:
    return f"{value * times:,.2f}" if value is not None else ""


def _facts(result: Result) -> str:
    lines = []
    if start := result.cold_start:
        seconds = f"ready after {start.ready_s:.2f} s, first token after {start.ttft_s:.2f} s"
        lines.append(f"cold start: {seconds}, peak memory {start.peak_rss_bytes / 1e6:,.0f} MB")
    if quality := result.quality:
        lines.append(f"diacritics: {quality.share:.1%} of {quality.syllables} syllables restored")
    lines.append(_energy(result.energy))
    if result.cost:
        lines.append(f"cost: {result.cost.basis}")
    if result.left_out:
        names = "; ".join(one.key for one in result.left_out)
        lines.append(f"{len(result.left_out)} cases left out ({result.left_out[0].reason}): {names}")
    if share := result.protocol.measuring_share:
        lines.append(f"the measuring itself took {share:.2%} of the CPU time")
    if failures := sum(case.failures for case in result.cases):
        lines.append(f"FAILED: {failures} answers, which no figure includes")
    return "\n".join(lines)


def _energy(energy: Energy | None) -> str:
    if energy is None:
        return "energy: unknown (no meter found; declare the power with --watts)"
    parts = [
        f"{phase.per_token * 1e3:,.2f} mJ per {name}"
        for name, phase in (("prompt token", energy.prefill), ("decoded token", energy.decode))
        if phase
    ]
    source = energy.source if energy.measured else f"{energy.source}, not measured"
    return f"energy, gross: {', '.join(parts)}; {source}"


def ranking_table(ranking: Ranking) -> str:
    head = ["", "", "answer ms", "times the first", "TTFT ms", "tokens/s", "đ / 1,000 answers", "J / answer"]
    rows = [head]
    for one in ranking.ranked:
        ratio = f"{one.ratio.value:.2f} ({one.ratio.low:.2f} to {one.ratio.high:.2f})"
        rows.append(
            [
                f"{one.rank}. {one.result.name}",
                "disturbed" if one.result.disturbance.disturbed else "",
                f"{one.answer_s * 1e3:,.1f}",
                "1" if one.ratio.low == one.ratio.high == 1 else ratio,
                f"{one.ttft_s * 1e3:,.1f}",
                f"{one.tokens_per_s:,.0f}",
                _number(one.vnd_per_1000, 1),
                _number(one.joules, 1),
            ]
        )
    machines = [f"{one.result.name}: {_setup(one.result)}" for one in ranking.ranked]
    models = {one.result.identity.model_sha256 for one in ranking.ranked}
    note = ["the model files differ: compare the quality of the answers too"] if len(models) > 1 else []
    over = (
        f"geometric means over the {len(ranking.cases)} common cases; "
        "results with equal ranks do not differ significantly"
    )
    return "\n".join([over, "", columns(_without_empty_columns(rows)), "", *machines, *note])


def _setup(result: Result) -> str:
    quality = f", {result.quality.share:.1%} of syllables restored" if result.quality else ""
    return f"{result.machine.processor}, {result.machine.cores} cores; {result.identity.model}{quality}"


def pairs_table(pairs: Pairs) -> str:
    rows = [["time of B / time of A", *(text for name in METRICS.values() for text in (name, ""))]]
    for name, estimates in (
        *((case.key, [pairs.ratio_of(case, metric) for metric in METRICS]) for case in pairs.cases),
        ("all", [pairs.ratio(metric) for metric in METRICS]),
    ):
        texts = [(f"{one.value:.3f}", f"({one.low:.3f} to {one.high:.3f})") for one in estimates]
        rows.append([name, *(text for pair in texts for text in pair)])
    sides = [f"{letter}: {_side(side)}" for letter, side in (("A", pairs.a), ("B", pairs.b))]
    found = [f"  - {finding.text}" for finding in pairs.findings]
    disturbed = ["", "disturbances, which affected both:", *found] if found else []
    rounds = f"{pairs.rounds} rounds in turns; 95 % intervals"
    return "\n".join([*sides, rounds, "", columns(rows), *_agreement_lines(pairs), *disturbed])


def _side(side: Side) -> str:
    if side.engine_sha256 is None:
        return f"{side.engine}, {side.source}, {side.model}"
    commit, library = side.commit or "unknown commit", side.engine_sha256[:12]
    return f"{side.engine}, {commit}, library {library}, {side.model}"


def _agreement_lines(pairs: Pairs) -> list[str]:
    if (one := pairs.agreement) is None:
        return []
    share_a, share_b = (right / max(one.syllables, 1) for right in (one.right_a, one.right_b))
    lines = ["", f"greedy answers: {one.same} of {one.answers} are equal"]
    lines.append(f"diacritics: A restores {share_a:.1%}, B {share_b:.1%} of {one.syllables} syllables")
    if pairs.a.model_sha256 != pairs.b.model_sha256 or pairs.a.model_sha256 is None:
        lines.append("NOT KNOWN TO BE THE SAME MODEL FILE: only with the same file the ratio compares speed")
    return lines


def history_table(entries: Sequence[Entry], last: int) -> str:
    if not entries:
        return "no runs yet"
    series = same_series(entries, entries[-1])[-max(last, 1) :]
    keys = [key for key in series[-1].cases if all(key in one.cases for one in series)][:3]
    rows = [["run", "commit", *(f"{key}: ms" for key in keys), ""]]
    rows += [
        [
            f"{one.started:%Y-%m-%d %H:%M}",
            (one.commit or "")[:10],
            *(f"{one.cases[key].end_to_end_s.p50 * 1e3:,.1f}" for key in keys),
            "disturbed" if one.disturbed else "",
        ]
        for one in series
    ]
    latest = series[-1]
    return f"{latest.processor}, {latest.cores} cores, {latest.isa}, {latest.model}\n\n{columns(rows)}"
