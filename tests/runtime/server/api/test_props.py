"""runtime/server/api/props.py over HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from serving import serving


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with serving(max_sequences=2) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def test_props(client: httpx.Client) -> None:
    props = client.get("/props").json()
    settings = props["default_generation_settings"]
    assert settings["n_ctx"] > 0 and settings["params"]["seed"] == 2**32 - 1 and props["total_slots"] == 2
    assert "/" not in props["model_alias"] + props["model_path"]
    assert props["build_info"].startswith("binhdan ")


def test_slots_show_how_many_requests_run(client: httpx.Client) -> None:
    context = client.get("/props").json()["default_generation_settings"]["n_ctx"]

    def busy() -> int:
        slots = client.get("/slots").json()
        assert [slot["id"] for slot in slots] == [0, 1] and slots[0]["n_ctx"] == context
        return sum(slot["is_processing"] for slot in slots)

    def all_were_busy() -> bool:
        """True if all slots were busy while a request ran, and false if it ended too early to tell."""
        body = {"prompt": "a", "stream": True, "ignore_eos": True, "temperature": 2, "n": 2}
        with client.stream("POST", "/completion", json=body) as stream:
            next(stream.iter_lines())
            return client.get("/slots?fail_on_no_slot=1").status_code == 503 and busy() == 2

    assert busy() == 0
    assert any(all_were_busy() for _ in range(50))
    while busy():  # the cancelled answers end within one step
        pass
    assert len(client.get("/slots?fail_on_no_slot=1").json()) == 2


def test_apply_template(client: httpx.Client) -> None:
    messages = [{"role": "system", "content": "ngắn"}, {"role": "user", "content": "xin chào"}]
    prompt = client.post("/apply-template", json={"messages": messages}).json()["prompt"]
    assert prompt.index("ngắn") < prompt.index("xin chào") < len(prompt)
    tokens = client.post("/tokenize", json={"messages": messages}).json()["tokens"]
    again = client.post("/detokenize", json={"tokens": tokens}).json()["content"]
    assert again.endswith(prompt)
    without = client.post("/apply-template", json={"messages": messages, "add_generation_prompt": False})
    assert prompt.startswith(without.json()["prompt"]) and prompt != without.json()["prompt"]
    assert client.post("/apply-template", json={"messages": []}).status_code == 400
