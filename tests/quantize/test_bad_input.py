"""Bad input to the command `binhdan quantize`: one clear line, no new file, and the old file is whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from quantize_helpers import edit_json
from tiny_models import SMALL, hf_tensors, write_checkpoint, write_gguf, write_safetensors

NAME = "model.layers.1.mlp.up_proj.weight"


def with_value(value: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = hf_tensors(SMALL)
        tensors[NAME][3, 5] = value
        write_safetensors(folder / "model.safetensors", tensors)

    return change


def without_tensor(folder: Path) -> None:
    tensors = hf_tensors(SMALL)
    del tensors[NAME]
    write_safetensors(folder / "model.safetensors", tensors)


def truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1000)


def unknown_architecture(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["PerceptronForCausalLM"])


def other_tokenizer(folder: Path) -> None:
    """A tokenizer with more tokens than the embedding has rows."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    tokenizer["model"]["vocab"] |= {f"extra{i}": 5000 + i for i in range(100)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN": (with_value(float("nan")), f"{NAME} contains inf or NaN"),
    "infinity": (with_value(float("-inf")), f"{NAME} contains inf or NaN"),
    "missing tensor": (without_tensor, "layers.1.mlp.up_proj.weight' is missing"),
    "truncated": (truncated, "is the file truncated?"),
    "architecture": (unknown_architecture, "PerceptronForCausalLM"),
    "tokenizer": (other_tokenizer, "tokenizer.json"),
}


def run(*arguments: str | Path) -> tuple[int, str]:
    """Returns the exit code and stderr."""
    command = [sys.executable, "-m", "binhdan", "quantize", *arguments]
    found = subprocess.run(command, capture_output=True, text=True)
    return found.returncode, found.stderr


@pytest.mark.parametrize("name", CHANGES)
def test_a_bad_checkpoint_is_one_line(name: str, tmp_path: Path) -> None:
    change, message = CHANGES[name]
    folder, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    change(folder)
    out.write_bytes(b"old")
    code, errors = run(folder, out, "--recipe", "q4_k_m", "--force")
    assert code == 1 and message in errors and errors.count("\n") == 1
    assert out.read_bytes() == b"old" and sorted(os.listdir(tmp_path)) == ["in", "out.gguf"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gguf_file_with_bad_weights_is_one_line(value: float, tmp_path: Path) -> None:
    source, out = write_gguf(tmp_path / "in.gguf", SMALL), tmp_path / "out.gguf"
    data = bytearray(source.read_bytes())
    data[-64:-60] = np.float32(value).tobytes()  # the tensors are at the end, in F32
    source.write_bytes(data)
    code, errors = run(source, out, "--recipe", "q4_0")
    assert code == 1 and "contains inf or NaN" in errors and errors.count("\n") == 1
    assert os.listdir(tmp_path) == ["in.gguf"]


def test_a_read_only_file_system_is_one_line(tmp_path: Path) -> None:
    source, folder = write_gguf(tmp_path / "in.gguf", SMALL), tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a read-only file system is not permitted")
    try:
        code, errors = run(source, folder / "out.gguf")
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    assert code == 1 and "cannot write here: Read-only file system" in errors and errors.count("\n") == 1
