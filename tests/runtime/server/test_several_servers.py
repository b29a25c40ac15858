"""Two whole servers with one PostgreSQL database: limits and bills over both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from postgres_server import postgres
from serving import QUESTION, serving

KEYS: dict[str, Any] = {
    "an": {"key": "an-key-123456"},
    "bình": {"key": "binh-key-123456", "max_concurrent": 1},
    "chủ": {"key": "chu-key-123456", "admin": True},
}


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    with postgres() as database:
        settings: dict[str, Any] = {"keys": KEYS, "ledger": database.url, "context": 256}
        with serving(**settings) as one, serving(**settings) as other:
            yield [one, other]


def headers(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]['key']}"}


def body(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": QUESTION}], **more}


def bills(url: str) -> dict[str, int]:
    report = httpx.get(f"{url}/v1/cost?by=key", headers=headers("chủ"), timeout=60).json()
    return {group["group"]: group["answers"] for group in report["data"]}


def test_a_bill_is_on_all_servers_when_the_client_sees_the_end(urls: list[str]) -> None:
    one, other = urls
    for count in range(1, 4):
        url = f"{one}/v1/chat/completions"
        assert httpx.post(url, json=body(), headers=headers("an"), timeout=60).status_code == 200
        assert bills(other)["an"] == 2 * count - 1
        with httpx.stream("POST", url, json=body(stream=True), headers=headers("an"), timeout=60) as stream:
            for line in stream.iter_lines():
                if '"finish_reason":"stop"' in line:  # before [DONE]
                    assert bills(other)["an"] == 2 * count
    url = f"{one}/v1/embeddings"
    assert httpx.post(url, json={"input": "a"}, headers=headers("an"), timeout=60).status_code == 200
    assert bills(other)["an"] == 7


def test_running_requests_count_on_all_servers(urls: list[str]) -> None:
    one, other = urls
    long = body(stream=True, max_tokens=200, ignore_eos=True)
    with httpx.stream(
        "POST", f"{one}/v1/chat/completions", json=long, headers=headers("bình"), timeout=60
    ) as stream:
        lines = stream.iter_lines()
        next(lines)
        refused = httpx.post(f"{other}/v1/chat/completions", json=body(), headers=headers("bình"), timeout=60)
        assert refused.status_code == 429 and "its limit is 1" in refused.text
        for _ in lines:
            pass
    response = httpx.post(f"{other}/v1/chat/completions", json=body(), headers=headers("bình"), timeout=60)
    assert response.status_code == 200
