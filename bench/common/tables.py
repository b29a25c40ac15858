"""Results as plain text: tables, lists of named values, and the texts that several tables share.

Rich lays the columns out, so that letters with combining marks and wide letters take their true width. The
text is the same on a terminal and in a pipe: no styles, and no line is wrapped or cut to the terminal's
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from binhdan.bench.common.machine import Machine
from binhdan.bench.common.statistics import Spread

_GAP = 2  # spaces between columns
_WIDTH = 100_000  # columns of the console that rich renders to: more than any line has


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length: the first column is aligned left, all others right. The first row may be a
    header."""
    count = len(rows[0])
    return _render(rows, ["left", *["right"] * (count - 1)])


def named_values(rows: Sequence[tuple[str, str]]) -> str:
    """One line for each name and value, with the values aligned left in one column."""
    return _render(rows, ["left", "left"])


def machine_line(machine: Machine) -> str:
    kernels = " ".join(machine.kernels)
    return f"{machine.processor}, {machine.cores} usable cores, {machine.system}; kernels: {kernels}"


def spread_text(spread: Spread | None, form: str) -> str:
    """Median and range, such as "2.10 (1.90 to 2.40)" for the format "{:.2f}"; "" for None."""
    if spread is None:
        return ""
    middle, low, high = (form.format(value) for value in (spread.median, spread.low, spread.high))
    return f"{middle} ({low} to {high})"


def _render(rows: Sequence[Sequence[str]], aligned: Sequence[str]) -> str:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, _GAP, 0, 0))
    for align in aligned:
        table.add_column(justify=align, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*map(Text, row))  # Text: brackets in a value are not rich's markup
    console = Console(
        file=StringIO(), width=_WIDTH, color_system=None, force_terminal=False, legacy_windows=False
    )
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
