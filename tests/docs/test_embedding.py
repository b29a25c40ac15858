"""docs/embedding.md: its Python examples run, one after another."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from adapters import embedded_adapter

ROOT = Path(__file__).parents[2]


def test_python_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    embedded_adapter(tmp_path / "poet.gguf")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "hà nội là thủ đô của việt nam" in done.stdout and "weather" in done.stdout


def test_its_tests_exist() -> None:
    text = (ROOT / "docs" / "embedding.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`(test_\w+\.(?:py|cpp))`", text))
    assert names and names <= {path.name for path in (ROOT / "tests").rglob("test_*")}
