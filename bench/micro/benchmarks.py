"""Runs a pytest-benchmark suite of this folder in a process of its own, and reads what it measured."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import binhdan

_NEEDS = ("numpy", "pytest", "pytest_benchmark")


def run(
    suite: Path, select: str = "", seconds: float = 0.2, python: str = sys.executable
) -> list[dict[str, Any]]:
    """Benchmarks whose names fit `select`, an expression as for pytest -k, each for about `seconds`: objects
    as pytest-benchmark writes them, with name, extra_info and stats. `python`: who runs it.

    Raises UnsupportedError without the packages that it needs, InvalidArgumentError when nothing fits.
    """
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise binhdan.UnsupportedError(
            f"{suite.stem} needs {', '.join(missing)}: pip install 'binhdan[bench]'"
        )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        # No settings of the folder where the user stands, no caches written there, and no other plugins.
        command = [python, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={folder}"]
        command += ["-p", "no:cacheprovider", "--import-mode=importlib", "-k", select, str(suite)]
        command += ["-p", "pytest_benchmark.plugin", "--benchmark-only", "--benchmark-warmup=off"]
        command += [
            "--benchmark-min-rounds=3",
            f"--benchmark-max-time={seconds}",
            f"--benchmark-json={report}",
        ]
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        alone = own | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=alone)
        except OSError as error:
            raise binhdan.BinhdanError(f"cannot start {python}: {error.strerror}") from error
        if done.returncode == 5 or "error: Wrong expression" in done.stderr:
            raise binhdan.InvalidArgumentError(f"nothing in {suite.stem} fits {select!r}")
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise binhdan.BinhdanError(f"pytest failed: {lines[-1] if lines else 'without a word'}")
        found: list[dict[str, Any]] = json.loads(report.read_text("utf-8"))["benchmarks"]
        return found
