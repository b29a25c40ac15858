"""Files with a pruned vocabulary: rows are copied, logits stay, and other readers agree."""

from __future__ import annotations

import json
import lzma
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf_edit import with_metadata
from quantize_helpers import keys_of
from tiny_models import SMALL, Shape, write_gguf
from tiny_vocabularies import texts

import binhdan
from binhdan import _native
from binhdan.bench.micro import llama_cpp
from binhdan.quantize.convert import convert
from binhdan.quantize.draft import Draft
from binhdan.quantize.prune.draft import prune_draft
from binhdan.quantize.prune.keys import PRUNED, ROWS_BEFORE
from binhdan.quantize.prune.lists import UNITS, read_list, read_samples
from binhdan.quantize.prune.pruning import Pruning, plan_pruning
from binhdan.quantize.prune.usage import tokenizer_of
from binhdan.quantize.prune.vocabulary import PruneError
from binhdan.runtime.errors import BadFormatError
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions

TEXT = "Hà Nội là thủ đô của Việt Nam.\nha noi la thu do"
SHAPES = {
    "Q4_0, tied": replace(SMALL, type="Q4_0", tied=True),
    "Q8_0": replace(SMALL, type="Q8_0"),
    "Q6_K": replace(SMALL, type="Q6_K", width=256, feed_forward=256, head_dim=64),
    "F32, spm": replace(SMALL, vocabulary="llama"),
    "gemma4": Shape("gemma4"),
    "biases": Shape("llama", variant="biases"),
}


def prune_file(
    source: Path, output: Path, names: list[str], texts: Sequence[Path] = (), force: bool = False
) -> Pruning:
    """Writes `source` with a pruned vocabulary and the same types."""
    prunings = []

    def step(draft: Draft) -> Draft:
        draft, pruning = prune_draft(draft, names, texts)
        prunings.append(pruning)
        return draft

    convert(source, output, "copy", steps=[step], force=force)
    return prunings[0]


def prune(source: Path, folder: Path, text: str = TEXT) -> tuple[Path, Pruning]:
    file = folder / "text.txt"
    file.write_text(text, "utf-8")
    return folder / "pruned.gguf", prune_file(source, folder / "pruned.gguf", [], [file])


@contextmanager
def opened(file: Path) -> Iterator[int]:
    handle = library().open_model(str(file), LoadOptions())
    try:
        yield handle
    finally:
        library().close_model(handle)


@pytest.mark.parametrize("name", SHAPES)
def test_rows_are_copied_and_logits_stay(name: str, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "model.gguf", SHAPES[name])
    output, result = prune(source, tmp_path)
    kept = result.kept
    assert len(kept) < result.vocabulary.size
    before = {t.name: t for t in gguf.GGUFReader(source).tensors}
    after = {t.name: t for t in gguf.GGUFReader(output).tensors}
    assert list(before) == list(after)
    by_token = {"token_embd.weight", "output.weight", "output.bias", "per_layer_token_embd.weight"}
    for tensor in before:
        expected = before[tensor].data[kept] if tensor in by_token else before[tensor].data
        assert after[tensor].tensor_type == before[tensor].tensor_type
        assert np.array_equal(after[tensor].data.view(np.uint8), expected.view(np.uint8)), tensor
    with binhdan.load(source, threads=1) as old, binhdan.load(output, threads=1) as new:
        tokens = new.tokenize(TEXT, add_special=True)
        assert [kept[token] for token in tokens] == old.tokenize(TEXT, add_special=True)
        assert new.detokenize(new.tokenize("漢字🦙 q")) == old.detokenize(old.tokenize("漢字🦙 q"))
    with opened(source) as old_handle, opened(output) as new_handle:
        old_tokens = np.array([kept[token] for token in tokens], np.int32)
        old_logits = _native.logits(old_handle, old_tokens, 1)
        new_logits = _native.logits(new_handle, np.array(tokens, np.int32), 1)
    assert np.array_equal(new_logits, old_logits[:, kept])


def test_other_keys_stay(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "model.gguf", SMALL)
    output, _ = prune(source, tmp_path)
    before, after = keys_of(source), keys_of(output)
    changed = {key for key in before if not key.startswith("GGUF.") and before[key] != after[key]}
    per_token = {"tokens", "token_type", "merges", "eos_token_id", "padding_token_id"}
    assert changed - {f"tokenizer.ggml.{key}" for key in per_token} == {f"{SMALL.architecture}.vocab_size"}
    assert after.keys() - before.keys() == {PRUNED, ROWS_BEFORE}
    assert (after[PRUNED], after[ROWS_BEFORE]) == ("text.txt", before[f"{SMALL.architecture}.vocab_size"])
    types = {
        name: (old.types, gguf.GGUFReader(output).fields[name].types)
        for name, old in gguf.GGUFReader(source).fields.items()
    }
    assert all(old == new for old, new in types.values())


def test_chats_work_as_before(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "model.gguf", replace(SMALL, tied=True))
    output, result = prune(source, tmp_path)
    messages = [{"role": "user", "content": "Hà Nội <|im_end|>"}]
    end = result.vocabulary.index["<|im_end|>"]
    with binhdan.load(source, threads=1) as old, binhdan.load(output, threads=1) as new:
        ids = new.chat_tokens(messages)
        assert new.detokenize(ids, special=True) == old.detokenize(old.chat_tokens(messages), special=True)
        ends = [token for token in ids if result.kept[token] == end]
        assert len(ends) == 1, "the template writes one; the text of the user must not become one"
        assert new.metadata("tokenizer.chat_template") == old.metadata("tokenizer.chat_template")


def test_llama_cpp_reads_the_same_tokens(tmp_path: Path) -> None:
    if not llama_cpp.installed():
        pytest.skip("llama-cpp-python is not installed")
    for shape in (SMALL, replace(SMALL, vocabulary="llama")):
        folder = tmp_path / shape.vocabulary
        folder.mkdir()
        output, _ = prune(write_gguf(folder / "model.gguf", shape), folder)
        theirs = llama_cpp.module().Llama(str(output), vocab_only=True, verbose=False)
        with binhdan.load(output, threads=1) as ours:
            for text in [TEXT, *texts(100, 7, "NFC")]:
                if text:
                    expected = theirs.tokenize(text.encode(), add_bos=False, special=False)
                    assert ours.tokenize(text) == expected, text


# ---- errors ------------------------------------------------------------------------------------------------


def test_the_output_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_gguf(tmp_path / "model.gguf", SMALL)
    output = tmp_path / "pruned.gguf"
    output.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="use --force"):
        prune(source, tmp_path)

    def fail(*args: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr("binhdan.quantize.convert._verify", fail)
    with pytest.raises(OSError, match="no space"):
        prune_file(source, output, ["vi"], force=True)
    assert output.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.gguf", "pruned.gguf", "text.txt"]


def test_files_that_cannot_be_pruned(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "model.gguf", SMALL)
    output, _ = prune(source, tmp_path)
    again = tmp_path / "again.gguf"
    with pytest.raises(PruneError, match="is pruned already"):
        prune_file(output, again, ["vi"])
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(source.read_bytes()[:2000])
    with pytest.raises(BadFormatError, match="more than the 1268 bytes left"):
        prune_file(broken, again, ["vi"])
    tokens = keys_of(source)["tokenizer.ggml.tokens"]
    longer = {
        "tokenizer.ggml.tokens": [*tokens, "extra"],
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(tokens) - 2),
    }
    with pytest.raises(BadFormatError, match=f"expected {len(tokens)} tokens, one per row of token_embd"):
        prune_file(with_metadata(source, broken, longer), again, ["vi"])
    with pytest.raises(OSError, match=r"missing\.txt"):
        prune_file(source, again, [], [tmp_path / "missing.txt"])
    assert not again.exists()


# ---- frequency lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", UNITS)
def test_lists_have_words_separators_and_a_sample(name: str) -> None:
    frequencies = read_list(name)
    assert len(frequencies.words) > 5_000 and len(frequencies.separators) > 100
    assert len(read_samples()[name]) > 20_000
    common = {"vi": " của", "en": " the", "code": " return"}[name]
    assert frequencies.words[common] > 1000 * min(frequencies.words.values())


@pytest.mark.parametrize(
    ("vocabulary", "rows"),
    [("qwen2", 0.45), ("qwen35", 0.45), ("gemma-4", 0.35), ("llama-spm", 0.85), ("gpt-2", 0.9), ("mpt", 0.9)],
)
@pytest.mark.slow
def test_real_vocabularies(vocabulary: str, rows: float, shared: Path, tmp_path: Path) -> None:
    """vi and en keep less than this part of the tokens, and those of 99.7 % of held-out Vietnamese text."""
    file = tmp_path / "vocabulary.gguf"
    packed = shared / "data" / "tokenizers" / f"ggml-vocab-{vocabulary}.gguf.xz"
    with lzma.open(packed) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target)
    keys = keys_of(file)
    result = plan_pruning(keys, ["vi", "en"])
    assert len(result.kept) < rows * result.vocabulary.size
    held_out = [
        json.loads(line)["text"]
        for path in sorted((shared / "data").glob("vi*/valid.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
    draw = random.Random(0)
    noise = [draw.randbytes(draw.randrange(200)) for _ in range(200)]
    with tokenizer_of(keys) as old, tokenizer_of(result.keys) as new:
        tokens = [token for text in held_out for token in old.encode(text)]
        kept = set(result.kept)
        assert sum(token in kept for token in tokens) > 0.997 * len(tokens)
        for text in [*noise, *texts(300, 8, None), *held_out]:
            assert new.decode(new.encode(text)) == old.decode(old.encode(text)), text
