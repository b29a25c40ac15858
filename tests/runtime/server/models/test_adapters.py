"""Adapters of the server: model names MODEL:NAME."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from adapters import embedded_adapter, write_adapter
from serving import ANSWER, QUESTION, serving

from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.server import config


def answer(url: str, model: str, **fields: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 20} | fields
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def text(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    content: str = response.json()["choices"][0]["message"]["content"]
    return content


def test_requests_choose_an_adapter(tmp_path: Path) -> None:
    poet, other = (embedded_adapter(tmp_path / f"{seed}.gguf", seed=seed) for seed in (1, 2))
    adapters = {"poet": str(poet), "tiny:other": str(other)}
    with serving(models={"tiny": None}, adapters=adapters) as url:
        names = [one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]]
        assert names == ["tiny", "tiny:poet", "tiny:other"]
        answers = {name: text(answer(url, name)) for name in names}
        assert answers["tiny"] == ANSWER and len(set(answers.values())) == 3
        assert answer(url, "tiny:poet").json()["model"] == "tiny:poet"
        assert text(answer(url, "")) == ANSWER
        assert answer(url, "tiny:none").status_code == 404
        vectors = [
            httpx.post(f"{url}/v1/embeddings", json={"model": name, "input": "xin chào"}, timeout=60).json()
            for name in names
        ]
        assert len({str(one["data"][0]["embedding"][:4]) for one in vectors}) == 3


def test_an_adapter_that_does_not_fit(tmp_path: Path) -> None:
    zeros = np.zeros((4, 8), np.float32)
    write_adapter(tmp_path / "secret.gguf", {"blk.0.attn_q.weight": (zeros, zeros.T)}, "bert")
    app = {
        "models": {"tiny": None, "second": {"path": "embedded", "context": 512}},
        "adapters": {"second:poet": str(tmp_path / "secret.gguf")},
    }
    with serving(**app) as url:
        refused = answer(url, "second:poet")
        assert refused.status_code == 503
        message = refused.json()["error"]["message"]
        assert "the adapter is for architecture 'bert'" in message and "secret" not in message
        assert text(answer(url, "tiny")) == ANSWER


def test_settings(tmp_path: Path) -> None:
    loaded = config.load(
        None, {"BINHDAN_ADAPTERS": "poet=a.gguf,tiny:b=b.gguf"}, {"models": ["tiny=embedded"]}
    )
    assert loaded.adapters == {"tiny:poet": "a.gguf", "tiny:b": "b.gguf"}
    file = tmp_path / "binhdan.toml"
    file.write_text('[models]\ntiny = "embedded"\n[adapters]\n"tiny:poet" = "poet.gguf"\n')
    assert config.load(file).adapters == {"tiny:poet": "poet.gguf"}
    for given, message in {
        "none:a=a.gguf": "there is no model none",
        "a.gguf": "expected NAME=PATH",
        "a=x,a=y": "two adapters have the name a",
        "a=x,tiny:a=y": "expected a new name",
        "tiny:=x": "expected a new name",
    }.items():
        with pytest.raises(InvalidArgumentError, match=message):
            config.load(None, {}, {"models": ["tiny=embedded"], "adapters": given})
