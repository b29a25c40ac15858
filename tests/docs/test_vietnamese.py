"""docs/vietnamese.md: its examples give what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import binhdan

PAGE = (Path(__file__).parents[2] / "docs" / "vietnamese.md").read_text(encoding="utf-8")


def test_examples() -> None:
    shell = re.search(r'echo "(.*)" \| binhdan restore\n# => (.*)\n', PAGE)
    python = re.search(r'binhdan\.restore\("(.*)"\)\)  # (.*)\n', PAGE)
    assert shell and python
    assert all(binhdan.restore(given) == wanted for given, wanted in (shell.groups(), python.groups()))
    assert binhdan.restore("Điều này được goi là sự thật.") == "Điều này được gọi là sự thật."
