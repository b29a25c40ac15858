"""The HTML page of ``--report``: where the bytes are, and what was lost. It needs no other file."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from binhdan.quantize.convert import Summary
from binhdan.quantize.draft import Draft
from binhdan.quantize.evaluate.evaluation import Comparison
from binhdan.quantize.evaluate.intervals import Interval
from binhdan.quantize.output_file import partial_file
from binhdan.quantize.tensor_types import tensor_bytes

_LAYER: Final = re.compile(r"blk\.(\d+)\.(.*?)(?:\.weight)?")
_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
.map { overflow-x: auto } .map td, .map th { padding: .1rem .3rem; font-size: 11px; text-align: center }
.map th:first-child { text-align: left; white-space: nowrap }
svg { max-width: 100% } text { font: 12px system-ui, sans-serif; fill: currentColor }
"""


@dataclass(frozen=True)
class Facts:
    """What a report shows. Losses are KL divergences in nats per token."""

    draft: Draft
    summary: Summary
    title: str  # how the types were chosen
    types: Mapping[str, str]
    losses: Mapping[str, float]  # tensor → predicted loss, of the tensors that were measured
    measured: Comparison
    checked: Comparison
    curve: Sequence[tuple[int, float]] = ()  # (bytes of the file, predicted loss) of other sizes


def write_report(path: Path, facts: Facts) -> None:
    """The write is atomic. Raises OSError."""
    page = make_report(facts).encode()
    with partial_file(path, len(page)) as (file, _):
        file.write(page)


def make_report(facts: Facts) -> str:
    summary = facts.summary
    name = Path(summary.output).name
    bits = 8 * summary.bytes / summary.parameters
    head = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(name)}: types and losses</title><style>{_STYLE}</style></head><body>
<h1>{escape(name)}</h1>
<p>{escape(facts.draft.text("general.name") or summary.architecture)}, {summary.parameters:,} parameters,
{summary.bytes:,} bytes ({bits:.2f} bits per weight). Types: {escape(facts.title)}.</p>
"""
    return head + "".join(
        (_losses(facts), _curve(facts), _by_type(facts), _map(facts), _tensors(facts), "</body></html>\n")
    )


# ---- parts -------------------------------------------------------------------------------------------------


def _losses(facts: Facts) -> str:
    predicted = sum(facts.losses.values())
    rows = [
        ["predicted, calibration text", f"{predicted:.4f}", ""],
        ["measured, calibration text", _interval(facts.measured.kl_mean), _percent(facts.measured.same_top)],
        ["measured, evaluation text", _interval(facts.checked.kl_mean), _percent(facts.checked.same_top)],
    ]
    return "<h2>Loss</h2>" + _table(["", "KL divergence, nats per token", "same most probable token"], rows)


def _by_type(facts: Facts) -> str:
    sizes: dict[str, list[float]] = {}
    for tensor in facts.draft.tensors:
        type_name = facts.types[tensor.name]
        row = sizes.setdefault(type_name, [0, 0, 0, 0])
        row[0] += 1
        row[1] += tensor.rows * tensor.columns
        row[2] += tensor_bytes(type_name, tensor.shape)
        row[3] += facts.losses.get(tensor.name, 0.0)
    total = sum(row[2] for row in sizes.values())
    rows = [
        [type_name, f"{n:,}", f"{w:,}", f"{size:,}", f"{100 * size / total:.1f} %", f"{loss:.4f}"]
        for type_name, (n, w, size, loss) in sorted(sizes.items(), key=lambda item: -item[1][2])
    ]
    columns = ["type", "tensors", "weights", "bytes", "share", "predicted loss"]
    return "<h2>Types</h2>" + _table(columns, rows)


def _map(facts: Facts) -> str:
    """A table of roles and layers with the type of each matrix, darker with more bits."""
    cells: dict[str, dict[int, str]] = {}
    for tensor in facts.draft.tensors:
        match = _LAYER.fullmatch(tensor.name)
        if match and tensor.name in facts.losses:
            cells.setdefault(match[2], {})[int(match[1])] = tensor.name
    if not cells:
        return ""
    layers = sorted({layer for row in cells.values() for layer in row})
    sizes = {tensor.name: tensor for tensor in facts.draft.tensors}

    def cell(name: str | None) -> str:
        if name is None:
            return "<td></td>"
        type_name, tensor = facts.types[name], sizes[name]
        bits = 8 * tensor_bytes(type_name, tensor.shape) / (tensor.rows * tensor.columns)
        shade = min(max((bits - 2) / 7, 0), 1)
        tip = f"{name}: {type_name}, {bits:.2f} bits, predicted loss {facts.losses[name]:.2e}"
        color = f"background: hsl(210 70% 50% / {0.1 + 0.7 * shade:.2f})"
        return f'<td style="{color}" title="{escape(tip)}">{escape(type_name)}</td>'

    head = "<tr><th>layer</th>" + "".join(f"<th>{layer}</th>" for layer in layers) + "</tr>"
    body = "".join(
        f"<tr><th>{escape(role)}</th>" + "".join(cell(row.get(layer)) for layer in layers) + "</tr>"
        for role, row in cells.items()
    )
    return f'<h2>Types of the layers</h2><div class="map"><table>{head}{body}</table></div>'


def _tensors(facts: Facts) -> str:
    rows = []
    for tensor in facts.draft.tensors:
        type_name = facts.types[tensor.name]
        size = tensor_bytes(type_name, tensor.shape)
        loss = facts.losses.get(tensor.name)
        shown = "" if loss is None else f"{loss:.2e}"
        shape = " × ".join(map(str, tensor.shape))
        rows.append([tensor.name, type_name, shape, f"{size:,}", shown])
    columns = ["tensor", "type", "shape", "bytes", "predicted loss"]
    return f"<h2>Tensors</h2><details><summary>{len(rows)}</summary>{_table(columns, rows)}</details>"


def _curve(facts: Facts) -> str:
    """The predicted loss at other sizes, and this file."""
    points = [(size, loss) for size, loss in facts.curve if loss > 0]
    here = (facts.summary.bytes, facts.measured.kl_mean.value)
    if not points or here[1] <= 0:
        return ""
    width, height, left, bottom = 640, 300, 60, 40
    sizes = [size for size, _ in (*points, here)]
    logs = [math.log10(loss) for _, loss in (*points, here)]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    first, last = min(sizes), max(sizes)

    def place(size: float, loss: float) -> tuple[float, float]:
        x = left + (size - first) / max(last - first, 1) * (width - left - 20)
        y = 10 + (high - math.log10(loss)) / max(high - low, 1) * (height - bottom - 10)
        return round(x, 1), round(y, 1)

    line = " ".join(f"{x},{y}" for x, y in (place(*point) for point in points))
    parts = [f'<polyline points="{line}" fill="none" stroke="#36c" stroke-width="2"/>']
    for power in range(low, high + 1):
        y = place(first, 10**power)[1]
        parts.append(f'<line x1="{left}" x2="{width - 20}" y1="{y}" y2="{y}" stroke="#8884"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>')
    for i in range(5):
        size = first + (last - first) * i / 4
        x = place(size, 10**low)[0]
        parts.append(
            f'<text x="{x}" y="{height - bottom + 18}" text-anchor="middle">{size / 1e6:,.1f} MB</text>'
        )
    x, y = place(*here)
    parts.append(f'<circle cx="{x}" cy="{y}" r="5" fill="#c33"/>')
    return (
        "<h2>Size and loss</h2><p>Line: the predicted loss of a fit at other sizes. Point: this file,"
        f' measured on the calibration text.</p><svg viewBox="0 0 {width} {height}" width="{width}"'
        f' role="img" aria-label="predicted loss against size">{"".join(parts)}</svg>'
    )


# ---- helpers -----------------------------------------------------------------------------------------------


def _table(columns: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _interval(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:.4f}"
    return f"{value.value:.4f} ({value.low:.4f} to {value.high:.4f})"


def _percent(value: Interval) -> str:
    return f"{100 * value.value:.1f} %"
