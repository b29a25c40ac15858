"""Runs a pytest-benchmark suite of this folder in its own process, and reads its measurements."""

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
    """Runs the benchmarks that match `select`, an expression of pytest -k, each for about `seconds`.

    Returns the objects that pytest-benchmark writes, with name, extra_info and stats. `python`: the
    interpreter that runs them. Raises UnsupportedError when a package is missing, InvalidArgumentError when
    no benchmark matches.
    """
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise binhdan.UnsupportedError(
            f"{suite.stem} needs {', '.join(missing)}: pip install 'binhdan[bench]'"
        )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        # Ignores the pytest settings of the current folder, writes no cache there and loads no other plugin.
        command = [python, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={folder}"]
        command += ["-p", "no:cacheprovider", "--import-mode=importlib", "-k", select, str(suite)]
        command += ["-p", "pytest_benchmark.plugin", "--benchmark-only", "--benchmark-warmup=off"]
        command += [
            "--benchmark-min-rounds=3",
            f"--benchmark-max-time={seconds}",
            f"--benchmark-json={report}",
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        except OSError as error:
            raise binhdan.BinhdanError(f"cannot start {python}: {error.strerror}") from error
        if done.returncode == 5 or "error: Wrong expression" in done.stderr:
            raise binhdan.InvalidArgumentError(
                f"no benchmark of {suite.stem} fits {select!r}: expected an expression of pytest -k"
            )
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise binhdan.BinhdanError(f"pytest failed: {lines[-1] if lines else 'it printed nothing'}")
        found: list[dict[str, Any]] = json.loads(report.read_text("utf-8"))["benchmarks"]
        return found
