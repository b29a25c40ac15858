"""Task scores: multiple choice and diacritic restoration; the command `binhdan eval`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference_forward import ReferenceModel
from tiny_models import GOLDEN_SHAPES, SMALL, Shape, write_gguf

from binhdan.quantize.evaluate.choices import PROMPT, Question, answer_questions, read_questions
from binhdan.quantize.evaluate.restoration import compare, restore_text
from binhdan.quantize.texts import open_model
from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.errors import BinhdanError

QUESTION = {
    "id": "01-0001",
    "question": "Thủ đô của Việt Nam là gì?",
    "choices": ["A. Hà Nội", "B. Huế", "C. Thành phố Hồ Chí Minh", "D) chữ"],
    "answer": "A",
}


def write_lines(folder: Path, *lines: Any) -> Path:
    file = folder / "questions.jsonl"
    file.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), "utf-8")
    return file


def test_reads_questions_as_vmlu_has_them(tmp_path: Path) -> None:
    file = write_lines(tmp_path, QUESTION, "", QUESTION | {"answer": " C ", "choices": ["một", "hai", "ba"]})
    assert read_questions(file) == [
        Question("01-0001", QUESTION["question"], ("Hà Nội", "Huế", "Thành phố Hồ Chí Minh", "chữ"), 0),  # type: ignore[arg-type]
        Question("01-0001", QUESTION["question"], ("một", "hai", "ba"), 2),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2"),
        ("[1]", "line 2"),
        ("[" * 100_000, "line 2"),
        (QUESTION | {"question": None}, "question is not a text"),
        (QUESTION | {"choices": "A. một"}, "choices is not a list"),
        (QUESTION | {"choices": ["A. một"]}, "1 entries, not 2 to 10"),
        (QUESTION | {"choices": ["A. một", "B. "]}, "a choice has no text"),
        (QUESTION | {"answer": "E"}, "not one of the letters ABCD"),
        (QUESTION | {"answer": 1}, "not one of the letters ABCD"),
    ],
)
def test_names_the_line_of_a_bad_question(line: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(BinhdanError, match=message) as error:
        read_questions(write_lines(tmp_path, QUESTION, line))
    assert "line 2" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["llama-spm-tied", "qwen2"])
def test_the_choice_is_that_of_the_oracle(name: str, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", GOLDEN_SHAPES[name])
    oracle = ReferenceModel(file)
    texts = ("Hà Nội", "Huế", "thành phố lớn nhất")
    sums = []
    with open_model(file) as model:
        prompt = [*model.prefix, *model.tokenize(PROMPT.format("Thủ đô?"))]
        for text in texts:
            tokens = [*model.prefix, *model.tokenize(f"{PROMPT.format('Thủ đô?')} {text}")]
            assert tokens[: len(prompt)] == prompt
            logits = oracle.logits(tokens)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            sums.append(sum(logits[i - 1, tokens[i]] for i in range(len(prompt), len(tokens))))
    per_byte = [value / len(text.encode()) for value, text in zip(sums, texts, strict=True)]
    questions = [Question("", "Thủ đô?", texts, answer) for answer in range(3)]
    for question in questions:
        scores = answer_questions(file, [question])
        assert scores.accuracy.value == (question.answer == int(np.argmax(sums)))
        assert scores.accuracy_per_byte.value == (question.answer == int(np.argmax(per_byte)))
    scores = answer_questions(file, questions)
    assert scores.accuracy.value == pytest.approx(1 / 3)
    assert scores.chance == pytest.approx(1 / 3)
    assert scores.accuracy.low == 0 and scores.accuracy.high == 1


def test_a_question_longer_than_the_context_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    with pytest.raises(BinhdanError, match=r"question 'x' has .* more than the context of 128"):
        answer_questions(file, [Question("x", "dài " * 200, ("a", "b"), 0)])


def test_an_encoder_answers_no_questions(tmp_path: Path) -> None:
    with pytest.raises(BinhdanError, match="is an encoder"):
        answer_questions(
            write_gguf(tmp_path / "model.gguf", Shape("bert")), [Question("", "?", ("a", "b"), 0)]
        )


def test_restoration_counts_syllables() -> None:
    assert compare("Hà Nội là thủ đô, 36 phố", "Hà Nôi là thủ đô, 36 phô") == (4, 6)
    text = "Hà Nội là thủ đô của Việt Nam.\nno marks here\nTôi đang học bài ở nhà."
    scores = restore_text(embedded_model(), text, threads=1)
    assert (scores.lines, scores.syllables) == (2, 14)
    assert scores.accuracy.value > 0.7 > scores.unchanged
    with pytest.raises(BinhdanError, match="with diacritics"):
        restore_text(embedded_model(), "no marks here")


# ---- the command -------------------------------------------------------------------------------------------


def run(*arguments: str | Path) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "binhdan", "eval", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    return result.returncode, result.stdout, result.stderr


def test_the_command_prints_json_or_a_table(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    common = (file, "--tokens", "200", "--context", "32", "--threads", "1", "--against", file)
    code, out, errors = run(*common, "--json")
    assert (code, errors) == (0, "")
    result = json.loads(out)
    assert result["tokens"] == 199
    assert result["against"]["same_top"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    code, out, _ = run(*common)
    assert code == 0 and "bits per byte" in out and "KL divergence, mean" in out


def test_errors_of_the_command_take_one_line(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", SMALL)
    (tmp_path / "short.txt").write_text("xin chào")
    for arguments, message in (
        ([tmp_path / "none.gguf"], "none.gguf"),
        ([file, "--text", tmp_path / "short.txt"], "at least 32 tokens"),
        ([file, "--against", tmp_path / "none.gguf"], "none.gguf"),
        ([file, "--task", "restore", "--choices", file], "expected one of"),
    ):
        code, _, errors = run(*arguments)
        assert code == 1, errors
        assert message in errors and errors.count("\n") == 1, errors
