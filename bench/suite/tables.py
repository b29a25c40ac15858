"""Results as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from binhdan.bench.micro.tables import columns
from binhdan.bench.suite.compare import Ranking
from binhdan.bench.suite.history import Entry, same_series
from binhdan.bench.suite.pairs import METRICS, Pairs, Side
from binhdan.bench.suite.result import Cell, Disturbance, Energy, Result, Tail


def result_table(result: Result) -> str:
    parts = [_banner(result.disturbance), _head(result), _cells(result.cells), _facts(result)]
    return "\n\n".join(part for part in parts if part)


def _banner(disturbance: Disturbance) -> str:
    if not disturbance.disturbed:
        return ""
    found = "\n".join(f"  - {finding.text}" for finding in disturbance.findings)
    return f"THE MACHINE WAS DISTURBED: do not publish these figures.\n{found}"


def _head(result: Result) -> str:
    machine, pins, protocol = result.machine, result.pins, result.protocol
    reading = ", ".join(f"{one.gb_per_s:.1f} GB/s with {one.threads}" for one in machine.bandwidth)
    peaks = ", ".join(f"{name} {gops:,.0f}" for name, gops in machine.peaks.items())
    cores = f"{machine.processor}, {machine.cores} usable cores, {machine.system}"
    warm_up = f"{protocol.warm_up_rounds} to warm up"
    lines = [
        f"{result.name}: {pins.model}",
        f"{cores}; memory {reading}; GOPS {peaks}",
        f"{protocol.rounds} rounds after {warm_up}, {protocol.seconds:.0f} s; medians",
    ]
    return "\n".join(lines)


def _cells(cells: Sequence[Cell]) -> str:
    times = ["first token ms", "p95", "p99", "ms a token", "answer ms", "p95", "p99", "tokens/s"]
    rows = [["workload", *times, "s / 1,000 characters", "đ / 1,000 answers", "J an answer"]]
    rows += [
        [
            cell.key,
            *_tail(cell.first_token_s),
            f"{cell.per_token_s.p50 * 1e3:.2f}" if cell.per_token_s else "",
            *_tail(cell.end_to_end_s),
            f"{cell.tokens_per_s:,.0f}",
            f"{cell.per_1000_characters.seconds:.2f}" if cell.per_1000_characters else "",
            _number(cell.per_answer.vnd if cell.per_answer else None, 1000),
            _number(cell.per_answer.joules if cell.per_answer else None, 1),
        ]
        for cell in cells
    ]
    # A column that nothing fills is left out: no meter, no joules.
    full = [place for place, name in enumerate(rows[0]) if any(row[place] for row in rows[1:]) or not place]
    return columns([[row[place] for place in full] for row in rows])


def _tail(tail: Tail | None) -> list[str]:
    return [f"{value * 1e3:,.1f}" for value in (tail.p50, tail.p95, tail.p99)] if tail else ["", "", ""]


def _number(value: float | None, times: float) -> str:
    return f"{value * times:,.2f}" if value is not None else ""


def _facts(result: Result) -> str:
    lines = []
    if start := result.cold_start:
        seconds = f"ready after {start.ready_s:.2f} s, first token after {start.first_token_s:.2f} s"
        lines.append(f"fresh process: {seconds}, {start.peak_rss_bytes / 1e6:,.0f} MB at most")
    if right := result.quality:
        lines.append(f"marks restored: {right.share:.1%} of {right.syllables} syllables")
    lines.append(_energy(result.energy))
    if result.cost:
        lines.append(f"cost: {result.cost.basis}")
    if result.left_out:
        names = [f"{one.workload}, {one.arrival.label}, {one.prefix}" for one in result.left_out]
        lines.append(f"left out for {result.left_out[0].reason}: {len(names)} cells ({'; '.join(names)})")
    if share := result.protocol.measuring_share:
        lines.append(f"measuring took {share:.2%} of the processor time")
    if failures := sum(cell.failures for cell in result.cells):
        lines.append(f"FAILED: {failures} answers, which count nowhere")
    return "\n".join(lines)


def _energy(energy: Energy | None) -> str:
    if energy is None:
        return "energy: no meter, and no --watts declared: not known"
    parts = [
        f"{phase.per_token * 1e3:,.2f} mJ a {name}"
        for name, phase in (("prompt token", energy.prompt), ("decoded token", energy.decode))
        if phase
    ]
    source = energy.source if energy.measured else f"{energy.source}, not measured"
    return f"energy, gross: {', '.join(parts)}; {source}"


def ranking_table(ranking: Ranking) -> str:
    head = ["", "", "answer ms", "times the first", "first token ms", "tokens/s", "đ / 1,000 answers"]
    head.append("J an answer")
    rows = [head]
    for one in ranking.ranked:
        ratio = f"{one.ratio.value:.2f} ({one.ratio.low:.2f} to {one.ratio.high:.2f})"
        rows.append(
            [
                f"{one.rank}. {one.result.name}",
                "disturbed" if one.result.disturbance.disturbed else "",
                f"{one.answer_s * 1e3:,.1f}",
                "1" if one.ratio.low == one.ratio.high == 1 else ratio,
                f"{one.first_token_s * 1e3:,.1f}",
                f"{one.tokens_per_s:,.0f}",
                _number(one.vnd_per_1000, 1),
                _number(one.joules, 1),
            ]
        )
    full = [place for place in range(len(head)) if not place or any(row[place] for row in rows[1:])]
    table = columns([[row[place] for place in full] for row in rows])
    machines = [f"{one.result.name}: {_of(one.result)}" for one in ranking.ranked]
    models = {one.result.pins.model_sha256 for one in ranking.ranked}
    note = ["different model files: compare the quality of their answers too"] if len(models) > 1 else []
    over = (
        f"geometric means over {len(ranking.cells)} cells that all have; equal ranks: the order is not sure"
    )
    return "\n".join([over, "", table, "", *machines, *note])


def _of(result: Result) -> str:
    quality = f", {result.quality.share:.1%} of marks restored" if result.quality else ""
    return f"{result.machine.processor}, {result.machine.cores} cores; {result.pins.model}{quality}"


def pairs_table(pairs: Pairs) -> str:
    rows = [["times of B over A", "answer", "", "first token", ""]]
    for name, estimates in (
        *((cell.key, [pairs.of_cell(cell, metric) for metric in METRICS]) for cell in pairs.cells),
        ("all", [pairs.ratio(metric) for metric in METRICS]),
    ):
        cells = [(f"{one.value:.3f}", f"({one.low:.3f} to {one.high:.3f})") for one in estimates]
        rows.append([name, *cells[0], *cells[1]])
    who = [f"{letter}: {_side(side)}" for letter, side in (("A", pairs.a), ("B", pairs.b))]
    found = [f"  - {finding.text}" for finding in pairs.findings]
    disturbed = ["", "meanwhile, with both:", *found] if found else []
    what = f"{pairs.rounds} rounds in turns; intervals of 95 %"
    return "\n".join([*who, what, "", columns(rows), *_agreement_lines(pairs), *disturbed])


def _side(side: Side) -> str:
    build = [side.commit or "no commit", f"library {side.engine_sha256[:12]}"] if side.engine_sha256 else []
    return ", ".join([side.engine, *(build or [side.source]), side.model])


def _agreement_lines(pairs: Pairs) -> list[str]:
    if (one := pairs.agreement) is None:
        return []
    share_a, share_b = (right / max(one.syllables, 1) for right in (one.right_a, one.right_b))
    lines = ["", f"greedy answers: {one.same} of {one.answers} the same"]
    lines.append(f"marks restored: A {share_a:.1%}, B {share_b:.1%} of {one.syllables} syllables")
    if pairs.a.model_sha256 != pairs.b.model_sha256 or pairs.a.model_sha256 is None:
        lines.append("NOT KNOWN TO BE THE SAME MODEL FILE: the ratio tells of speed only if it is")
    return lines


def history_table(entries: Sequence[Entry], last: int) -> str:
    if not entries:
        return "no runs yet"
    series = same_series(entries, entries[-1])[-max(last, 1) :]
    keys = [key for key in series[-1].cells if all(key in one.cells for one in series)][:3]
    rows = [["run", "commit", *(f"{key}: ms" for key in keys), ""]]
    rows += [
        [
            f"{one.started:%Y-%m-%d %H:%M}",
            (one.commit or "")[:10],
            *(f"{one.cells[key].end_to_end_s.p50 * 1e3:,.1f}" for key in keys),
            "disturbed" if one.disturbed else "",
        ]
        for one in series
    ]
    latest = series[-1]
    return f"{latest.processor}, {latest.cores} cores, {latest.isa}, {latest.model}\n\n{columns(rows)}"
