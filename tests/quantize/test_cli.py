"""The command `binhdan quantize`, run as a subprocess."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from quantize_helpers import keys_of
from tiny_models import SMALL, write_checkpoint

from binhdan.runtime.client.model import embedded_model

CHECKPOINT = Path(__file__).parents[2] / "examples/train_tiny_vi/checkpoint"


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Returns the exit code, stdout and stderr."""
    command = [sys.executable, "-m", "binhdan", "quantize", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


def test_json_summary(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    code, text, errors = run(write_checkpoint(tmp_path / "in", SMALL), out, "--type", "q4_0", "--json")
    assert (code, errors) == (0, "")
    summary = json.loads(text)
    assert summary["output"] == str(out)
    assert summary["types"] == {"Q4_0": 15, "Q8_0": 1, "F32": 5}
    assert summary["fallbacks"].keys() == {"output.weight"}


def test_human_readable_summary(tmp_path: Path) -> None:
    code, text, _ = run(write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf")
    assert code == 0
    assert "Q8_0" in text and "llama" in text
    assert keys_of(tmp_path / "out.gguf")["general.name"] == "in"


def test_the_vocabulary_is_pruned(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("Hà Nội là thủ đô", "utf-8")
    source, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    options = ["--keep-text", text, "--json"]
    code, output, errors = run(source, out, *options)
    assert (code, errors) == (0, "")
    summary = json.loads(output)
    keys = keys_of(out)
    assert summary["vocabulary"] == len(keys["tokenizer.ggml.tokens"]) < 320
    assert f"{summary['vocabulary']} of 320 tokens are kept" in summary["notes"]
    assert keys["binhdan.pruned_vocabulary"] == "text.txt"
    code, output, _ = run(source, out, *options, "--prune-vocab", "vi, en", "--force")
    assert code == 0
    assert keys_of(out)["binhdan.pruned_vocabulary"] == "vi, en, text.txt"
    code, _, errors = run(source, tmp_path / "none.gguf", "--prune-vocab", "fr")
    assert (code, errors.count("\n")) == (1, 1)
    assert "--prune-vocab: expected one of vi, en, code, got 'fr'" in errors


@pytest.mark.parametrize("debug", [False, True])
def test_errors_take_one_line(debug: bool, tmp_path: Path) -> None:
    code, _, errors = run(tmp_path / "none", tmp_path / "out.gguf", *["--debug"] * debug)
    assert code == 1
    assert "expected a folder with config.json" in errors
    assert ("Traceback" in errors) is debug
    assert debug or errors.count("\n") == 1


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_text("content")
    code, _, errors = run(write_checkpoint(tmp_path / "in", SMALL), out)
    assert code == 1
    assert "use --force to overwrite it" in errors
    assert out.read_text() == "content"


def test_the_command_reproduces_the_embedded_model(tmp_path: Path) -> None:
    """The command is the one in runtime/assets/README.md."""
    out = tmp_path / "out.gguf"
    code, *_ = run(CHECKPOINT, out, "--recipe", "q8_0", "--name", "tiny-vi-v1", "--license", "cc-by-sa-4.0")
    assert code == 0
    assert out.read_bytes() == embedded_model().read_bytes()
