"""Encoding of drafts: importance per column and per expert, parts, and errors of the reading thread."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import gguf
import numpy as np
import pytest
from quantize_helpers import keys_of
from recipe_models import draft_of
from tiny_models import Shape, write_gguf

from binhdan import _native
from binhdan.quantize import encode
from binhdan.quantize.convert import convert
from binhdan.quantize.draft import Draft, DraftTensor, Floats
from binhdan.quantize.importance import Importance, write_importance
from binhdan.runtime.errors import BadFormatError, InvalidArgumentError

WIDE = Shape(width=256, feed_forward=512, heads=4, kv_heads=2, head_dim=64, layers=2, type="F16")
DRAW = np.random.default_rng(1)


def draft(values: Floats) -> Draft:
    rows = values.reshape(-1, values.shape[-1])
    tensor = DraftTensor("w.weight", values.shape, "F32", lambda begin, end: rows[begin:end])
    return Draft(Path("model"), draft_of({"general.architecture": "x"}, {}).keys, [tensor])


def encoded(values: Floats, kind: str, importance: Floats | None = None) -> bytes:
    weights = encode.Weights({} if importance is None else {"w.weight": importance})
    parts = encode.encode_draft(draft(values), {"w.weight": kind}, weights, threads=1)
    return b"".join(bytes(part) for _, part in parts)


@pytest.mark.parametrize("part_values", [1, 300, 1 << 22])
def test_parts_do_not_change_the_blocks(part_values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = DRAW.standard_normal((7, 256)).astype(np.float32)
    importance = DRAW.uniform(0.1, 10, 256).astype(np.float32)
    monkeypatch.setattr(encode, "PART_VALUES", part_values)
    expected = _native.encode("Q4_K", values, importance, 1).tobytes()
    assert encoded(values, "Q4_K", importance) == expected


def test_experts_have_their_own_importance() -> None:
    values = DRAW.standard_normal((3, 5, 256)).astype(np.float32)
    importance = DRAW.uniform(0.1, 10, (3, 256)).astype(np.float32)
    expected = b"".join(
        _native.encode("Q4_K", expert, weights, 1).tobytes()
        for expert, weights in zip(values, importance, strict=True)
    )
    assert encoded(values, "Q4_K", importance) == expected
    assert (
        encoded(values, "Q4_K", importance[0]) == _native.encode("Q4_K", values, importance[0], 1).tobytes()
    )


@pytest.mark.parametrize("at", [0, 5])
def test_an_error_of_the_reader_ends_the_work(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(begin: int, end: int) -> Floats:
        if begin >= at:
            raise BadFormatError("damaged")
        return np.zeros((end - begin, 32), np.float32)

    monkeypatch.setattr(encode, "PART_VALUES", 32)
    tensor = DraftTensor("w.weight", (1000, 32), "F32", read)
    broken = Draft(Path("model"), {}, [tensor])
    with pytest.raises(BadFormatError, match="damaged"):
        list(encode.encode_draft(broken, {"w.weight": "Q8_0"}))
    assert not [thread for thread in threading.enumerate() if thread.name == "binhdan-read"]


def test_a_caller_that_stops_ends_the_reading_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "PART_VALUES", 32)
    parts = encode.encode_draft(draft(np.zeros((1000, 32), np.float32)), {"w.weight": "Q8_0"})
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "binhdan-read"]


# ---- the option --imatrix ----------------------------------------------------------------------------------


def write_importance_of(source: Path, path: Path, columns: int | None = None) -> Path:
    importance = Importance(datasets=["text.txt"], chunks=3, chunk_size=64)
    for tensor in gguf.GGUFReader(source).tensors:
        if len(tensor.shape) > 1:
            size = columns or int(tensor.shape[0])
            importance.sums[tensor.name] = np.linspace(0.1, 50, size, dtype=np.float32)[None]
            importance.counts[tensor.name] = np.ones(1, np.float32)
    write_importance(path, importance)
    return path


def test_importance_changes_types_blocks_and_keys(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "in.gguf", WIDE)
    imatrix = write_importance_of(source, tmp_path / "importance.gguf")
    out = tmp_path / "out.gguf"
    command = [sys.executable, "-m", "binhdan", "quantize", source, out, "--recipe", "q4_k_m", "--json"]
    done = subprocess.run([*command, "--imatrix", imatrix], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["types"]["Q4_K"] > 0
    keys = keys_of(out)
    assert keys["quantize.imatrix.file"] == "importance.gguf"
    assert keys["quantize.imatrix.dataset"] == "text.txt" and keys["quantize.imatrix.chunks_count"] == 3
    convert(source, tmp_path / "plain.gguf", "q4_k_m")
    name = "blk.0.attn_q.weight"
    with_it, without = (
        next(t for t in gguf.GGUFReader(path).tensors if t.name == name)
        for path in (out, tmp_path / "plain.gguf")
    )
    original = next(t for t in gguf.GGUFReader(source).tensors if t.name == name).data.astype(np.float32)
    weights = np.linspace(0.1, 50, 256)
    errors = [
        (weights * (gguf.dequantize(t.data, t.tensor_type) - original) ** 2).sum() for t in (with_it, without)
    ]
    assert errors[0] < errors[1]


def test_importance_of_another_model_is_an_error(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "in.gguf", WIDE)
    weights = {"blk.0.attn_q.weight": np.ones(128, np.float32)}
    with pytest.raises(InvalidArgumentError, match="expected 256 values, got 128; is it the importance of"):
        convert(source, tmp_path / "out.gguf", "q4_k_m", importance=weights)
    assert not (tmp_path / "out.gguf").exists()
