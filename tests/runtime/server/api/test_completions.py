"""/v1/completions, /v1/models, /tokenize through the official client and plain HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from serving import serving

import binhdan

PROMPT = "Hà Nội là thủ đô của"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None, "b": None}) as url:
        yield url


def test_the_same_answer_as_in_process(client: openai.OpenAI, model: binhdan.Model) -> None:
    want = model.complete(PROMPT, max_tokens=2)
    answer = client.completions.create(model="a", prompt=PROMPT, max_tokens=2)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == (want.text, "length")
    tokens = client.completions.create(model="a", prompt=model.tokenize(PROMPT), max_tokens=2)
    assert tokens.choices[0].text == want.text


def test_several_prompts_and_n(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="a", prompt=[PROMPT, "Con mèo"], n=2, max_tokens=6, temperature=1.2, seed=3, echo=True
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in answer.choices]
    assert texts[0].startswith(PROMPT) and texts[3].startswith("Con mèo")


def test_a_stream(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="a", prompt=PROMPT, max_tokens=2).choices[0].text
    chunks = list(client.completions.create(model="a", prompt=PROMPT, max_tokens=2, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "length"


def test_legacy_logprobs(client: openai.OpenAI) -> None:
    choice = client.completions.create(model="a", prompt=PROMPT, max_tokens=2, logprobs=2).choices[0]
    logprobs = choice.logprobs
    assert logprobs is not None and logprobs.tokens is not None and logprobs.text_offset is not None
    assert len(logprobs.tokens) == 2 and logprobs.text_offset[0] == 0
    assert logprobs.token_logprobs is not None and all(value <= 0 for value in logprobs.token_logprobs)


def test_the_log_probabilities_of_a_prompt(client: openai.OpenAI, model: binhdan.Model) -> None:
    tokens = model.tokenize(PROMPT)
    wanted = [one.logprob for one in model.score(tokens[:1], model.detokenize(tokens[1:]))]
    for max_tokens in (0, 1):
        for prompt in (PROMPT, tokens):
            choice = client.completions.create(
                model="a", prompt=prompt, max_tokens=max_tokens, logprobs=1, echo=True
            ).choices[0]
            found = choice.logprobs
            assert found is not None and found.token_logprobs is not None and found.tokens is not None
            assert len(found.tokens) == len(tokens) + max_tokens == len(found.top_logprobs or ())
            assert "".join(found.tokens) == choice.text and choice.text.startswith(PROMPT)
            assert found.token_logprobs[0] is None
            assert found.token_logprobs[1 : len(tokens)] == pytest.approx(wanted, abs=1e-4)
            assert (found.text_offset or [0])[1] == len(found.tokens[0])


def test_the_most_likely_tokens_in_a_prompt(client: openai.OpenAI, model: binhdan.Model) -> None:
    """A token is the greedy choice if nothing in top_logprobs is more likely, as lm-eval computes it."""
    greedy = model.complete(PROMPT, max_tokens=3).text
    found = client.completions.create(
        model="a", prompt=PROMPT + greedy, max_tokens=0, logprobs=2, echo=True
    ).choices[0]
    logprobs = found.logprobs
    assert logprobs is not None and logprobs.token_logprobs is not None and logprobs.top_logprobs is not None
    likeliest = [
        value == max(top.values())
        for value, top in zip(logprobs.token_logprobs[1:], logprobs.top_logprobs[1:], strict=True)
    ]
    assert all(likeliest[-3:]) and not all(likeliest)
    assert all(len(top) in (2, 3) for top in logprobs.top_logprobs[1:])


def test_prompt_logprobs_of_each_prompt(url: str) -> None:
    body = {"prompt": [PROMPT, "Con mèo"], "n": 2, "max_tokens": 1, "prompt_logprobs": 0, "temperature": 1}
    choices = httpx.post(f"{url}/v1/completions", json=body).json()["choices"]
    values = [choice["prompt_logprobs"] for choice in choices]
    assert values[0] == values[1] != values[2] == values[3] and values[0][0] is None
    assert all(len(one) == 1 for one in values[0][1:])
    body = {"prompt": PROMPT, "max_tokens": 2, "n_probs": 1}
    assert httpx.post(f"{url}/v1/completions", json=body).json()["choices"][0]["logprobs"]["tokens"]


def test_a_prompt_is_cut_to_the_context(url: str) -> None:
    body = {"prompt": "dài " * 3000, "truncate_prompt_tokens": -1, "max_tokens": 5}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["prompt_tokens"] > 500 and answer.json()["usage"]["completion_tokens"] == 5


def test_echo_needs_an_answer_or_log_probabilities(url: str) -> None:
    body: Any = {"prompt": PROMPT, "logprobs": 1}
    for change, param in (({"echo": True, "stream": True}, "stream"), ({"max_tokens": 0}, "max_tokens")):
        error = httpx.post(f"{url}/v1/completions", json=body | change).json()["error"]
        assert error["param"] == param


def test_a_suffix_needs_a_model_for_it(url: str) -> None:
    error = httpx.post(f"{url}/v1/completions", json={"prompt": "a", "suffix": "b"}).json()["error"]
    assert error["param"] == "suffix" and "no tokens for filling in the middle" in error["message"]


def test_models(client: openai.OpenAI) -> None:
    assert [one.id for one in client.models.list()] == ["a", "b"]
    assert client.models.retrieve("b").owned_by == "binhdan"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("c")


def test_two_models_and_the_default(url: str) -> None:
    body: Any = {"prompt": PROMPT, "max_tokens": 2}
    answers = [
        httpx.post(f"{url}/v1/completions", json=body | change).json() for change in ({}, {"model": "b"})
    ]
    assert [answer["model"] for answer in answers] == ["a", "b"]
    assert answers[0]["choices"][0]["text"] == answers[1]["choices"][0]["text"]


@pytest.mark.parametrize("text", ["Xin chào", "", "đổi 🍜 <|im_end|>\n"])
def test_tokenize_and_detokenize(url: str, text: str, model: binhdan.Model) -> None:
    tokens = httpx.post(f"{url}/tokenize", json={"content": text}).json()
    wanted = model.tokenize(text)
    assert (tokens["tokens"], tokens["count"]) == (wanted, len(wanted)) and tokens["max_model_len"] > 0
    back = httpx.post(f"{url}/detokenize", json={"tokens": tokens["tokens"]}).json()
    assert back == {"content": text, "prompt": text}  # llama.cpp's name, and vLLM's


def test_a_prompt_that_is_too_long_and_too_many_prompts(url: str) -> None:
    for prompt in ("dài " * 50_000, ["a"] * 65):
        answer = httpx.post(f"{url}/v1/completions", json={"prompt": prompt})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "prompt"
    assert "expected at most 64 prompts, got 65" in answer.json()["error"]["message"]


def test_invalid_tokens(url: str) -> None:
    for tokens in ([-1], [10**9], [2**40]):
        answer = httpx.post(f"{url}/detokenize", json={"tokens": tokens})
        assert answer.status_code == 400 and "error" in answer.json()
        answer = httpx.post(f"{url}/v1/completions", json={"prompt": tokens})
        assert answer.status_code == 400 and "error" in answer.json()
