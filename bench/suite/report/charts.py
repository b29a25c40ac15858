"""The charts of the page."""

from __future__ import annotations

from collections.abc import Sequence

from binhdan.bench.common.statistics import percentile
from binhdan.bench.suite.report.svg import Chart, decades, plot, rows, short
from binhdan.bench.suite.result import CaseResult, Cost, DepthPoint, ForwardPass, Probe

_ROW = 34.0


def latency(cases: Sequence[CaseResult], read: str, name: str) -> str:
    """For each case: a band from p5 to p95, a box from p25 to p75, marks at the median and p99."""
    samples = [[value * 1e3 for one in case.trials for value in getattr(one, read)] for case in cases]
    known = [(case, values) for case, values in zip(cases, samples, strict=True) if values]
    if not known:
        return ""
    shares = [
        [percentile(values, share) for share in (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)] for _, values in known
    ]
    low, high = decades([max(value, 1e-3) for row in shares for value in (row[0], row[5])])
    chart = rows(f"{name} by case", (low, high), len(known), x_label="ms", log_x=True)
    for index, ((case, _), row) in enumerate(zip(known, shares, strict=True)):
        top = 10 + index * _ROW
        style = "warm" if case.prefix == "warm" else "cold"
        text = f"{case.arrival.label}, {case.prefix}"
        words = f"median {row[2]:,.1f} ms, p95 {row[4]:,.1f} ms, p99 {row[5]:,.1f} ms"
        chart.text(8, top + 11, text, style="name")
        chart.text(348, top + 11, f"{row[2]:,.1f}", "end", "value")
        chart.bar(row[0], row[4], top + 18, 8, f"band {style}", words)
        chart.bar(row[1], row[3], top + 18, 8, f"box {style}", words)
        chart.tick(row[2], top + 15, 14, "median")
        chart.tick(row[5], top + 18, 8, f"end {style}")
    return chart.svg()


def roofline(probe: Probe, passes: Sequence[ForwardPass]) -> str:
    """Speed over operations per byte from memory. The roofs are the bandwidth and the peaks."""
    bandwidth = max((one.gb_per_s for one in probe.bandwidth), default=0.0)
    points = [
        (one.giga_operations / one.gigabytes, one.giga_operations / one.seconds, one.name)
        for one in passes
        if one.gigabytes and one.seconds
    ]
    if not points or not bandwidth or not probe.peaks:
        return ""
    roof = max(probe.peaks.values())
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
    for name, peak in probe.peaks.items():
        chart.line([(peak / bandwidth, peak), (xs[1], peak)], "roof")
        chart.text(346, chart.y(peak) - 4, f"{name} {short(peak)}", "end", "value")
    for place, (x, y, name) in enumerate(points):
        chart.dots([(x, y)], f"series{place % 4}", [f"{name}: {y:,.0f} GOPS at {x:,.1f} operations per byte"])
    return chart.svg()


def speed_by_depth(points: Sequence[DepthPoint]) -> tuple[str, str]:
    """Prefill and decode speed by depth. Two charts: prefill is many times as fast."""
    if not points:
        return "", ""
    max_depth = max(points[-1].depth, 1)
    prompt = plot(
        "Prefill speed by depth",
        (0, max_depth),
        (0, 1.08 * max(one.prompt_tokens_per_s for one in points)),
        x_label="tokens before",
        y_label="prompt tokens/s",
    )
    _curve(prompt, [(one.depth, one.prompt_tokens_per_s) for one in points], "series0")
    decode = plot(
        "Decode speed by depth",
        (0, max_depth),
        (0, 1.08 * max(max(one.decode_tokens_per_s, one.decode_limit) for one in points)),
        x_label="tokens before",
        y_label="decode tokens/s; dashed: memory limit",
    )
    decode.line([(one.depth, one.decode_limit) for one in points], "roof")
    _curve(decode, [(one.depth, one.decode_tokens_per_s) for one in points], "series1")
    return prompt.svg(), decode.svg()


def cost(facts: Cost, keys: Sequence[str]) -> str:
    """Đồng for 1,000 answers of each case, split into hardware, electricity and so on."""
    known = [(key, facts.parts[key]) for key in keys if key in facts.parts]
    highest = max((sum(parts.values()) for _, parts in known), default=0.0)
    if not highest:
        return ""
    chart = rows("Cost of 1,000 answers", (0, 1.02 * highest), len(known), x_label="đ", log_x=False)
    names = part_names(facts)
    for row, (key, parts) in enumerate(known):
        top, at = 10 + row * _ROW, 0.0
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
