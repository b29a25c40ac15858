"""Tables on standard output, with rich."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from binhdan.runtime.cli import console

# Wider than any line: rich cuts nothing, and a pipe receives whole lines.
_MAX_WIDTH = 100_000


def grid(rows: Iterable[Sequence[str | Table]], justify: str = "", style: str = "bold") -> Table:
    """A table without lines. `style` is that of the first column.

    `justify`: for each column "l" or "r"; columns without a letter are left-aligned.
    """
    table = Table.grid(padding=(0, 2))
    alignments: dict[str, Literal["left", "right"]] = {"l": "left", "r": "right"}
    for letter in justify:
        table.add_column(justify=alignments[letter])
    for first, *others in rows:
        # Text instead of str: rich must not interpret markup or control characters from a file.
        cells = [Text(console.printable(cell)) if isinstance(cell, str) else cell for cell in others]
        table.add_row(Text(console.printable(str(first)), style=style), *cells)
    return table


def write(table: Table) -> None:
    """Prints a table. Lines are never cut or wrapped. Only a terminal receives styles."""
    terminal = sys.stdout.isatty()
    text = io.StringIO()
    Console(file=text, width=_MAX_WIDTH, force_terminal=terminal, legacy_windows=False).print(table)
    sys.stdout.write("".join(line.rstrip() + "\n" for line in text.getvalue().splitlines()))
    sys.stdout.flush()
