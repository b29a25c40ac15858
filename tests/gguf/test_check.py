"""binhdan_inspect and binhdan_model_open report the same first fault, and the same warnings."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from api.abi import MODEL, check, ffi, last_error, lib
from gguf_damage import Patched, inspect, open_and_close
from gguf_edit import with_metadata


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Patched:
    """A copy of the embedded model that tests may damage."""
    path = tmp_path_factory.mktemp("check") / "model.gguf"
    return Patched(Path(shutil.copy(MODEL, path)), MODEL.read_bytes())


def named(name: str) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode()


def after(model: Patched, name: str) -> int:
    """The offset after the name of a key or tensor."""
    return model.whole.index(named(name)) + len(named(name))


# What is written, at which distance after which name, and what the error says.
FAULTS = {
    "architecture": ("general.architecture", 4, named("qwen9"), "got 'qwen9'"),
    "missing key": ("qwen3.block_count", -1, b"x", "key 'qwen3.block_count' is missing"),
    "key out of range": ("qwen3.attention.head_count", 4, bytes(4), "expected 1 to 4096, got 0"),
    "missing tensor": ("blk.3.attn_q.weight", -1, b"x", "'blk.3.attn_q.weight' is missing"),
    "shape": ("blk.7.ffn_down.weight", 4, struct.pack("<Q", 32), "expected 256 rows of 768 columns"),
    "tensor type": ("blk.5.ffn_up.weight", 20, struct.pack("<I", 99), "tensor type 99 is not supported"),
    "pre-tokenizer": ("tokenizer.ggml.pre", 4, named("qwen9"), "'qwen9'"),
    "tokenizer": ("tokenizer.ggml.model", 4, named("gpt9"), "'gpt9'"),
    "token id": ("tokenizer.ggml.eos_token_id", 4, struct.pack("<I", 8192), "expected a token below 8192"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_inspect_gives_the_error_of_open(model: Patched, fault: str) -> None:
    name, distance, data, message = FAULTS[fault]
    place = after(model, name) + distance
    model.write(place, data)
    try:
        assert not open_and_close(model.path)
        error = last_error()
        described = inspect(model.path)
    finally:
        model.restore(place, len(data))
    assert described is not None and described["supported"] is False
    assert described["reason"] == error.removeprefix(f"{model.path}: ")
    assert message in described["reason"]


def test_an_unknown_tensor(tmp_path: Path) -> None:
    path = tmp_path / "more.gguf"
    writer = gguf.GGUFWriter(path, "qwen3")
    reader = gguf.GGUFReader(MODEL)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(key, field.contents(), field.types[0], field.types[-1])
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.add_tensor("blk.0.extra.weight", np.zeros(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert not open_and_close(path)
    error = last_error()
    described = inspect(path)
    assert described is not None and described["reason"] == error.removeprefix(f"{path}: ")
    assert "'blk.0.extra.weight'" in described["reason"]


def warnings_of_open(path: Path) -> str:
    model, size = ffi.new("binhdan_model *"), ffi.new("size_t *")
    check(lib.binhdan_model_open(str(path).encode(), ffi.NULL, model))
    text = ffi.new("char[]", 1 << 16)
    check(lib.binhdan_model_warnings(model[0], text, 1 << 16, size))
    check(lib.binhdan_model_close(model[0]))
    return bytes(ffi.buffer(text, size[0])).decode()


def test_keys_of_the_architecture_that_are_not_read_are_named_once(tmp_path: Path) -> None:
    assert warnings_of_open(MODEL) == ""  # although it has qwen3.vocab_size
    added: dict[str, str | None] = {"qwen3.attention.new": "x", "qwen3.\x1bkey": "x", "qwen4.key": "x"}
    path = with_metadata(MODEL, tmp_path / "keys.gguf", added)
    warnings = warnings_of_open(path)
    assert warnings.count("\n") == 1 and warnings.startswith(
        f"{path}: keys that are not known here are ignored: "
    )
    assert "'qwen3.attention.new'" in warnings and "qwen4" not in warnings and "\x1b" not in warnings
    described = inspect(path)
    assert described is not None and described["supported"] is True
    assert described["warnings"] == [warnings.removeprefix(f"{path}: ").strip()]
