"""aider edits a file, and lm-eval finds the scores of the library."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clients.evaluation import QUESTIONS, plain, questions, run_lm_eval
from clients.matrix import Target, program, run_aider
from real_models import QWEN25_CODER, missing, path_of
from serving import serving

import binhdan

pytestmark = pytest.mark.slow


def needs(name: str) -> pytest.MarkDecorator:
    why = f"no {name} on the PATH; .ci/full installs it"
    return pytest.mark.skipif(shutil.which(name) is None, reason=why)


def test_the_questions_are_sentences() -> None:
    for question in questions():
        right, wrong = question["choices"]
        assert plain(right) == wrong != right and question["begin"]


@needs("lm_eval")
def test_lm_eval_finds_the_scores_of_the_library(tmp_path: Path) -> None:
    with serving(models={"tiny": None}) as url:
        accuracy, samples = run_lm_eval(program("lm_eval"), url, "tiny", tmp_path)
    assert len(samples) == QUESTIONS and accuracy > 0.9
    right = [sample.logprobs[0] > sample.logprobs[1] for sample in samples]
    assert sum(right) / QUESTIONS == pytest.approx(accuracy)
    with binhdan.load(threads=1) as model:
        for sample in samples[:4]:
            scores = [model.score(sample.begin, f" {choice}") for choice in sample.choices]
            want = [sum(token.logprob for token in tokens) for tokens in scores]
            assert sample.logprobs == pytest.approx(want, abs=1e-4)


@needs("aider")
def test_aider_edits_a_file(tmp_path: Path) -> None:
    if reason := missing(QWEN25_CODER):
        pytest.skip(reason)
    file = tmp_path / "greet.py"
    file.write_text('def greet():\n    return "hello"\n', "utf-8")
    with serving(models={"coder": str(path_of(QWEN25_CODER))}, context=4096, threads=None) as url:
        run_aider(Target(url, "coder"), tmp_path, 'Change the text "hello" in greet.py to "xin chao".')
    assert "xin chao" in file.read_text("utf-8")
