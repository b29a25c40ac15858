"""Results as text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from binhdan.bench.common.machine import Machine
    from binhdan.bench.common.statistics import Spread
    from binhdan.bench.micro.hot_paths import HotPath
    from binhdan.bench.micro.kernels import Figure
    from binhdan.bench.micro.peers import Comparison, Result
    from binhdan.bench.micro.profile import Pass, Profile
    from binhdan.bench.micro.speed import Speed


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        for row in rows
    )
    return "\n".join("  ".join(line).rstrip() for line in lines)


def machine_line(machine: Machine) -> str:
    kernels = " ".join(machine.kernels)
    return f"{machine.processor}, {machine.cores} usable cores, {machine.system}; kernels: {kernels}"


def speed_table(speed: Speed) -> str:
    rows = [
        ("model", speed.model),
        ("kernels, threads", f"{speed.isa}, {speed.threads}"),
        (f"prompt of {speed.prompt_tokens}", _rate(speed.prompt_tokens_per_s, speed.prompt_spread)),
        (f"decode of {speed.decode_tokens}", _rate(speed.decode_tokens_per_s, speed.decode_spread)),
        ("first token", f"{speed.first_token_ms:,.1f} ms"),
        (
            "read in decode",
            f"{speed.gb_per_s:.1f} GB/s, {speed.bandwidth_share:.0%} of {speed.bandwidth_gb_per_s:.1f}",
        ),
        ("peak memory", f"{speed.peak_rss_bytes / 1e6:,.0f} MB"),
    ]
    if speed.bandwidth_share > 1:
        rows.append(("", "more than memory gives: the weights stay in the processor's cache"))
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def _rate(rate: float, spread: tuple[float, float]) -> str:
    return f"{rate:,.1f} tokens/s ({spread[0]:,.1f} to {spread[1]:,.1f})"


def peers_table(comparison: Comparison) -> str:
    workload, results = comparison.workload, comparison.results
    several = f", {workload.sequences} sequences together" if workload.sequences > 1 else ""
    after = f" after {workload.depth:,}" if workload.depth else ""
    head = (
        f"{workload.model.name}: prompt of {workload.prompt}, decode of {workload.decode}{after}{several}\n"
        f"tokens/s with {workload.threads} threads, medians of {comparison.rounds} rounds (least to most); "
        f"how many times as fast {results[0].name} is"
    )
    table = [["engine", "prompt", "", "decode", "", "peak memory"]]
    table += [
        [
            result.name,
            _spread(result.prompt),
            _ratio(result.prompt_ratio),
            _spread(result.decode),
            _ratio(result.decode_ratio),
            f"{result.peak_rss_bytes / 1e6:,.0f} MB",
        ]
        for result in results
        if result.failure is None
    ]
    if comparison.decode_limit is not None:
        table.append(["memory's limit", "", "", f"{comparison.decode_limit:,.1f}", "", ""])
    return "\n".join([head, "", columns(table), "", *map(_note, results)])


def _note(result: Result) -> str:
    if result.failure is not None:
        return f"{result.name}: failed: {result.failure}"
    parts = [part for part in (result.version, result.instruction_sets) if part]
    return f"{result.name}: {', '.join(parts) or 'tells neither version nor instruction sets'}"


def _spread(spread: Spread | None) -> str:
    return f"{spread.median:,.1f} ({spread.low:,.1f} to {spread.high:,.1f})" if spread else ""


def _ratio(spread: Spread | None) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})" if spread else ""


def profile_table(profile: Profile) -> str:
    workload, limits = profile.workload, profile.limits
    head = (
        f"{workload.model.name}, kernels {profile.isa}, {workload.threads} threads, "
        f"keys and values {profile.kv_type}; limits: "
        f"{limits.gb_per_s:.1f} GB/s of memory, {limits.gops:,.0f} GOPS in registers"
    )
    after = f" after {workload.depth:,}" if workload.depth else ""
    several = f" of {workload.sequences} sequences" if workload.sequences > 1 else ""
    parts = [head]
    if profile.prompt:
        parts.append(_pass_table(f"prompt of {workload.prompt}{after}", profile.prompt))
    if profile.decode:
        parts.append(_pass_table(f"one step{several}{after}", profile.decode))
    return "\n\n".join(parts)


def _pass_table(title: str, measured: Pass) -> str:
    rows = [[title, "ms", "of the time", "GB/s", "GOPS", "of the limit"]]
    rows += [
        [
            op.name,
            f"{op.ms:.3f}",
            f"{op.ms / measured.ms:.1%}",
            f"{op.gb_per_s:.1f}" if op.gb_per_s else "",
            f"{op.gops:,.0f}" if op.gops else "",
            f"{op.limit_share:.0%}" if op.limit_share else "",
        ]
        for op in measured.operations
    ]
    return columns([*rows, ["together", f"{measured.ms:.3f}", "", "", "", ""]])


def kernels_table(figures: Sequence[Figure]) -> str:
    rows = [["kernel", "ms", "GB/s", "GOPS"]]
    rows += [
        [f"{one.isa} {one.type} {one.shape}", f"{one.ms:.3f}", f"{one.gb_per_s:.1f}", f"{one.gops:,.1f}"]
        for one in figures
    ]
    return columns(rows)


def hot_paths_table(paths: Sequence[HotPath]) -> str:
    rows = [["path", "best µs", "median µs", "times the old build", "", "of what"]]
    for one in paths:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        mark = "SLOWER" if one.slower else ""
        best, middle = min(one.seconds) * 1e6, median(one.seconds) * 1e6
        kind = "" if one.gate else " (informs)"
        rows.append([one.name, f"{best:,.1f}", f"{middle:,.1f}", ratio, mark, one.unit + kind])
    shown = [place for place in range(6) if place < 3 or any(row[place] for row in rows[1:])]
    return columns([[row[place] for place in shown] for row in rows])
