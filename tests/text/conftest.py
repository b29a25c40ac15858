"""Models around a vocabulary: the tokenizer of any GGUF file, under weights that are all zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_models import Shape, tensor_shapes, write_gguf

import binhdan

VocabularyModel = Callable[[Path], binhdan.Model]


def write_around(vocabulary: Path, path: Path) -> Path:
    """A llama of one small layer with the tokenizer keys of `vocabulary`."""
    fields = gguf.GGUFReader(vocabulary).fields
    shape = Shape(layers=1, width=32, feed_forward=32, heads=1, kv_heads=1, head_dim=32, tied=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, field in fields.items():
        if name.startswith("tokenizer."):
            is_array = field.types[0] == gguf.GGUFValueType.ARRAY
            writer.add_array(name, field.contents()) if is_array else writer.add_key_value(
                name, field.contents(), field.types[0]
            )
    rows = len(fields["tokenizer.ggml.tokens"].data)
    for name, dims in tensor_shapes(shape).items():
        size = (rows, shape.width) if name == "token_embd.weight" else dims
        writer.add_tensor(name, np.zeros(size, np.float16 if len(dims) == 2 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def vocabulary_model(tmp_path: Path) -> Iterator[VocabularyModel]:
    opened: list[binhdan.Model] = []

    def make(vocabulary: Path) -> binhdan.Model:
        opened.append(binhdan.load(write_around(vocabulary, tmp_path / "model.gguf"), threads=1))
        return opened[-1]

    yield make
    for model in opened:
        model.close()


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def tiny_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[binhdan.Model]:
    """Byte-level BPE and SentencePiece-style BPE, with 256 bytes and some Vietnamese."""
    path = tmp_path_factory.mktemp("tiny") / "model.gguf"
    with binhdan.load(write_gguf(path, Shape(vocabulary=request.param)), threads=1) as model:
        yield model
