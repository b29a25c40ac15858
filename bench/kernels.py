"""Runs the pytest-benchmark suite of the kernels and reads its figures."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import binhdan

_SUITE = Path(__file__).with_name("kernels_matmul.py")
_NEEDS = ("numpy", "pytest", "pytest_benchmark")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One kernel on one thread: the best of its runs."""

    isa: str
    type: str
    shape: str  # name: activation rows x columns x weight rows
    ms: float
    gb_per_s: float  # of packed weights
    gops: float  # 10^9 multiplications and additions per second


def measure(select: str = "", seconds: float = 0.2) -> list[Figure]:
    """Every kernel whose name fits `select`, an expression as for pytest -k, each for about `seconds`.

    Raises UnsupportedError without the packages that it needs, InvalidArgumentError when nothing fits.
    """
    if missing := [name for name in _NEEDS if importlib.util.find_spec(name) is None]:
        raise binhdan.UnsupportedError(
            f"bench kernels needs {', '.join(missing)}: pip install 'binhdan[bench]'"
        )
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        # No settings of the folder where the user stands, and no caches written there.
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={folder}"]
        command += ["-p", "no:cacheprovider", "--import-mode=importlib", "-k", select, str(_SUITE)]
        command += ["-p", "pytest_benchmark.plugin"]  # and no other plugin that happens to be installed
        command += ["--benchmark-only", "--benchmark-warmup=off", "--benchmark-min-rounds=3"]
        command += [f"--benchmark-max-time={seconds}", f"--benchmark-json={report}"]
        alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=alone)
        if done.returncode == 5 or "error: Wrong expression" in done.stderr:
            raise binhdan.InvalidArgumentError(f"no kernel fits {select!r}")
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise binhdan.BinhdanError(f"pytest failed: {lines[-1] if lines else 'without a word'}")
        return _figures(report.read_text("utf-8"))


def _figures(report: str) -> list[Figure]:
    figures = []
    for entry in json.loads(report)["benchmarks"]:
        info, seconds = entry["extra_info"], entry["stats"]["min"]
        figures.append(
            Figure(
                isa=info["isa"],
                type=info["type"],
                shape=info["shape"],
                ms=seconds * 1e3,
                gb_per_s=info["gigabytes"] / seconds,
                gops=info["giga_operations"] / seconds,
            )
        )
    return figures
