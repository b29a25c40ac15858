"""Writes the tables and the plot of docs/quantization.md from bench/results/quantization.json.

    python -m binhdan.bench.suite.quantization_page --write     # from the root of the repository
    python -m binhdan.bench.suite.quantization_page --check     # fails when the page differs from the file

`tests/measure_quantization.py` measures quantization.json. The command replaces the lines between
`<!-- quantization: PART -->` and `<!-- end quantization -->`, and docs/quantization.svg.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from typing import Final, Literal

from binhdan.bench.common.files import write_whole
from binhdan.bench.common.results import FOLDER, Measured, Number, Record, load_as
from binhdan.bench.suite.performance_page.tables import markdown, number
from binhdan.bench.suite.report.svg import WIDTH, Chart, decades, plot
from binhdan.runtime.errors import BadFormatError, BinhdanError

FILE: Final = "quantization.json"  # in bench/results/
PAGE: Final = "docs/quantization.md"
PLOT: Final = "docs/quantization.svg"
COMMAND: Final = "python -m binhdan.bench.suite.quantization_page --write"
THEIRS: Final = "llama.cpp"
DASH: Final = "–"

_BLOCK: Final = re.compile(
    r"(?P<open><!-- quantization: (?P<part>\w+) -->\n)(?P<body>.*?)(?P<close><!-- end quantization -->)",
    re.DOTALL,
)
_COLORS: Final = ("#0072b2", "#009e73", "#cc79a7", "#d55e00")  # of the makers; theirs is the last
_HEIGHT: Final = 260.0


class Reference(Record):
    """A model before it is quantized."""

    model: str
    license: str
    parameters: int
    type: str
    bytes: int
    bits_per_byte: Number
    restored: Number | None  # part of the syllables
    tokens: int  # that the loss is measured on
    text_bytes: int


class Row(Record):
    """A file. KL divergences are in nats, from the reference."""

    model: str
    recipe: str
    maker: str
    bytes: int
    kl: Number
    kl_low: Number  # the 95 % interval
    kl_high: Number
    same_top: Number
    bits_per_byte: Number
    restored: Number | None
    decode: Number | None = None  # speed, relative to that of the reference


class Quantization(Measured):
    """quantization.json."""

    kind: Literal["quantization"]
    models: list[Reference]
    rows: list[Row]

    def of(self, model: str) -> list[Row]:
        """The rows of a model, large files first."""
        return sorted((row for row in self.rows if row.model == model), key=lambda row: -row.bytes)

    def theirs(self, row: Row) -> Row | None:
        """llama.cpp's file of the same recipe and size; a fit may be smaller."""
        same = [
            one
            for one in self.of(row.model)
            if one.maker == THEIRS and one.recipe == row.recipe and row.bytes < 1.001 * one.bytes
        ]
        return same[0] if same and row.maker != THEIRS else None


def makers(rows: Sequence[Row]) -> list[str]:
    """Ours in the order of the file, then llama.cpp."""
    return sorted(dict.fromkeys(row.maker for row in rows), key=lambda name: name == THEIRS)


def parts(found: Quantization) -> dict[str, str]:
    """Part of the page → its Markdown."""
    tables = [f"### {one.model}\n\n{_reference(one)}\n\n{_table(found, one)}" for one in found.models]
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    commands = "\n".join([*found.commands, COMMAND])
    link = f"[{FILE}](../{FOLDER}/{FILE})"
    return {
        "tables": "\n\n".join(tables),
        "summary": _summary(found),
        "measured": f"```\n{commands}\n```\n\n{link}: {found.facts()}; {versions}.",
    }


def _reference(one: Reference) -> str:
    return (
        f"Reference: {one.type.upper()}, {one.bytes / 1e6:,.1f} MB, {one.parameters:,} parameters, "
        f"{number(one.bits_per_byte, 3)} bits per byte on {one.tokens:,} tokens"
        + (f", {_percent(one.restored)} of the syllables restored." if one.restored is not None else ".")
    )


def _percent(part: Number | None) -> str:
    return DASH if part is None else f"{100 * part:.1f} %"


def _table(found: Quantization, model: Reference) -> str:
    loss = ["KL divergence (95 %)", "/ llama.cpp's", "same top token", "bits per byte"]
    rows = [["recipe", "made by", "MB", "bits per weight", *loss, "restored", "decode"]]
    for row in found.of(model.model):
        theirs = found.theirs(row)
        interval = f"{number(row.kl_low, 4)}–{number(row.kl_high, 4)}"
        rows.append(
            [
                f"`{row.recipe}`",
                row.maker,
                f"{row.bytes / 1e6:,.1f}",
                f"{8 * row.bytes / model.parameters:.2f}",
                f"{number(row.kl, 4)} ({interval})",
                f"{row.kl / theirs.kl:.2f}" if theirs else DASH,
                _percent(row.same_top),
                number(row.bits_per_byte, 3),
                _percent(row.restored),
                f"{number(row.decode, 2)} ×" if row.decode is not None else DASH,
            ]
        )
    return markdown(rows, [False] * 2 + [True] * 8)


def _summary(found: Quantization) -> str:
    """One line for each of our makers and model: the mean ratio of the KL divergences at equal bytes."""
    rows = [
        ["made by", "model", "recipes", "KL divergence / llama.cpp's, geometric mean", "lowest", "highest"]
    ]
    for maker in makers(found.rows):
        for model in found.models:
            ratios = [
                float(row.kl / theirs.kl)
                for row in found.of(model.model)
                if row.maker == maker and (theirs := found.theirs(row))
            ]
            if ratios:
                mean = exp(sum(map(log, ratios)) / len(ratios))
                figures = [f"{value:.2f}" for value in (mean, min(ratios), max(ratios))]
                rows.append([maker, model.model, str(len(ratios)), *figures])
    return markdown(rows, [False] * 2 + [True] * 4)


# ---- the plot ----------------------------------------------------------------------------------------------


def svg(found: Quantization) -> str:
    """Size against KL divergence: a chart for each model with several recipes, side by side."""
    charts = [_chart(found, model) for model in found.models if len(recipes(found, model)) > 1]
    names = makers(found.rows)
    colors = dict(zip(names, [*_COLORS[: len(names) - 1], _COLORS[-1]], strict=False))
    style = "".join(
        f".line.{_style(name)}{{stroke:{color}}}.dot.{_style(name)},.{_style(name)}{{fill:{color}}}"
        for name, color in colors.items()
    )
    groups = "\n".join(
        f'<g transform="translate({WIDTH * place:.0f},20)">{"".join(chart.parts)}</g>'
        for place, chart in enumerate(charts)
    )
    width = WIDTH * max(1, len(charts))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {_HEIGHT + 20:.0f}" role="img" '
        'aria-label="Size of the file against KL divergence">\n'
        "<style>text{font:11px sans-serif;fill:#333}.grid{stroke:#ddd}"
        f".line{{fill:none;stroke-width:1.5}}{style}</style>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n{groups}\n</svg>\n'
    )


def recipes(found: Quantization, model: Reference) -> set[str]:
    return {row.recipe for row in found.of(model.model)}


def _chart(found: Quantization, model: Reference) -> Chart:
    rows = found.of(model.model)
    sizes = [row.bytes / 1e6 for row in rows]
    chart = plot(
        model.model,
        (min(sizes) * 0.95, max(sizes) * 1.02),
        decades([float(row.kl) for row in rows]),
        x_label="MB",
        y_label=f"{model.model}: KL divergence, nats",
        height=_HEIGHT,
        log_y=True,
    )
    for place, maker in enumerate(makers(rows)):
        own = [row for row in rows if row.maker == maker]
        points = [(row.bytes / 1e6, float(row.kl)) for row in own]
        chart.dots(points, _style(maker), [f"{row.recipe}, {maker}: {row.kl}" for row in own])
        chart.text(WIDTH - 20, 36 + 14 * place, maker, "end", _style(maker))
    return chart


def _style(maker: str) -> str:
    return re.sub(r"\W+", "-", maker)


# ---- the command -------------------------------------------------------------------------------------------


def rewritten(root: Path) -> tuple[str, str]:
    """The text of the page with all parts written anew, and the plot. Raises BinhdanError."""
    text = (root / PAGE).read_text("utf-8")
    found = load_as(Quantization, root / FOLDER / FILE)
    written = parts(found)
    names = [match["part"] for match in _BLOCK.finditer(text)]
    if sorted(names) != sorted(written) or text.count("<!-- quantization:") != len(names):
        raise BadFormatError(
            f"{root / PAGE}: expected '<!-- quantization: PART -->' and '<!-- end quantization -->' once for"
            f" each of {', '.join(written)}; got {', '.join(names)}"
        )
    page = _BLOCK.sub(lambda match: f"{match['open']}{written[match['part']]}\n{match['close']}", text)
    return page, svg(found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="quantization_page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="fail when the page differs from the file")
    action.add_argument("--write", action="store_true", help="write the tables and the plot")
    parser.add_argument("--root", type=Path, default=Path(), help="root of the repository; default: here")
    options = parser.parse_args(arguments)
    try:
        for name, text in zip((PAGE, PLOT), rewritten(options.root), strict=True):
            file = options.root / name
            if options.write:
                write_whole(file, text)
            elif not file.exists() or file.read_text("utf-8") != text:
                print(f"{name} differs from the result file: run {COMMAND}", file=sys.stderr)
                return 1
    except (BinhdanError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
