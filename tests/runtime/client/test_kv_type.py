"""Keys and values in Q8_0: half the memory, the same guarantees."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import binhdan

SYSTEM = "Bạn là trợ lý của cửa hàng sách. " * 20
QUESTIONS = ["ha noi o dau?", "sach nao hay?", "chao ban", "toi ten la gi?"]
PAGE = 64


def kept_bytes(model: binhdan.Model) -> int:
    """Bytes of the prefix cache after one long question, once the request has ended."""
    model.ask("xin chao " * 60, max_tokens=1)
    deadline = time.monotonic() + 30
    while model.engine_info()["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    return model.engine_info()["cache_bytes"]


def test_the_same_memory_holds_nearly_twice_as_much() -> None:
    with binhdan.load(threads=1) as model:
        page, f16_bytes = PAGE * model.info.kv_bytes_per_token, kept_bytes(model)
    with binhdan.load(threads=1, max_kv_bytes=8 * page) as model:
        assert model.context == 8 * PAGE
    with binhdan.load(threads=1, max_kv_bytes=8 * page, kv_type="q8_0") as model:
        assert model.context == 15 * PAGE
        assert 0 < kept_bytes(model) == f16_bytes * 34 // 64


def test_batched_answers_equal_single_ones() -> None:
    """With `deterministic`, with and without hits in the prefix cache."""
    with binhdan.load(threads=2, deterministic=True, kv_type="q8_0", prefix_cache=False) as model:
        alone = [model.ask(question, system=SYSTEM, max_tokens=16).text for question in QUESTIONS]
    with binhdan.load(threads=2, deterministic=True, kv_type="q8_0", prefill_chunk=100) as model:
        with ThreadPoolExecutor(len(QUESTIONS)) as pool:
            asked = [
                pool.submit(model.ask, question, system=SYSTEM, max_tokens=16, logprobs=0)
                for question in QUESTIONS
            ]
            together = [future.result() for future in asked]
        assert [answer.text for answer in together] == alone
        again = [model.ask(question, system=SYSTEM, max_tokens=16, logprobs=0) for question in QUESTIONS]
    assert all(answer.cached_tokens >= 2 * PAGE for answer in again)
    for before, after in zip(together, again, strict=True):
        assert before.text == after.text and before.logprobs == after.logprobs


def test_a_cache_folder_separates_the_types(tmp_path: Path) -> None:
    for cached in (False, True):
        for kv_type in ("f16", "q8_0"):
            with binhdan.load(threads=1, prefix_cache_dir=tmp_path, kv_type=kv_type) as model:
                assert bool(model.ask("ha noi", system=SYSTEM, max_tokens=2).cached_tokens) == cached


def test_an_unknown_type() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=r"kv_type must be one of .*'q4_0'"):
        binhdan.LoadOptions(kv_type="q4_0")  # type: ignore[arg-type]
