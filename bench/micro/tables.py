"""Results of the micro benchmarks as text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from binhdan.bench.common.tables import columns, named_values, spread_text

if TYPE_CHECKING:
    from binhdan.bench.micro.case import Case
    from binhdan.bench.micro.hot_paths import HotPath
    from binhdan.bench.micro.kernels import Figure
    from binhdan.bench.micro.peers import Comparison, Result
    from binhdan.bench.micro.profile import Pass, Profile
    from binhdan.bench.micro.speed import Speed


def speed_table(speed: Speed) -> str:
    bandwidth = (
        f"{speed.gb_per_s:.1f} GB/s, {speed.bandwidth_share:.0%} of the {speed.bandwidth_gb_per_s:.1f} GB/s "
        "of the memory"
    )
    if speed.bandwidth_share > 1:
        bandwidth += ": the weights fit into the processor's cache"
    rows = [
        ("model", speed.model),
        ("kernels, threads", f"{speed.isa}, {speed.threads}"),
        (f"prompt of {speed.prompt_tokens}", _rate(speed.prompt_tokens_per_s, speed.prompt_spread)),
        (f"decode of {speed.decode_tokens}", _rate(speed.decode_tokens_per_s, speed.decode_spread)),
        ("TTFT", f"{speed.ttft_ms:,.1f} ms"),
        ("decode reads", bandwidth),
        ("peak memory", f"{speed.peak_rss_bytes / 1e6:,.0f} MB"),
    ]
    return named_values(rows)


def _rate(rate: float, spread: tuple[float, float]) -> str:
    return f"{rate:,.1f} tokens/s ({spread[0]:,.1f} to {spread[1]:,.1f})"


def peers_table(comparison: Comparison) -> str:
    case, results = comparison.case, comparison.results
    head = (
        f"{case.model.name}: prompt of {case.prompt}, decode of {case.decode}{_conditions(case)}\n"
        f"tokens/s with {_threads(case)}, medians of {comparison.rounds} rounds (minimum to maximum); "
        f"ratio: how many times as fast {results[0].name} is"
    )
    table = [["engine", "prompt", "ratio", "decode", "ratio", "peak memory"]]
    table += [
        [
            result.name,
            spread_text(result.prompt, "{:,.1f}"),
            spread_text(result.prompt_ratio, "{:.2f}"),
            spread_text(result.decode, "{:,.1f}"),
            spread_text(result.decode_ratio, "{:.2f}"),
            f"{result.peak_rss_bytes / 1e6:,.0f} MB",
        ]
        for result in results
        if result.failure is None
    ]
    if comparison.decode_limit is not None:
        table.append(["memory limit", "", "", f"{comparison.decode_limit:,.1f}", "", ""])
    return "\n".join([head, "", columns(table), "", *map(_note, results)])


def _note(result: Result) -> str:
    if result.failure is not None:
        return f"{result.name}: failed: {result.failure}"
    parts = [part for part in (result.version, result.instruction_sets) if part]
    return f"{result.name}: {', '.join(parts) or 'unknown version and instruction sets'}"


def _threads(case: Case) -> str:
    return "1 thread" if case.threads == 1 else f"{case.threads} threads"


def _conditions(case: Case) -> str:
    depth = f" at depth {case.depth:,}" if case.depth else ""
    return depth + (f", {case.sequences} sequences together" if case.sequences > 1 else "")


def profile_table(profile: Profile) -> str:
    case, limits = profile.case, profile.limits
    head = (
        f"{case.model.name}, kernels {profile.isa}, {_threads(case)}, "
        f"keys and values {profile.kv_type}; limits: "
        f"{limits.gb_per_s:.1f} GB/s of memory, {limits.gops:,.0f} GOPS in registers"
    )
    depth = f" at depth {case.depth:,}" if case.depth else ""
    sequences = f" of {case.sequences} sequences" if case.sequences > 1 else ""
    parts = [head]
    if profile.prompt:
        parts.append(_pass_table(f"prompt of {case.prompt}{depth}", profile.prompt))
    if profile.decode:
        parts.append(_pass_table(f"one step{sequences}{depth}", profile.decode))
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
    return columns([*rows, ["total", f"{measured.ms:.3f}", "", "", "", ""]])


def kernels_table(figures: Sequence[Figure]) -> str:
    rows = [["kernel", "ms", "GB/s", "GOPS"]]
    rows += [
        [f"{one.isa} {one.type} {one.shape}", f"{one.ms:.3f}", f"{one.gb_per_s:.1f}", f"{one.gops:,.1f}"]
        for one in figures
    ]
    return columns(rows)


def hot_paths_table(paths: Sequence[HotPath]) -> str:
    rows = [["path", "best µs", "median µs", "times the old build", "", "work"]]
    for one in paths:
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}"
        mark = "SLOWER" if one.slower else ""
        best, middle = min(one.seconds) * 1e6, median(one.seconds) * 1e6
        kind = "" if one.gate else " (informational)"
        rows.append([one.name, f"{best:,.1f}", f"{middle:,.1f}", ratio, mark, one.unit + kind])
    filled = [i for i in range(6) if i < 3 or any(row[i] for row in rows[1:])]
    return columns([[row[i] for i in filled] for row in rows])
