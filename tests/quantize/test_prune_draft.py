"""Pruning as a step of the conversion: the rows that readers of the draft get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny_models import SMALL, Shape, write_gguf

from binhdan.quantize.draft import Draft, DraftTensor
from binhdan.quantize.gguf_source import read_gguf
from binhdan.quantize.keys import RawValue
from binhdan.quantize.prune.draft import prune_draft
from binhdan.quantize.prune.keys import PRUNED, ROWS_BEFORE
from binhdan.quantize.prune.pruning import Pruning
from binhdan.quantize.prune.vocabulary import PruneError
from binhdan.runtime.errors import InvalidArgumentError

SHAPES = {
    "Q4_0": replace(SMALL, type="Q4_0", tied=True),
    "F16": replace(SMALL, type="F16"),
    "gemma4": Shape("gemma4"),
}


def prune(draft: Draft, folder: Path, text: str) -> tuple[Draft, Pruning]:
    file = folder / "text.txt"
    file.write_text(text, "utf-8")
    return prune_draft(draft, [], [file])


@pytest.mark.parametrize("name", SHAPES)
def test_rows(name: str, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "model.gguf", SHAPES[name])
    draft = read_gguf(source)
    result, pruning = prune(draft, tmp_path, "Hà Nội là thủ đô của Việt Nam")
    kept = pruning.kept
    assert len(kept) < pruning.vocabulary.size
    raw = {t.name: t for t in gguf.GGUFReader(source).tensors}
    by_token = {"token_embd.weight", "output.weight", "per_layer_token_embd.weight"} & raw.keys()
    for before, after in zip(draft.tensors, result.tensors, strict=True):
        if before.name not in by_token:
            assert after is before
            continue
        stored = raw[before.name]
        assert after.shape == (len(kept), *before.shape[1:])
        rows = gguf.dequantize(stored.data, stored.tensor_type)[kept]
        assert after.read_raw is not None
        for begin, end in [(0, len(kept)), (3, 50), (len(kept) - 1, len(kept))]:
            assert np.array_equal(after.read(begin, end), rows[begin:end])
            assert after.read_raw(begin, end) == stored.data[kept][begin:end].tobytes()
    assert result.keys[ROWS_BEFORE].value == pruning.vocabulary.size
    assert result.keys["tokenizer.ggml.tokens"].count == len(kept)
    for key in draft.keys:
        assert result.keys[key].type == draft.keys[key].type
        assert result.keys[key].item_type == draft.keys[key].item_type
    assert f"{len(kept):,} of {pruning.vocabulary.size:,} tokens are kept" in result.notes
    assert any("bytes in the types of model.gguf" in note for note in result.notes)


def test_the_bias_of_the_output_has_a_value_for_each_token(tmp_path: Path) -> None:
    draft = read_gguf(write_gguf(tmp_path / "model.gguf", SMALL))
    size = draft.keys["tokenizer.ggml.tokens"].count
    values = np.arange(size, dtype=np.float32).reshape(1, -1)
    bias = DraftTensor("output.bias", (size,), "F32", lambda begin, end: values[begin:end])
    result, pruning = prune(replace(draft, tensors=[bias]), tmp_path, "Hà Nội")
    assert result.tensors[0].shape == (len(pruning.kept),)
    assert result.tensors[0].read(0, 1).tolist() == [[float(token) for token in pruning.kept]]


def test_bytes_that_are_not_utf8_stay(tmp_path: Path) -> None:
    """A file may have any bytes in its tokens."""
    draft = read_gguf(write_gguf(tmp_path / "model.gguf", SMALL))
    tokens = draft.keys["tokenizer.ggml.tokens"].value
    assert isinstance(tokens, list)
    strange = [*map(str, tokens[:2]), "\udcff\udcfe", *map(str, tokens[3:])]
    changed = replace(draft, keys=draft.keys | {"tokenizer.ggml.tokens": RawValue.of(strange)})
    kept = prune(changed, tmp_path, "Hà Nội")[0].keys["tokenizer.ggml.tokens"].value
    assert isinstance(kept, list)
    assert kept[2] == "\udcff\udcfe"


def test_errors(tmp_path: Path) -> None:
    draft = read_gguf(write_gguf(tmp_path / "model.gguf", SMALL))
    again = replace(draft, keys=draft.keys | {PRUNED: RawValue.of("vi")})
    with pytest.raises(PruneError, match=r"is pruned already \(vi\)"):
        prune_draft(again, ["vi"])
    with pytest.raises(InvalidArgumentError, match="expected one of vi, en, code, got 'fr'"):
        prune_draft(draft, ["fr"])
    without = Draft(draft.source, {"general.architecture": RawValue.of("llama")}, draft.tensors)
    with pytest.raises(PruneError, match=r"tokenizer\.ggml\.model: expected one of"):
        prune_draft(without, ["vi"])
