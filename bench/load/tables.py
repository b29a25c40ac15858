"""Results of load measurements as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from binhdan.bench.common.statistics import Spread
from binhdan.bench.common.tables import columns, machine_line, named_values, spread_text

if TYPE_CHECKING:
    from binhdan.bench.common.statistics import Percentiles
    from binhdan.bench.load.compare import Comparison, Result
    from binhdan.bench.load.generator import Load
    from binhdan.bench.load.prefix_reuse import PrefixReuse, Ttft
    from binhdan.bench.load.prompts import Sizes
    from binhdan.bench.load.server_overhead import Overhead
    from binhdan.bench.load.soak import Soak


def load_table(load: Load) -> str:
    rows = [
        ["", "p50", "p95", "p99"],
        ["TTFT", *_percentiles(load.ttft_s)],
        ["TPOT", *_percentiles(load.tpot_s)],
        ["complete answer", *_percentiles(load.end_to_end_s)],
    ]
    head = (
        f"{load.arrivals}: {load.answers} answers in {load.seconds:.1f} s, {_sizes(load.sizes)}\n"
        f"{load.tokens_per_s:,.1f} tokens/s together, {load.requests_per_min:,.1f} requests/min"
    )
    return "\n".join([head, "", columns(rows), "", *_load_notes(load)])


def _load_notes(load: Load) -> list[str]:
    counts = [
        f"{count:,.0f} {name}"
        for count, name in (
            (load.prompt_tokens, "in the prompt"),
            (load.cached_tokens, "of these cached"),
            (load.answer_tokens, "in the answer"),
        )
        if count is not None
    ]
    notes = [f"tokens: {', '.join(counts)}"] if counts else []
    notes.append(f"the client used {load.client_cpu_s / load.seconds:.1%} of a core")
    return notes + _failures(load)


def _failures(load: Load) -> list[str]:
    short = [f"{load.short_answers} answers are shorter than requested"] if load.short_answers else []
    return short + [f"{count} failed: {why}" for why, count in load.failures.items()]


def comparison_table(comparison: Comparison) -> str:
    first = comparison.results[0].server
    head = (
        f"{comparison.model}: {_sizes(comparison.sizes)}\n"
        f"medians of {comparison.rounds} rounds (smallest to largest); "
        f"ratio: {first}'s figure divided by the other's"
    )
    table = [["load", "server", "tokens/s", "ratio", "TTFT p95", "ratio", "peak memory"]]
    table += [
        [
            str(result.arrivals),
            result.server,
            spread_text(result.tokens_per_s, "{:,.1f}"),
            spread_text(result.tokens_per_s_ratio, "{:.2f}"),
            spread_text(result.ttft_p95_s, "{:,.3f} s"),
            spread_text(result.ttft_p95_ratio, "{:.3f}"),
            f"{result.peak_rss_bytes / 1e6:,.0f} MB" if result.peak_rss_bytes else "",
        ]
        for result in comparison.results
    ]
    notes = [note for result in comparison.results for note in _result_notes(result)]
    notes += _prompt_notes(comparison.results)
    return "\n".join([machine_line(comparison.machine), "", head, "", columns(table), "", *notes]).rstrip()


def _result_notes(result: Result) -> list[str]:
    name = f"{result.server}, {result.arrivals}"
    notes = [f"{name}: failed: {result.failure}"] if result.failure is not None else []
    return notes + [f"{name}: {failure}" for load in result.loads for failure in _failures(load)]


def _prompt_notes(results: Sequence[Result]) -> list[str]:
    """Notes on prompts whose numbers of tokens differ between servers by more than some markup: the servers
    do not do the same work."""
    reported = [(one.arrivals, one.server, load.prompt_tokens) for one in results for load in one.loads[:1]]
    notes = []
    for arrivals in dict.fromkeys(one.arrivals for one in results):
        counts = {server: count for of, server, count in reported if of == arrivals and count}
        if counts and max(counts.values()) > 1.02 * min(counts.values()):
            tokens = ", ".join(f"{server} {count:,.0f}" for server, count in counts.items())
            notes.append(f"{arrivals}: the tokens per prompt differ between servers: {tokens}")
    return notes


def overhead_table(result: Overhead) -> str:
    head = (
        f"{result.model}: answers of {result.answer_tokens} tokens, ms per token\n"
        f"medians of {result.rounds} rounds (smallest to largest); "
        "overhead: increase over decoding in process"
    )
    table = [["concurrent answers, clock", "in process", "through the server", "overhead", "client, cores"]]
    for batch in result.batches:
        engine = (batch.engine_in_process_s, batch.engine_served_s, batch.engine_overhead)
        wall = (batch.wall_in_process_s, batch.wall_served_s, batch.wall_overhead)
        for name, (in_process, served, overhead) in {"engine": engine, "client": wall}.items():
            figures = [spread_text(_ms(in_process), "{:.3f}"), spread_text(_ms(served), "{:.3f}")]
            share = spread_text(batch.client_cpu_share, "{:.3f}") if name == "client" else ""
            table.append([f"{batch.sequences}, {name}", *figures, spread_text(overhead, "{:+.1%}"), share])
    return "\n".join([machine_line(result.machine), "", head, "", columns(table)])


def prefix_reuse_table(result: PrefixReuse) -> str:
    how = "killed" if result.killed else "ended"
    head = (
        f"{result.model}: TTFT after a prefix of {result.prefix_tokens:,} tokens\n"
        f"medians of {result.runs} prefixes (smallest to largest)"
    )
    rows = [["prefix", "TTFT, s", "share of cold", "cached tokens"]]
    ttfts = {
        "cold": result.cold,
        "cached": result.cached,
        f"cached, server {how} and restarted": result.restarted,
    }
    rows += [_ttft_row(name, ttft) for name, ttft in ttfts.items()]
    return "\n".join([machine_line(result.machine), "", head, "", columns(rows)])


def _ttft_row(name: str, ttft: Ttft) -> list[str]:
    seconds, share = spread_text(ttft.seconds, "{:.4f}"), spread_text(ttft.of_cold, "{:.3f}")
    return [name, seconds, share, f"{ttft.cached_tokens.median:,.0f}"]


def soak_table(result: Soak) -> str:
    how = "deterministic" if result.deterministic else "not deterministic"
    rows = [
        ("model", f"{result.model}, {how}"),
        (
            "requests",
            f"{sum(result.requests.values()):,} by {result.clients} clients in {result.seconds:.1f} s",
        ),
        ("", ", ".join(f"{count:,} {kind}" for kind, count in result.requests.items())),
        ("answers", f"{result.answers:,} complete, {sum(result.lost.values())} lost, {result.stuck} stuck"),
        ("different from alone", f"{result.different} ({result.different / max(1, result.answers):.3%})"),
    ]
    if result.rss_bytes:
        drift = "" if result.rss_drift is None else f", changed by {result.rss_drift:+.1%} after the warm-up"
        rows.append(("memory", f"{result.rss_bytes[-1][1] / 1e6:,.0f} MB{drift}"))
    if result.descriptors is not None:
        rows.append(("file descriptors", "{} before, {} after".format(*result.descriptors)))
    rows += [("problem", problem) for problem in result.problems]
    return "\n".join([machine_line(result.machine), "", named_values(rows)])


def _sizes(sizes: Sizes) -> str:
    return f"system prompt of {sizes.system}, question of {sizes.question}, answer of {sizes.answer} tokens"


def _percentiles(times: Percentiles | None) -> list[str]:
    if times is None:
        return ["", "", ""]
    return [
        f"{value:,.3f} s" if value >= 1 else f"{value * 1e3:.2f} ms"
        for value in (times.p50, times.p95, times.p99)
    ]


def _ms(spread: Spread) -> Spread:
    return Spread(spread.median * 1e3, spread.low * 1e3, spread.high * 1e3)
