"""examples/train_restorer/: a small text gives a file that restores it."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import binhdan
from binhdan.runtime.ffi import RestoreOptions, library

EXAMPLES = Path(__file__).parents[3] / "examples"
sys.path.insert(0, str(EXAMPLES))

from train_restorer import ngrams  # noqa: E402
from train_restorer.__main__ import make  # noqa: E402
from train_restorer.file import checksum, codebook  # noqa: E402
from train_restorer.sentences import lines  # noqa: E402
from train_restorer.syllables import RHYMES, parse, strip_marks, write  # noqa: E402
from train_restorer.tokens import END, FIRST_FORM, MARK, NUMBER, OTHER, bare_ids, drop_rare, read  # noqa: E402

TEXT = "Hôm nay tôi đi học. Ngày mai tôi đi chơi, rồi tôi về nhà Hà.\nMẹ tôi nấu cơm 3 lần ở Paris."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    documents = [{"source": "news", "text": TEXT}] * 4
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents), encoding="utf-8")
    return tmp_path


def config(**model: object) -> dict[str, object]:
    found = tomllib.loads((EXAMPLES / "train_restorer" / "config.toml").read_text(encoding="utf-8"))
    found["text"]["files"] = ["a.jsonl"]
    found["model"].update(entries=[1000, 1000, 1000], **model)
    return found


def test_a_small_text_gives_a_file_that_restores_it(folder: Path) -> None:
    first, second = make(config(), folder), make(config(), folder)
    assert first == second
    (folder / "file.bin").write_bytes(first)
    handle = library().open_restorer(str(folder / "file.bin"))
    assert library().restore(handle, strip_marks(TEXT).encode(), RestoreOptions()).decode() == TEXT
    described = json.loads(library().restorer_card(handle))
    assert described["tokens"] == {"news": 4 * 27} and described["n-grams"][0] == described["forms"] + 4


def test_the_lines_of_a_part_are_those_that_the_counts_leave_out(folder: Path) -> None:
    every = [line for part in (0, 1, 2) for line in lines([folder / "a.jsonl"], part, 3)]
    words = {" ".join(re.findall(r"\w+", line.lower())) for line in every}
    assert len(every) == 8 and words == {
        " ".join(re.findall(r"\w+", line)) for line in TEXT.lower().split("\n")
    }
    assert list(lines([folder / "a.jsonl"], 0, 3)) == list(lines([folder / "a.jsonl"], 0, 3))


def test_a_damaged_file_is_refused(folder: Path) -> None:
    data = bytearray(make(config(), folder))
    data[200] ^= 1
    (folder / "file.bin").write_bytes(data)
    with pytest.raises(binhdan.BadFormatError, match="checksum does not match"):
        library().open_restorer(str(folder / "file.bin"))


def test_tokens(folder: Path) -> None:
    corpus = read([folder / "a.jsonl"], {"news": 2.0})
    first = corpus.ids[:28].tolist()
    words = [corpus.forms[i - FIRST_FORM] if i >= FIRST_FORM else i for i in first]
    assert words[:7] == [END, ("hôm", 0), ("nay", 0), ("tôi", 0), ("đi", 0), ("hoc", 5), END]
    assert words.count(MARK) == 1 and NUMBER in words and OTHER in words  # Paris
    assert set(corpus.weights.tolist()) == {1.0, 2.0} and corpus.capital.sum() == 4 * 5
    rare = drop_rare(corpus, 5)
    assert len(rare.forms) < len(corpus.forms) and rare.forms == sorted(
        rare.forms, key=lambda f: strip_marks(f[0])
    )


def test_probabilities_of_a_context_sum_to_one(folder: Path) -> None:
    corpus = read([folder / "a.jsonl"], {})
    counts = ngrams.count(corpus.ids, corpus.weights, 3)
    full = ngrams.estimate(counts, [[0.7, 1.0, 1.3]] * 2)
    for orders in (full, ngrams.prune(full, counts, [12, 6], bare_ids(corpus.forms))):
        words = orders[0].keys
        assert orders[0].p.sum() == pytest.approx(1)
        for context in (words, orders[1].keys):
            n = 1 + (context is not words)
            for one in context[:20]:
                total = ngrams.probability(orders, np.int64(one) << ngrams.BITS | words, n + 1).sum()
                assert total == pytest.approx(1, abs=1e-6)


def test_the_share_of_forms_among_ngrams_with_the_same_letters() -> None:
    lines = ["bà già đi", "ba giá đi", "bà già về", "cô tư vẽ"]
    words = {word for line in lines for word in line.split()}
    forms = sorted(filter(None, map(parse, words)), key=lambda form: strip_marks(form[0]))
    id_of = {word: FIRST_FORM + forms.index(form) for word in words if (form := parse(word))}
    ids = [END, *(i for line in lines for i in (*map(id_of.__getitem__, line.split()), END))]
    pairs = ngrams.count(np.array(ids), np.ones(len(ids), np.float32), 2)[1]
    shares = ngrams.forms_given_letters(*pairs, 2, bare_ids(forms))
    for (first, second), wanted in {("bà", "già"): 2 / 3, ("ba", "giá"): 1 / 3, ("cô", "tư"): 1.0}.items():
        key = id_of[first] << ngrams.BITS | id_of[second]
        assert shares[pairs[0] == key] == pytest.approx([wanted])


@given(st.sampled_from(["", "b", "ng", "qu", "gi", "đ"]), st.sampled_from(sorted(RHYMES)), st.integers(0, 5))
def test_syllables_are_read_as_written(onset: str, rhyme: str, tone: int) -> None:
    letters = onset + rhyme
    if (parsed := parse(write(letters, tone))) is not None:
        assert parsed == (letters, tone) and strip_marks(write(letters, tone)) == strip_marks(letters)


@pytest.mark.parametrize("word", ["viêt", "càt", "hòà", "bz", "paris", "dươc", "qúy", "ngừơi", "f"])
def test_impossible_syllables(word: str) -> None:
    assert parse(word) is None


@given(st.lists(st.floats(-20, 0), min_size=1), st.integers(1, 6))
def test_codes_are_the_nearest(values: list[float], bits: int) -> None:
    book, codes = codebook(np.array(values), bits)
    assert len(book) == 1 << bits and (np.diff(book) >= 0).all()
    distances = np.abs(np.array(values)[:, None] - book)
    assert np.allclose(distances[np.arange(len(values)), codes], distances.min(1))


def test_the_checksum_depends_on_the_order() -> None:
    assert checksum(bytes(range(16))) != checksum(bytes([*range(8, 16), *range(8)]))
