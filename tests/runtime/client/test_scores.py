"""runtime/client/scores.py on the embedded model."""

from __future__ import annotations

import math

import pytest

import binhdan

PROMPT = "them dau: ha noi la thu do cua viet nam"
MESSAGES = [{"role": "user", "content": PROMPT}]


def test_scores_equal_the_log_probabilities_of_the_answer(model: binhdan.Model) -> None:
    answer = model.ask(PROMPT, logprobs=0)
    assert answer.logprobs is not None
    scores = model.score(MESSAGES, answer.text)
    assert [(s.token, s.text, s.logprob) for s in scores] == [
        (s.token, s.text, s.logprob) for s in answer.logprobs
    ]


def test_scores_of_a_long_text_equal_those_of_its_parts(model: binhdan.Model) -> None:
    text = "hà nội là thủ đô của việt nam. " * 12
    whole = model.score("Một câu: ", text)
    assert len(whole) > 64 and all(score.logprob <= 0 for score in whole)
    tokens = [*model.tokenizer.text_prompt("Một câu: " + text).tokens]
    before = tokens[: len(tokens) - 5]
    logits = model.logits(before)
    total = math.log(math.fsum(math.exp(value) for value in logits))
    assert logits[tokens[len(before)]] - total == pytest.approx(whole[-5].logprob, abs=0.02)


def test_logits(model: binhdan.Model) -> None:
    logits = model.logits(model.chat_tokens(MESSAGES))
    assert len(logits) == model.info.vocabulary
    best = max(range(len(logits)), key=logits.__getitem__)
    assert best == model.ask(PROMPT).tokens[0]


def test_choose(model: binhdan.Model) -> None:
    decision = model.choose(MESSAGES, ["hà nội", "huế", "hồ"])
    assert decision.option == str(decision) == "hà nội"
    assert math.fsum(decision.probabilities.values()) == pytest.approx(1)
    scores = [math.fsum(s.logprob for s in model.score(MESSAGES, text)) for text in ("hà nội", "huế")]
    got = [decision.logprobs[text] for text in ("hà nội", "huế")]
    assert got == pytest.approx(scores, abs=0.05)
    prior = model.choose(MESSAGES, ["hà nội", "huế"], prior=[{"role": "user", "content": "them dau: "}])
    assert math.fsum(prior.probabilities.values()) == pytest.approx(1)


def test_options_that_begin_one_another(model: binhdan.Model) -> None:
    decision = model.choose(MESSAGES, ["hà nội là thủ đô của việt nam", "hà nội"])
    assert decision.option == "hà nội là thủ đô của việt nam"  # the answer does not end after "hà nội"


async def test_async(model: binhdan.Model) -> None:
    assert (await model.achoose(MESSAGES, ["hà nội", "huế"])).option == "hà nội"
    assert await model.ascore("Hà", " Nội") == model.score("Hà", " Nội")


def test_more_options_than_the_engine_lets_wait() -> None:
    with binhdan.load(threads=1, max_waiting=2) as model:
        options = [f"số {i}" for i in range(40)]
        assert len(model.choose("Hôm nay là ngày ", options).probabilities) == 40


def test_refused(model: binhdan.Model) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="at least two different"):
        model.choose("a", ["b"])
    with pytest.raises(binhdan.InvalidArgumentError, match="empty"):
        model.score("a", "")
    with pytest.raises(binhdan.TooLargeError):
        model.score("a", "chữ " * 5000)
