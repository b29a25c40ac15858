"""bench/common/tables.py: columns line up, and no value is wrapped, cut or taken for markup."""

from __future__ import annotations

import pytest

from binhdan.bench.common.machine import Machine
from binhdan.bench.common.statistics import Spread
from binhdan.bench.common.tables import columns, machine_line, named_values, spread_text


def test_columns() -> None:
    assert columns([["a", "tokens/s", ""], ["bc", "1.5", "x"], ["", "12.25", ""]]) == (
        "a   tokens/s\nbc       1.5  x\n       12.25"
    )


def test_named_values() -> None:
    assert named_values([("model", "m.gguf"), ("", "more"), ("memory", "5 MB")]) == (
        "model   m.gguf\n        more\nmemory  5 MB"
    )


@pytest.mark.parametrize("terminal", ["20", "200"])
def test_lines_do_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch, terminal: str) -> None:
    monkeypatch.setenv("COLUMNS", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    value = "word " * 100 + "end"
    assert columns([["name", value], ["n", "1"]]).splitlines()[0] == f"name  {value}"
    assert named_values([("name", value)]) == f"name  {value}"


def test_values_are_no_markup() -> None:
    assert named_values([("[bold]a[/bold]", ":smile: [red]x")]) == "[bold]a[/bold]  :smile: [red]x"


def test_vietnamese_letters_take_their_true_width() -> None:
    composed, decomposed = "ti\u1ebfng", "tie\u0302\u0301ng"
    lines = columns([[composed, "1"], [decomposed, "2"], ["12345", "3"]]).splitlines()
    assert lines == [f"{composed}  1", f"{decomposed}  2", "12345  3"]


def test_texts_that_tables_share() -> None:
    assert (
        spread_text(Spread(2.0, 1.5, 3.25), "{:.1f}") == "2.0 (1.5 to 3.2)" and spread_text(None, "{}") == ""
    )
    machine = Machine(processor="N100", cores=4, kernels=("scalar", "avx2"), system="Linux 6.1")
    assert machine_line(machine) == "N100, 4 usable cores, Linux 6.1; kernels: scalar avx2"
