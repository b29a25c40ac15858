"""`binhdan eval` and llama.cpp's perplexity tool give the same figures for the same files and text."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from real_models import GEMMA3, SMOLLM2, VARIABLE

from binhdan.quantize.convert import convert
from binhdan.quantize.evaluate.evaluation import DEFAULT_TEXT, evaluate, record_reference
from binhdan.runtime.client.model import embedded_model

TOOL = os.environ.get("BINHDAN_LLAMA_PERPLEXITY") or shutil.which("llama-perplexity")
MODELS = os.environ.get(VARIABLE)
TOLERANCE = 5e-3  # relative

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TOOL, reason="llama-perplexity is not on the PATH or in BINHDAN_LLAMA_PERPLEXITY"),
]


def theirs(pattern: str, *arguments: str | Path) -> float:
    """A figure that the tool prints."""
    command = [TOOL or "", *map(str, arguments), "--ctx-size", "512"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=900)
    found = re.search(pattern, done.stdout + done.stderr)
    assert found, done.stdout[-2000:]
    return float(found[1])


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A part of the evaluation text, which takes some minutes."""
    file = tmp_path / "text.txt"
    lines = DEFAULT_TEXT.read_text("utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[200:300]), "utf-8")
    return file


@pytest.mark.parametrize("name", ["embedded", GEMMA3.file, SMOLLM2.file])
def test_perplexity_is_that_of_llama_cpp(name: str, text: Path) -> None:
    if name != "embedded" and not MODELS:
        pytest.skip(f"{VARIABLE} does not name a folder with {name} (tests/real_models.py)")
    file = embedded_model() if name == "embedded" else Path(MODELS or "") / name
    expected = theirs(r"Final estimate: PPL = ([\d.]+)", "-m", file, "-f", text)
    found = evaluate(file, text.read_text("utf-8")).perplexity
    assert found is not None and found.value == pytest.approx(expected, rel=TOLERANCE)


def test_kl_divergence_is_that_of_llama_cpp(text: Path, tmp_path: Path) -> None:
    """Of the tokens that the tool scores: the second half of each window. F32, as engines differ in how they
    round the activations of quantized matrices, and the KL divergence includes that.
    """
    base, small, changed = (tmp_path / f"{name}.gguf" for name in ("base", "small", "changed"))
    convert(embedded_model(), base, "f32")
    convert(embedded_model(), small, "q3_k_m")
    convert(small, changed, "f32", requantize=True)
    logits = tmp_path / "logits.dat"
    theirs(r"(\d+)", "-m", base, "-f", text, "--kl-divergence-base", logits)
    arguments = ["-m", changed, "-f", text, "--kl-divergence-base", logits, "--kl-divergence"]
    expected = theirs(r"Mean +KLD: +([\d.]+)", *arguments)
    with record_reference(base, text.read_text("utf-8"), folder=tmp_path) as reference:
        found = reference.compare(changed).kl_mean.value
    assert found == pytest.approx(expected, rel=TOLERANCE)
