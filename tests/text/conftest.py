"""Tiny models with the tokenizer of any GGUF file; all weights are zero."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import gguf
import pytest
from tiny_models import Shape, write_gguf
from tiny_vocabularies import write_zero_model

import binhdan

_HEADER: Final = struct.Struct("<4sIQQ")  # magic, version, tensors, keys
_STRING, _ARRAY = 8, 9
_SIZES: Final = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def keys_of(file: bytes) -> dict[str, bytes]:
    """The metadata of a GGUF file: for each key, the bytes of its whole entry."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(file[at : at + size], "little")

    def value_end(at: int, kind: int) -> int:
        if kind == _STRING:
            return at + 8 + number(at, 8)
        if kind != _ARRAY:
            return at + _SIZES[kind]
        element, count = number(at, 4), number(at + 4, 8)
        at += 12
        if element != _STRING:
            return at + count * _SIZES[element]
        for _ in range(count):
            at = value_end(at, _STRING)
        return at

    keys = {}
    at = _HEADER.size
    for _ in range(number(16, 8)):
        start, name_end = at, value_end(at, _STRING)
        at = value_end(name_end + 4, number(name_end, 4))
        keys[file[start + 8 : name_end].decode()] = file[start:at]
    return keys


def write_model(vocabulary: Path, path: Path) -> Path:
    """Writes a model with the tokenizer of `vocabulary`.

    The tokenizer's keys are inserted as raw bytes after the header: gguf-py needs a minute to copy them.
    """
    keys = {
        name: raw for name, raw in keys_of(vocabulary.read_bytes()).items() if name.startswith("tokenizer.")
    }
    tokens = keys["tokenizer.ggml.tokens"]
    rows = int.from_bytes(tokens[8 + len("tokenizer.ggml.tokens") + 8 :][:8], "little")
    write_zero_model(path, rows, lambda writer: None)

    written = path.read_bytes()
    magic, version, tensors, count = _HEADER.unpack_from(written)
    inserted = b"".join(keys.values())
    filler = -(len(inserted) + 24) % gguf.GGUF_DEFAULT_ALIGNMENT  # keeps the tensors aligned
    inserted += struct.pack(f"<Q4sIQ{filler}x", 4, b"fill", _STRING, filler)
    header = _HEADER.pack(magic, version, tensors, count + len(keys) + 1)
    path.write_bytes(header + inserted + written[_HEADER.size :])
    return path


@pytest.fixture
def vocabulary_model(tmp_path: Path) -> Iterator[Callable[[Path], binhdan.Model]]:
    """A function that opens a model with the vocabulary of a GGUF file."""
    opened: list[binhdan.Model] = []

    def make(vocabulary: Path) -> binhdan.Model:
        opened.append(binhdan.load(write_model(vocabulary, tmp_path / "model.gguf"), threads=1))
        return opened[-1]

    yield make
    for model in opened:
        model.close()


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def tiny_model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[binhdan.Model]:
    """A model with a byte-level or SentencePiece-style BPE of 256 bytes and some Vietnamese tokens."""
    path = tmp_path_factory.mktemp("tiny") / "model.gguf"
    with binhdan.load(write_gguf(path, Shape(vocabulary=request.param)), threads=1) as model:
        yield model
