"""The prefix cache: the start that a prompt shares with an earlier one is not computed again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import binhdan

SYSTEM = "Bạn là trợ lý của cửa hàng sách. " * 40
PAGE = 64


@pytest.fixture(scope="module")
def cached_model() -> Iterator[binhdan.Model]:
    with binhdan.load(threads=1) as model:
        yield model


def ask(model: binhdan.Model, question: str) -> binhdan.Answer:
    return model.ask(question, system=SYSTEM, max_tokens=4)


def test_a_shared_system_prompt_is_cached(cached_model: binhdan.Model) -> None:
    first, second = ask(cached_model, "ha noi o dau?"), ask(cached_model, "sach nao hay?")
    assert first.cached_tokens == 0
    assert second.prompt_tokens - 2 * PAGE <= second.cached_tokens < second.prompt_tokens
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:  # the engine frees the pages after the last event
        report = cached_model.engine_info()
        if report["running"] == 0:
            break
        time.sleep(0.01)
    assert report["kv_bytes"] == 0 and 0 < report["cache_bytes"] <= report["max_kv_bytes"]


def test_prompts_may_diverge_within_a_page(cached_model: binhdan.Model) -> None:
    ask(cached_model, "ha noi o dau va " * 30)
    prompt, other = (
        cached_model.chat_tokens([{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}])
        for text in ("ha noi co gi", "ha noi o dau va " * 30)
    )
    common = next(i for i, (a, b) in enumerate(zip(prompt, other, strict=False)) if a != b)
    assert common % PAGE > 8
    assert ask(cached_model, "ha noi co gi").cached_tokens == common


def test_the_next_turn_reuses_the_conversation(cached_model: binhdan.Model) -> None:
    messages: list[binhdan.Message] = [{"role": "user", "content": "chao ban " * 60}]
    answer = cached_model.chat(messages, max_tokens=8)
    messages += [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "tam biet"}]
    again = cached_model.chat(messages, max_tokens=8)
    assert again.cached_tokens >= answer.prompt_tokens // PAGE * PAGE - PAGE


def test_a_disabled_cache() -> None:
    with binhdan.load(threads=1, prefix_cache=False) as model:
        ask(model, "ha noi")
        assert ask(model, "ha noi").cached_tokens == 0
        assert model.engine_info()["cache_bytes"] == 0


def test_a_folder_keeps_the_cache_over_a_restart(tmp_path: Path) -> None:
    folder = tmp_path / "bộ nhớ"
    with binhdan.load(threads=1, prefix_cache_dir=folder) as model:
        want = ask(model, "ha noi")
    assert folder.stat().st_mode & 0o777 == 0o700 and any(folder.iterdir())
    with binhdan.load(threads=1, prefix_cache_dir=folder) as model:
        again = ask(model, "ha noi")
    assert again.cached_tokens > 0 and again.text == want.text


def test_an_unusable_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(binhdan.BinhdanError, match="cannot use"):
        binhdan.load(threads=1, prefix_cache_dir=file)


def test_the_context_is_limited_by_kv_bytes() -> None:
    with binhdan.load(threads=1) as model:
        page = PAGE * model.info.kv_bytes_per_token
    with binhdan.load(threads=1, max_kv_bytes=3 * page) as model:
        assert model.context == 3 * PAGE
        with pytest.raises(binhdan.TooLargeError, match="context holds 192"):
            model.ask("xin chao " * 200)
        assert model.ask("xin chao").answer_tokens > 0
    with pytest.raises(binhdan.InvalidArgumentError, match="max_kv_bytes"):
        binhdan.load(threads=1, max_kv_bytes=1000)
