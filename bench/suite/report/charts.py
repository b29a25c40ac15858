"""What the page draws."""

from __future__ import annotations

from collections.abc import Sequence

from binhdan.bench.common.statistics import percentile
from binhdan.bench.suite.report.svg import Chart, decades, plot, rows, short
from binhdan.bench.suite.result import Cell, ContextPoint, Cost, Machine, Work

_ROW = 34.0


def latency(cells: Sequence[Cell], read: str, name: str) -> str:
    """Of each cell a band from the 5th to the 95th percentile, a mark at the median and one at the 99th."""
    samples = [[value * 1e3 for one in cell.rounds for value in getattr(one, read)] for cell in cells]
    known = [(cell, values) for cell, values in zip(cells, samples, strict=True) if values]
    if not known:
        return ""
    shares = [
        [percentile(values, share) for share in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)] for _, values in known
    ]
    low, high = decades([max(value, 1e-3) for row in shares for value in (row[0], row[5])])
    chart = rows(f"{name} by cell", (low, high), len(known), x_label="ms", log_x=True)
    for place, ((cell, _), row) in enumerate(zip(known, shares, strict=True)):
        top = 10 + place * _ROW
        style = "warm" if cell.prefix == "warm" else "cold"
        text = f"{cell.arrival.label}, {cell.prefix}"
        words = f"median {row[2]:,.1f} ms, 95 % within {row[4]:,.1f} ms, 99 % within {row[5]:,.1f} ms"
        chart.text(8, top + 11, text, style="name")
        chart.text(348, top + 11, f"{row[2]:,.1f}", "end", "value")
        chart.bar(row[0], row[4], top + 18, 8, f"band {style}", words)
        chart.bar(row[1], row[3], top + 18, 8, f"box {style}", words)
        chart.tick(row[2], top + 15, 14, "median")
        chart.tick(row[5], top + 18, 8, f"end {style}")
    return chart.svg()


def roofline(machine: Machine, work: Sequence[Work]) -> str:
    """Speed over operations per byte: no point can lie above the roofs."""
    bandwidth = max((one.gb_per_s for one in machine.bandwidth), default=0.0)
    points = [
        (one.giga_operations / one.gigabytes, one.giga_operations / one.seconds, one.name)
        for one in work
        if one.gigabytes and one.seconds
    ]
    if not points or not bandwidth or not machine.peaks:
        return ""
    roof = max(machine.peaks.values())
    xs = decades([*(x for x, _, _ in points), roof / bandwidth, 1.0])
    ys = decades([*(y for _, y, _ in points), roof, min(xs[0] * bandwidth, roof)])
    chart = plot(
        "Roofline",
        xs,
        (ys[0], ys[1] * 1.5),
        x_label="operations per byte from memory",
        y_label="GOPS",
        height=280,
        log_x=True,
        log_y=True,
    )
    chart.line([(xs[0], xs[0] * bandwidth), (roof / bandwidth, roof)], "roof")
    for name, peak in machine.peaks.items():
        chart.line([(peak / bandwidth, peak), (xs[1], peak)], "roof")
        chart.text(346, chart.y(peak) - 4, f"{name} {short(peak)}", "end", "value")
    for place, (x, y, name) in enumerate(points):
        chart.dots([(x, y)], f"series{place % 4}", [f"{name}: {y:,.0f} GOPS at {x:,.1f} operations per byte"])
    return chart.svg()


def context(points: Sequence[ContextPoint]) -> tuple[str, str]:
    """Prompt and decode speed after so many tokens; two charts, since one is many times the other."""
    if not points:
        return "", ""
    most = max(points[-1].depth, 1)
    prompt = plot(
        "Prompt speed over the context",
        (0, most),
        (0, 1.08 * max(one.prompt_tokens_per_s for one in points)),
        x_label="tokens before",
        y_label="prompt tokens/s",
    )
    _curve(prompt, [(one.depth, one.prompt_tokens_per_s) for one in points], "series0")
    decode = plot(
        "Decode speed over the context",
        (0, most),
        (0, 1.08 * max(max(one.decode_tokens_per_s, one.decode_limit) for one in points)),
        x_label="tokens before",
        y_label="decoded tokens/s; the memory's limit is dashed",
    )
    decode.line([(one.depth, one.decode_limit) for one in points], "roof")
    _curve(decode, [(one.depth, one.decode_tokens_per_s) for one in points], "series1")
    return prompt.svg(), decode.svg()


def cost(facts: Cost, cells: Sequence[str]) -> str:
    """đồng of 1,000 answers, by what they pay for."""
    known = [(key, facts.parts[key]) for key in cells if key in facts.parts]
    most = max((sum(parts.values()) for _, parts in known), default=0.0)
    if not most:
        return ""
    chart = rows("Cost of 1,000 answers", (0, 1.02 * most), len(known), x_label="đ", log_x=False)
    names = part_names(facts)
    for place, (key, parts) in enumerate(known):
        top, at = 10 + place * _ROW, 0.0
        chart.text(8, top + 11, key, style="name")
        chart.text(348, top + 11, f"{sum(parts.values()):,.1f} đ", "end", "value")
        for index, name in enumerate(names):
            if vnd := parts.get(name, 0.0):
                chart.bar(at, at + vnd, top + 17, 10, f"fill series{index % 6}", f"{name}: {vnd:,.2f} đ")
                at += vnd
    return chart.svg()


def part_names(facts: Cost) -> list[str]:
    return list(dict.fromkeys(name for parts in facts.parts.values() for name in parts))


def _curve(chart: Chart, points: Sequence[tuple[float, float]], style: str) -> None:
    chart.line(points, style)
    chart.dots(points, style, [f"{y:,.0f} tokens/s after {x:,.0f}" for x, y in points])
