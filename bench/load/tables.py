"""Results as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from binhdan.bench.common.tables import columns, machine_line

if TYPE_CHECKING:
    from binhdan.bench.common.statistics import Spread
    from binhdan.bench.load.compare import Comparison, Result
    from binhdan.bench.load.generator import Load, Tail
    from binhdan.bench.load.overhead import Overhead
    from binhdan.bench.load.prefix import First, Prefix
    from binhdan.bench.load.soak import Soak
    from binhdan.bench.load.texts import Sizes


def load_table(load: Load) -> str:
    rows = [
        ["", "p50", "p95", "p99"],
        ["first token", *_tail(load.first_token_s)],
        ["from token to token", *_tail(load.per_token_s)],
        ["whole answer", *_tail(load.end_to_end_s)],
    ]
    head = (
        f"{load.plan}: {load.answers} answers in {load.seconds:.1f} s, {_sizes(load.sizes)}\n"
        f"{load.tokens_per_s:,.1f} tokens/s together, {load.requests_per_min:,.1f} requests/min"
    )
    return "\n".join([head, "", columns(rows), "", *_load_notes(load)])


def _load_notes(load: Load) -> list[str]:
    counts = [
        f"{count:,.0f} {name}"
        for count, name in (
            (load.prompt_tokens, "of the prompt"),
            (load.cached_tokens, "of it known"),
            (load.answer_tokens, "of the answer"),
        )
        if count is not None
    ]
    notes = [f"tokens: {', '.join(counts)}"] if counts else []
    notes.append(f"the client took {load.client_cpu_s / load.seconds:.1%} of a core")
    return notes + _faults(load)


def _faults(load: Load) -> list[str]:
    short = [f"{load.short_answers} answers are shorter than asked for"] if load.short_answers else []
    return short + [f"{count} failed: {why}" for why, count in load.failures.items()]


def comparison_table(comparison: Comparison) -> str:
    first = comparison.results[0].server
    head = (
        f"{comparison.model}: {_sizes(comparison.sizes)}\n"
        f"medians of {comparison.rounds} rounds (least to most); {first}'s figure over the other's"
    )
    table = [["load", "server", "tokens/s", "", "first token p95", "", "peak memory"]]
    table += [
        [
            str(result.plan),
            result.server,
            _spread(result.tokens_per_s, "{:,.1f}"),
            _spread(result.tokens_per_s_ratio, "{:.2f}"),
            _spread(result.first_token_p95_s, "{:,.3f} s"),
            _spread(result.first_token_p95_ratio, "{:.3f}"),
            f"{result.peak_rss_bytes / 1e6:,.0f} MB" if result.peak_rss_bytes else "",
        ]
        for result in comparison.results
    ]
    notes = [note for result in comparison.results for note in _result_notes(result)]
    notes += _prompt_notes(comparison.results)
    return "\n".join([machine_line(comparison.machine), "", head, "", columns(table), "", *notes]).rstrip()


def _result_notes(result: Result) -> list[str]:
    name = f"{result.server}, {result.plan}"
    notes = [f"{name}: failed: {result.failure}"] if result.failure is not None else []
    return notes + [f"{name}: {fault}" for load in result.loads for fault in _faults(load)]


def _prompt_notes(results: Sequence[Result]) -> list[str]:
    """Servers whose prompts differ by more than some markup do not do the same work."""
    told = [(one.plan, one.server, load.prompt_tokens) for one in results for load in one.loads[:1]]
    notes = []
    for plan in dict.fromkeys(one.plan for one in results):
        counts = {server: count for of, server, count in told if of == plan and count}
        if counts and max(counts.values()) > 1.02 * min(counts.values()):
            tokens = ", ".join(f"{server} {count:,.0f}" for server, count in counts.items())
            notes.append(f"{plan}: prompts do not have the same tokens everywhere: {tokens}")
    return notes


def overhead_table(result: Overhead) -> str:
    head = (
        f"{result.model}: answers of {result.answer_tokens} tokens, ms for each token\n"
        f"medians of {result.rounds} rounds (least to most); how much more than decoding in process"
    )
    table = [["together, by whose clock", "in process", "through the server", "", "client, cores"]]
    for batch in result.batches:
        engine = (batch.engine_in_process_s, batch.engine_served_s, batch.engine_overhead)
        wall = (batch.wall_in_process_s, batch.wall_served_s, batch.wall_overhead)
        for name, (inside, served, more) in {"engine": engine, "reader": wall}.items():
            figures = [_spread(_ms(inside), "{:.3f}"), _spread(_ms(served), "{:.3f}")]
            share = _spread(batch.client_cpu_share, "{:.3f}") if name == "reader" else ""
            table.append([f"{batch.sequences}, {name}", *figures, _spread(more, "{:+.1%}"), share])
    return "\n".join([machine_line(result.machine), "", head, "", columns(table)])


def prefix_table(result: Prefix) -> str:
    how = "killed" if result.killed else "ended"
    head = (
        f"{result.model}: first token after a prefix of {result.prefix_tokens:,} tokens\n"
        f"medians of {result.runs} prefixes (least to most)"
    )
    rows = [["prefix", "seconds", "of cold", "known tokens"]]
    firsts = {
        "cold": result.cold,
        "known": result.known,
        f"known, server {how} and restarted": result.restarted,
    }
    rows += [_first(name, first) for name, first in firsts.items()]
    return "\n".join([machine_line(result.machine), "", head, "", columns(rows)])


def _first(name: str, first: First) -> list[str]:
    seconds, share = _spread(first.seconds, "{:.4f}"), _spread(first.of_cold, "{:.3f}")
    return [name, seconds, share, f"{first.cached_tokens.median:,.0f}"]


def soak_table(result: Soak) -> str:
    how = "deterministic" if result.deterministic else "not deterministic"
    rows = [
        ("model", f"{result.model}, {how}"),
        (
            "requests",
            f"{sum(result.requests.values()):,} by {result.clients} clients in {result.seconds:.1f} s",
        ),
        ("", ", ".join(f"{count:,} {kind}" for kind, count in result.requests.items())),
        ("answers", f"{result.answers:,} whole, {sum(result.lost.values())} lost, {result.stuck} stuck"),
        ("unlike alone", f"{result.different} ({result.different / max(1, result.answers):.3%})"),
    ]
    if result.rss_bytes:
        moved = "" if result.rss_drift is None else f", moved by {result.rss_drift:+.1%} after warming up"
        rows.append(("memory", f"{result.rss_bytes[-1][1] / 1e6:,.0f} MB{moved}"))
    if result.descriptors is not None:
        rows.append(("descriptors", "{} before, {} after".format(*result.descriptors)))
    rows += [("problem", problem) for problem in result.problems]
    width = max(len(name) for name, _ in rows)
    return "\n".join(
        [machine_line(result.machine), "", *(f"{name:<{width}}  {value}" for name, value in rows)]
    )


def _sizes(sizes: Sizes) -> str:
    return f"system prompt of {sizes.system}, question of {sizes.question}, answer of {sizes.answer} tokens"


def _tail(tail: Tail | None) -> list[str]:
    if tail is None:
        return ["", "", ""]
    return [
        f"{value:,.3f} s" if value >= 1 else f"{value * 1e3:.2f} ms"
        for value in (tail.p50, tail.p95, tail.p99)
    ]


def _ms(spread: Spread) -> Spread:
    return type(spread)(spread.median * 1e3, spread.low * 1e3, spread.high * 1e3)


def _spread(spread: Spread | None, form: str) -> str:
    if spread is None:
        return ""
    middle, low, high = (form.format(value) for value in (spread.median, spread.low, spread.high))
    return f"{middle} ({low} to {high})"
