"""bench/micro/kernels.py: the suite runs, and its figures agree with each other."""

from __future__ import annotations

import subprocess
import sys

import pytest

import binhdan
from binhdan import _native
from binhdan.bench.micro import kernels

BEST = _native.isas()[-1]


def test_figures_of_one_kernel() -> None:
    (figure,) = kernels.measure(f"{BEST} and Q4_0 and decode", seconds=0.01)
    assert (figure.isa, figure.type, figure.shape) == (BEST, "Q4_0", "decode: 1 x 2048 x 16384")
    assert figure.gops * figure.ms == pytest.approx(2 * 2048 * 16384 / 1e6)
    assert figure.gb_per_s * figure.ms == pytest.approx(2048 * 16384 * 18 / 32 / 1e6)


def test_nothing_fits() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="fits 'nowhere'"):
        kernels.measure("nowhere")


def test_no_expression() -> None:
    with pytest.raises(binhdan.BinhdanError):
        kernels.measure("and and")


def test_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(binhdan.UnsupportedError, match=r"pip install 'binhdan\[bench\]'"):
        kernels.measure()


def test_command() -> None:
    command = [sys.executable, "-m", "binhdan", "bench", "kernels", "-k", f"{BEST} and Q8_0 and batch"]
    done = subprocess.run([*command, "--seconds", "0.01"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "GB/s" in done.stdout and f"{BEST} Q8_0 batch: 4 x 2048 x 16384" in done.stdout
