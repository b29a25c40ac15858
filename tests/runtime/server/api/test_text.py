"""/tokenizer_info and vLLM's form of /tokenize over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import serving

import binhdan


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving() as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def test_the_tokenizer_of_a_model(client: httpx.Client, model: binhdan.Model) -> None:
    info = client.get("/tokenizer_info").json()
    assert info["chat_template"] == model.tokenizer.chat_template_source
    assert model.info.eos is not None and info["eos_token"] == model.tokenizer.token_text(model.info.eos)

    def tokens(**body: Any) -> list[int]:
        found: list[int] = client.post("/tokenize", json=body).json()["tokens"]
        return found

    # The name of a control token is one token in vLLM's form, and text in llama.cpp's.
    name = info["eos_token"]
    assert tokens(prompt=name, add_special_tokens=False) == [model.info.eos] != tokens(content=name)
    assert tokens(content=name, parse_special=True) == [model.info.eos]
    assert client.get("/tokenizer_info?model=x").status_code == 404
