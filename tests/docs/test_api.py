"""Runs the examples of docs/api.md against a server and compares their output with their `# =>` comments."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serving

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```(bash|python)\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"tiny": None}) as url:
        yield url


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example(number: int, url: str) -> None:
    language, code = EXAMPLES[number]
    if language == "bash" and not (shutil.which("bash") and shutil.which("curl")):
        pytest.skip("no bash or curl here")
    if "anthropic" in code:
        pytest.importorskip("anthropic", reason="no anthropic: pip install 'binhdan[clients]'")
    wanted = re.findall(r"^# => (.*)$", code, re.MULTILINE)
    assert wanted, "an example must state its output"
    code = code.replace("http://127.0.0.1:8080", url)
    command = ["bash", "-eu", "-c", code] if language == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for text in wanted:
        assert text in done.stdout, f"{text!r} is not in {done.stdout[:2000]}"
