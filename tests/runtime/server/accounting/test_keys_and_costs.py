"""API keys in the whole server: authentication, costs per key, a prefix cache per key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from serving import QUESTION, serving

KEYS: dict[str, Any] = {
    "an": {"key": "an-key-123456"},
    "bình": {"key": "binh-key-123456", "max_concurrent": 1, "tokens_per_minute": 400},
    "chủ": {"key": "chu-key-123456", "admin": True},
}
LONG = "Bạn là trợ lý của cửa hàng sách. " * 30


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(models={"a": None}, keys=KEYS) as url:
        yield url


def client(url: str, name: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEYS[name]["key"], max_retries=0)


def ask(url: str, name: str, system: str = "Ngắn.", **more: Any) -> Any:
    messages: Any = [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}]
    with client(url, name) as one:
        return one.chat.completions.create(model="a", messages=messages, **{"max_tokens": 4} | more)


def test_a_wrong_key_is_rejected(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="wrong-key", max_retries=0) as one:
        with pytest.raises(openai.AuthenticationError):
            one.models.list()
    assert httpx.get(f"{url}/livez").status_code == 200
    assert httpx.get(f"{url}/metrics").status_code == 401
    headers = {"Authorization": f"Bearer {KEYS['chủ']['key']}"}
    assert (
        'binhdan_refusals_total{reason="unauthorized"}' in httpx.get(f"{url}/metrics", headers=headers).text
    )


def test_a_key_sees_its_own_costs_and_an_admin_key_all(url: str) -> None:
    ask(url, "an")
    ask(url, "chủ")

    def costs(name: str) -> set[str]:
        headers = {"Authorization": f"Bearer {KEYS[name]['key']}"}
        report = httpx.get(f"{url}/v1/cost", params={"by": "key"}, headers=headers).json()
        assert report["total"]["answers"] > 0
        return {group["group"] for group in report["data"]}

    assert costs("an") == {"an"} and {"an", "chủ"} <= costs("chủ")


def test_the_prefix_cache_is_separate_per_key(url: str) -> None:
    def cached(name: str) -> int:
        return ask(url, name, LONG).usage.prompt_tokens_details.cached_tokens

    assert cached("an") == 0 and cached("an") > 64
    assert cached("chủ") == 0, "cached_tokens must not reveal what another key sent"
    with client(url, "an") as one:
        messages: Any = [{"role": "system", "content": "Riêng. " + LONG}, {"role": "user", "content": "a"}]
        for _ in range(2):
            usage = one.chat.completions.create(
                model="a", messages=messages, max_tokens=1, extra_body={"cache_prompt": False}
            ).usage
            assert usage is not None and usage.prompt_tokens_details is not None
            assert usage.prompt_tokens_details.cached_tokens == 0


def test_tokens_per_minute_limit(url: str) -> None:
    for _ in range(20):
        try:
            ask(url, "bình", max_tokens=64)
        except openai.RateLimitError as error:
            assert int(error.response.headers["retry-after"]) >= 1 and error.code == "rate_limit_exceeded"
            return
    pytest.fail("expected a rate limit error within 20 requests, got none")
