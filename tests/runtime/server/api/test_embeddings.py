"""/v1/embeddings and /v1/rerank through the official client and plain HTTP."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from embedding_models import EmbeddingOracle, embedding_model
from serving import serving

import binhdan

DOCUMENTS = ["Hà Nội là thủ đô", "con mèo", "thủ đô của Việt Nam", "a"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    encoder = {"llama.attention.causal": False}
    return {
        "reranker": embedding_model(folder / "reranker.gguf", "rank"),
        "encoder": embedding_model(folder / "encoder.gguf", "cls", changes=encoder),
    }


@pytest.fixture(scope="module")
def url(models: dict[str, Path]) -> Iterator[str]:
    with serving(models={"a": None} | {name: str(path) for name, path in models.items()}) as url:
        yield url


def post(url: str, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{url}{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    value: dict[str, Any] = answer.json()
    return value


def refused(url: str, path: str, **body: Any) -> tuple[str | None, str]:
    """(param, message) of a request that is answered with 400."""
    answer = httpx.post(f"{url}{path}", json=body, timeout=60)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    return error["param"], error["message"]


def vectors(answer: dict[str, Any]) -> list[list[float]]:
    return [one["embedding"] for one in answer["data"]]


def test_embeddings(client: openai.OpenAI, model: binhdan.Model) -> None:
    floats = client.embeddings.create(model="a", input=["xin chào", "tạm biệt"], encoding_format="float")
    packed = client.embeddings.create(model="a", input=["xin chào", "tạm biệt"])  # base64 by default
    assert [len(one.embedding) for one in floats.data] == [model.info.embedding] * 2
    for one, other in zip(floats.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.fsum(value * value for value in one.embedding) == pytest.approx(1, abs=1e-4)
    assert floats.data[0].embedding == pytest.approx(model.embed("xin chào"), abs=1e-5)
    assert floats.usage.prompt_tokens == sum(
        len(model.tokenize(text, add_special=True)) for text in ("xin chào", "tạm biệt")
    )


def test_base64_is_little_endian_float32(url: str, model: binhdan.Model) -> None:
    answer = post(url, "/v1/embeddings", input="xin chào", encoding_format="base64")
    values = np.frombuffer(base64.b64decode(answer["data"][0]["embedding"]), "<f4")
    assert values.tolist() == model.embed("xin chào")


def test_tokens_instead_of_texts(url: str, model: binhdan.Model) -> None:
    tokens = [model.tokenize(text, add_special=True) for text in ("xin chào", "tạm biệt")]
    assert vectors(post(url, "/v1/embeddings", input=tokens)) == model.embed(["xin chào", "tạm biệt"])
    assert vectors(post(url, "/v1/embeddings", input=tokens[0])) == [model.embed("xin chào")]


def test_many_texts(client: openai.OpenAI, model: binhdan.Model) -> None:
    texts = [f"câu số {i}" for i in range(300)]
    answer = client.embeddings.create(model="a", input=texts, encoding_format="float")
    assert [one.index for one in answer.data] == list(range(300))
    assert answer.data[299].embedding == pytest.approx(model.embed(texts[299]), abs=1e-6)


def test_a_full_engine_does_not_stop_a_request() -> None:
    with serving(models={"a": None}, max_waiting=1) as url:
        answer = post(url, "/v1/embeddings", input=[f"câu số {i}" for i in range(40)])
        assert len(answer["data"]) == 40


def test_options(url: str, model: binhdan.Model) -> None:
    def embedding(**body: Any) -> list[float]:
        return vectors(post(url, "/v1/embeddings", input="xin chào", **body))[0]

    assert embedding(dimensions=16) == model.embed("xin chào", dimensions=16)
    assert embedding(input_type="query") == model.embed("query: xin chào")
    assert embedding(prefix="passage: ") == model.embed("passage: xin chào")
    assert embedding(normalize=False) == model.embed("xin chào", normalize=False)


def test_texts_that_are_too_long(url: str, model: binhdan.Model) -> None:
    long = "Việt Nam " * 2000
    for text in (long, model.tokenize(long)):
        param, message = refused(url, "/v1/embeddings", input=[text])
        assert param == "input" and "2,048" in message
        assert post(url, "/v1/embeddings", input=[text], truncate=True)["usage"]["prompt_tokens"] == 2048


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"dimensions": 257}, "dimensions", "expected at most 256"),
        ({"dimensions": 0}, "dimensions", "greater than or equal to 1"),
        ({"input": []}, "input", ""),
        ({"input_type": "query", "prefix": "a"}, None, "expected prefix or input_type"),
        ({"input_type": "query", "input": [1, 2]}, None, "expected texts"),
        ({"input": [[9000]]}, None, "tokens[0]: expected 0 to"),
        ({"model": "reranker"}, "model", "use rerank"),
    ],
)
def test_invalid_embeddings(url: str, body: dict[str, Any], param: str | None, message: str) -> None:
    found, text = refused(url, "/v1/embeddings", **{"input": "a"} | body)
    assert found == param and message in text


def test_the_record_of_embeddings(url: str) -> None:
    def counted() -> float:
        lines = httpx.get(f"{url}/metrics", timeout=60).text.splitlines()
        (line,) = [
            x for x in lines if x.startswith('binhdan_answers_total{finish_reason="stop",model="encoder"')
        ]
        return float(line.split()[-1])

    answer = post(url, "/v1/embeddings", model="encoder", input="xin chào")
    assert answer["model"] == "encoder" and "cost_basis" in answer["usage"]["binhdan"]
    before = counted()
    post(url, "/v1/embeddings", model="encoder", input="xin chào")
    assert counted() == before + 1


# ---- encoders and rerankers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/completions", {"prompt": "a"}),
        ("/v1/responses", {"input": "a"}),
    ],
)
def test_an_encoder_generates_no_text(url: str, path: str, body: dict[str, Any]) -> None:
    param, message = refused(url, path, model="encoder", **body)
    assert param == "model" and "is an encoder" in message and "/v1/embeddings" in message


def test_rerank(url: str, models: dict[str, Path]) -> None:
    oracle = EmbeddingOracle(models["reranker"])
    with binhdan.load(models["reranker"], threads=1) as model:
        query = model.tokenize("thủ đô")
        want = [oracle.score(query + model.tokenize(text)) for text in DOCUMENTS]
    answer = post(url, "/v1/rerank", model="reranker", query="thủ đô", documents=DOCUMENTS)
    scores = {one["index"]: one["relevance_score"] for one in answer["results"]}
    assert [scores[i] for i in range(len(DOCUMENTS))] == pytest.approx(want, abs=2e-3)
    order = [one["relevance_score"] for one in answer["results"]]
    assert order == sorted(order, reverse=True) and "document" not in answer["results"][0]
    assert answer["usage"]["prompt_tokens"] > 0 and answer["id"].startswith("rerank-")


def test_scores_of_pairs(url: str) -> None:
    ranked = post(url, "/v1/rerank", model="reranker", query="thủ đô", documents=DOCUMENTS)["results"]
    want = {one["index"]: one["relevance_score"] for one in ranked}
    answer = post(url, "/v1/score", model="reranker", text_1="thủ đô", text_2=DOCUMENTS)
    assert [one["score"] for one in answer["data"]] == [want[i] for i in range(len(DOCUMENTS))]
    pairs = post(url, "/score", model="reranker", text_1=["thủ đô"] * len(DOCUMENTS), text_2=DOCUMENTS)
    assert pairs["data"] == answer["data"]
    assert "as many as text_2" in refused(url, "/v1/score", text_1=["a", "b"], text_2=["c"] * 3)[1]


def test_the_best_documents(url: str) -> None:
    body = {"model": "reranker", "query": "thủ đô", "return_documents": True}
    documents = [{"text": text} for text in DOCUMENTS]
    whole = post(url, "/v1/rerank", documents=documents, **body)["results"]
    best = post(url, "/v1/rerank", documents=documents, top_n=2, **body)["results"]
    assert best == whole[:2]
    assert all(one["document"] == documents[one["index"]] for one in whole)


@pytest.mark.parametrize("top_n", [None, 2])
def test_rerank_in_the_form_of_tei(url: str, top_n: int | None) -> None:
    body: dict[str, Any] = {"model": "reranker", "query": "thủ đô", "top_n": top_n}
    whole = post(url, "/v1/rerank", documents=DOCUMENTS, **body)["results"]
    listed: Any = post(url, "/rerank", texts=DOCUMENTS, return_text=True, **body)
    want = [(one["index"], one["relevance_score"], DOCUMENTS[one["index"]]) for one in whole]
    assert [(one["index"], one["score"], one["text"]) for one in listed] == want
    _, message = refused(url, "/rerank", texts=DOCUMENTS, documents=DOCUMENTS, **body)
    assert "got both" in message


def test_mixed_inputs(url: str) -> None:
    tokens = httpx.post(f"{url}/tokenize", json={"model": "a", "content": "xin chào"}).json()["tokens"]
    parts = [{"type": "text", "text": "xin "}, {"type": "text", "text": "chào"}]
    inputs: Any = ["xin chào", {"content": parts}, {"prompt_string": "xin chào"}, [*tokens, "bạn"]]
    vectors = [one["embedding"] for one in post(url, "/v1/embeddings", model="a", input=inputs)["data"]]
    assert vectors[0] == vectors[1] == vectors[2] != vectors[3]
    native: Any = post(url, "/embeddings", model="a", input=inputs)
    assert [one["embedding"] for one in native] == [[vector] for vector in vectors]
    image = {"content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}
    assert "images and sounds are not supported" in refused(url, "/v1/embeddings", model="a", input=image)[1]


def test_long_documents(url: str) -> None:
    body = {"model": "reranker", "query": "a", "documents": ["người " * 500]}
    param, message = refused(url, "/v1/rerank", **body)
    assert param == "documents" and "the context holds 128" in message
    assert len(post(url, "/v1/rerank", truncate=True, **body)["results"]) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"model": "a"}, "model"),
        ({"model": "encoder"}, "model"),
        ({"documents": []}, None),
        ({"query": ""}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"documents": [{"title": "a"}]}, None),
    ],
)
def test_invalid_rerank(url: str, body: dict[str, Any], param: str | None) -> None:
    found, _ = refused(url, "/v1/rerank", **{"model": "reranker", "query": "a", "documents": ["a"]} | body)
    assert param is None or found == param
