"""Perplexity, bits per byte and KL divergence against the float64 oracle."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference_forward import ReferenceModel
from tiny_models import GOLDEN_SHAPES, SMALL, Shape, random_tensor, write_gguf

from binhdan import _native
from binhdan.quantize.evaluate.evaluation import DEFAULT_TEXT, evaluate, record_reference
from binhdan.quantize.evaluate.intervals import quantile_intervals, ratio_interval
from binhdan.quantize.evaluate.windows import Window, make_windows
from binhdan.quantize.texts import OpenModel, open_model, read_text
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.results import ModelInfo

TEXT = "Trăm năm trong cõi người ta,\nchữ tài chữ mệnh khéo là ghét nhau. Hà Nội là thủ đô. " * 4
CONTEXT = 48
# Float weights; keys and values are rounded to F16, and some tables compute in bfloat16.
TOLERANCE = 3e-3

Array = npt.NDArray[np.float64]


def log_probabilities(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    found: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def tokens_of(file: Path) -> tuple[list[int], list[int]]:
    """(the tokens of TEXT, the start token or nothing)."""
    with open_model(file) as model:
        return model.tokenize(TEXT, add_special=True), model.prefix


@pytest.mark.parametrize("name", ["llama-spm-tied", "qwen2"])
def test_perplexity_is_that_of_llama_cpp(name: str, tmp_path: Path) -> None:
    """Whole windows; the start token replaces the first token; the tokens after the first half are scored."""
    file = write_gguf(tmp_path / "model.gguf", GOLDEN_SHAPES[name])
    tokens, start = tokens_of(file)
    oracle = ReferenceModel(file)
    scores = []
    for begin in range(0, len(tokens) - CONTEXT + 1, CONTEXT):
        window = start + tokens[begin + len(start) : begin + CONTEXT]
        found = log_probabilities(oracle.logits(window))
        scores += [-found[i, window[i + 1]] for i in range(CONTEXT // 2, CONTEXT - 1)]
    result = evaluate(file, TEXT, context=CONTEXT, threads=2)
    assert result.perplexity is not None and len(scores) > CONTEXT // 2
    assert result.perplexity.value == pytest.approx(math.exp(np.mean(scores)), rel=TOLERANCE)
    assert result.perplexity.low is not None and result.perplexity.high is not None
    assert result.perplexity.low < result.perplexity.value < result.perplexity.high


@pytest.mark.parametrize("name", ["llama-spm-tied", "qwen2"])
def test_bits_per_byte_is_that_of_all_tokens(name: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", GOLDEN_SHAPES[name])
    tokens, start = tokens_of(file)
    oracle = ReferenceModel(file)
    half, total = CONTEXT // 2, 0.0
    for position in range(1, len(tokens)):
        # The window of a token begins half a context before the multiple of half a context before it.
        begin = max(position // half * half - half, 0) if position >= CONTEXT else 0
        begin = min(begin, len(tokens) - CONTEXT)
        if position < begin + half and begin:  # scored in the window before
            begin = (position // half - 1) * half
        window = start + tokens[begin + len(start) : position]
        total -= log_probabilities(oracle.logits(window)[-1:])[0, tokens[position]]
    result = evaluate(file, TEXT, context=CONTEXT)
    first = 0 if start else 1  # byte of the first token, which is not scored without a start token
    assert result.tokens == len(tokens) - 1
    assert result.bytes == len(TEXT.encode()) - first
    assert result.bits_per_byte.value == pytest.approx(total / math.log(2) / result.bytes, rel=TOLERANCE)


def fake_model(start: bool) -> OpenModel:
    """A model without a handle: its tokens are the characters of a text."""

    class Characters(OpenModel):
        def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
            return self.prefix + [ord(character) for character in text]

        def text_of(self, tokens: object) -> bytes:
            return "".join(map(chr, tokens)).encode()  # type: ignore[call-overload]

    values = dict.fromkeys(ModelInfo.__dataclass_fields__, 0)
    info = ModelInfo(**values | {"context": 128, "causal": True})  # type: ignore[arg-type]
    return Characters(Path("none"), 0, info, [1] if start else [], [])


@given(length=st.integers(32, 300), half=st.integers(4, 32), start=st.booleans(), overlap=st.booleans())
def test_windows_score_each_token_once(length: int, half: int, start: bool, overlap: bool) -> None:
    context = 2 * half
    text = "".join(chr(100 + i) for i in range(length))
    windowed = make_windows(fake_model(start), text, context=context, overlap=overlap)
    scored = [token for window in windowed.windows for token in window.tokens[window.first + 1 :]]
    ids = [ord(character) for character in text]
    if overlap:
        assert scored == ids[0 if start else 1 :]
        assert windowed.bytes == len(text.encode()) - (0 if start else len(text[0].encode()))
    else:
        assert len(set(scored)) == len(scored)
        assert windowed.bytes == len("".join(map(chr, scored)).encode())
    for number, window in enumerate(windowed.windows):
        assert len(window.tokens) <= context
        assert window.tokens[0] == 1 or not start
        assert window.first >= context // 2 - 1 or number == 0 or not overlap
    aligned = [window for window in windowed.windows if window.aligned]
    assert len(aligned) == (length + start) // context


def test_kl_divergence_is_that_of_the_oracle(tmp_path: Path) -> None:
    reference = write_gguf(tmp_path / "reference.gguf", SMALL)
    other = write_gguf(tmp_path / "other.gguf", replace(SMALL, seed=1))
    result = evaluate(other, TEXT, against=reference, context=CONTEXT).against
    assert result is not None
    kl, same = [], []
    with open_model(other) as model:
        windows = make_windows(model, TEXT, context=CONTEXT).windows
    for window in windows:
        p, q = (
            log_probabilities(ReferenceModel(file).logits(window.tokens)[window.first : -1])
            for file in (reference, other)
        )
        kl += (np.exp(p) * (p - q)).sum(axis=1).tolist()
        same += (p.argmax(axis=1) == q.argmax(axis=1)).tolist()
    assert result.kl_mean.value == pytest.approx(np.mean(kl), rel=TOLERANCE)
    assert result.kl_median.value == pytest.approx(np.median(kl), rel=1e-2)
    assert result.kl_90.value == pytest.approx(np.quantile(kl, 0.9), rel=1e-2)
    assert result.kl_99.value == pytest.approx(np.quantile(kl, 0.99), rel=1e-2)
    assert result.kl_max == pytest.approx(max(kl), rel=1e-2)
    assert result.same_top.value == pytest.approx(np.mean(same), abs=2 / len(same))
    assert result.kept is None
    assert result.kl_mean.low is not None and result.kl_mean.low < result.kl_mean.value


@pytest.mark.parametrize("type", ["F32", "Q4_0"])
def test_a_model_does_not_differ_from_itself(type: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", replace(SMALL, type=type))
    result = evaluate(file, TEXT, against=file, context=CONTEXT).against
    assert result is not None
    assert result.kl_max < 1e-6  # logits are stored in 65,536 steps
    assert result.same_top.value == 1 and result.perplexity_ratio.value == 1


@pytest.mark.parametrize("overlap", [False, True])
def test_a_recorded_reference_gives_the_same_figures(overlap: bool, tmp_path: Path) -> None:
    reference = write_gguf(tmp_path / "reference.gguf", SMALL)
    other = write_gguf(tmp_path / "other.gguf", replace(SMALL, type="Q4_0"))
    with record_reference(reference, TEXT, context=CONTEXT, overlap=overlap, folder=tmp_path) as recorded:
        assert any(tmp_path.glob("binhdan-reference-*/*"))
        first, second = (recorded.compare(other, threads=threads) for threads in (1, 2))
        exact = recorded.compare(other, intervals=True)
    assert first == second
    assert first.kl_mean.low is None and exact.kl_mean.low is not None
    assert not any(tmp_path.glob("binhdan-reference-*"))
    if overlap:
        own = evaluate(reference, TEXT, context=CONTEXT)
        assert (recorded.tokens, recorded.bytes) == (own.tokens, own.bytes)
        assert recorded.bits_per_byte == own.bits_per_byte
        whole = evaluate(other, TEXT, against=reference, context=CONTEXT).against
        assert whole is not None and whole.kl_mean == exact.kl_mean and whole.kl_99 == exact.kl_99


def without_tokens(file: Path, folder: Path, dropped: int) -> Path:
    """The same model without its last tokens."""
    import gguf

    kept = len(gguf.GGUFReader(file).fields["tokenizer.ggml.tokens"].contents()) - dropped
    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(folder / "pruned.gguf", "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "llama.vocab_size"):
            continue
        value = field.contents()
        if name in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"):
            value = value[:kept]
        if name == "tokenizer.ggml.merges":
            value = value[: len(value) - dropped]
        writer.add_key_value(name, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)
    for tensor in reader.tensors:
        rows = tensor.data[:kept] if tensor.name in ("token_embd.weight", "output.weight") else tensor.data
        writer.add_tensor(tensor.name, rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "pruned.gguf"


def test_a_pruned_vocabulary_is_compared_over_its_tokens(tmp_path: Path) -> None:
    """Dropping rows changes no logit, so only what the reference gives the dropped tokens differs."""
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    pruned = without_tokens(file, tmp_path, 20)
    result = evaluate(pruned, TEXT, against=file, context=CONTEXT)
    assert result.against is not None
    assert result.against.kl_max < 1e-6
    assert result.against.kept is not None and 0.8 < result.against.kept < 0.999
    with pytest.raises(BinhdanError, match="different vocabularies"):
        evaluate(file, TEXT, against=pruned, context=CONTEXT)
    with pytest.raises(BinhdanError, match="expected the vocabulary of"):
        with record_reference(file, TEXT, context=CONTEXT) as reference:
            reference.compare(pruned)


def test_other_vocabularies_are_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "a.gguf", SMALL)
    other = write_gguf(tmp_path / "b.gguf", GOLDEN_SHAPES["llama-spm-tied"])
    with pytest.raises(BinhdanError, match="compare their bits per byte"):
        evaluate(file, TEXT, against=other)


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BinhdanError, match="is an encoder"):
        evaluate(write_gguf(tmp_path / "model.gguf", Shape("bert")), TEXT)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    data = bytearray(file.read_bytes())
    at = data.rfind(random_tensor("output.weight", (320, 64)).astype("<f4").tobytes())
    assert at > 0
    data[at : at + 4] = np.float32(np.nan).tobytes()
    file.write_bytes(data)
    with pytest.raises(BinhdanError, match=r"logits at position 0: expected finite values"):
        evaluate(file, TEXT, context=CONTEXT)


def test_the_default_text_is_held_out_vietnamese() -> None:
    text = read_text(DEFAULT_TEXT)
    assert 40_000 < len(text.encode()) < 60_000
    calibration = set(read_text(DEFAULT_TEXT.with_name("calibration.txt")).splitlines())
    lines = [line for line in text.splitlines() if len(line) > 30]
    assert not calibration.intersection(lines)
    result = evaluate(embedded_model(), text, tokens=1024)
    assert 1 < result.bits_per_byte.value < 2


def test_scores_are_those_of_the_logits() -> None:
    with open_model(embedded_model()) as model:
        tokens = model.tokenize(read_text(DEFAULT_TEXT))[:150]
        scores = _native.score_tokens(model.handle, np.array(tokens, np.int32), 20, 2)
        logits = _native.logits(model.handle, np.array(tokens, np.int32), 2)
    found = log_probabilities(logits.astype(np.float64))[20:-1]
    expected = -found[np.arange(len(found)), tokens[21:]]
    np.testing.assert_allclose(scores["nll"], expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(scores["best"], found.argmax(axis=1))


@pytest.mark.parametrize("first", [-1, 32, 1000])
def test_scores_check_their_arguments(first: int) -> None:
    with open_model(embedded_model()) as model:
        tokens = np.arange(32, dtype=np.int32)
        with pytest.raises(ValueError, match="first: expected 0 to 31"):
            _native.score_tokens(model.handle, tokens, first, 1)
        store = (np.empty((31, 7), np.uint16), np.empty((31, 4), np.float64))
        with pytest.raises(
            ValueError, match=f"expected logits of 31 rows and {model.info.vocabulary} columns"
        ):
            _native.score_tokens(model.handle, tokens, 0, 1, record=store)
        with pytest.raises(ValueError, match="columns: expected 0 to 6"):
            wide = np.full(model.info.vocabulary, 7, np.int32)
            _native.score_tokens(model.handle, tokens, 0, 1, reference=store, columns=wide)


# ---- intervals ---------------------------------------------------------------------------------------------


def test_intervals_have_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(1).exponential(1.0, 400)
    found = ratio_interval(values.tolist(), [1.0] * 400)
    assert found.low is not None and found.high is not None
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    [median] = quantile_intervals(list(values.reshape(40, 10)), [0.5])
    assert median.value == pytest.approx(np.median(values))
    assert median.low is not None and median.high is not None
    assert median.low < math.log(2) < median.high  # the median of the distribution


def test_one_window_has_no_interval() -> None:
    assert ratio_interval([1.0], [2.0]).low is None
    assert quantile_intervals([np.array([1.0, 3.0])], [0.5])[0].value == 2
    assert Window([1, 2, 3], 0, True).scored == 2
