"""runtime/server/models/pool.py: loading, unloading and memory; and requests while models change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from binhdan.runtime.client.model import find_model
from binhdan.runtime.errors import ClosedError
from binhdan.runtime.options import EmbeddingOptions, GenerationOptions, LoadOptions
from binhdan.runtime.server.accounting.bill import Biller
from binhdan.runtime.server.answers.embedding import EmbeddingPlan, EmbeddingRun
from binhdan.runtime.server.answers.generation import Generation, GenerationPlan
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.errors import as_api_error
from binhdan.runtime.server.models.pool import LoadedModel, ModelPool, Source

OPTIONS = LoadOptions(threads=1, max_kv_bytes=4 << 20)


@asynccontextmanager
async def pool_of(*names: str, source: Source | None = None, **limits: Any) -> AsyncIterator[ModelPool]:
    pool = ModelPool(dict.fromkeys(names, source or Source(None, OPTIONS)), **limits)
    try:
        yield pool
    finally:
        await pool.close()


def generation(loaded: LoadedModel, text: str = "xin chào", **options: Any) -> Generation:
    tokenizer = loaded.model.tokenizer
    plan = GenerationPlan([tokenizer.text_prompt(text)], GenerationOptions(**options))
    return Generation(loaded.dispatcher, tokenizer, plan, Biller().begin())


async def test_concurrent_requests_load_a_model_once() -> None:
    async with pool_of("a") as pool:

        async def ask() -> LoadedModel:
            async with pool.use("a") as loaded:
                return loaded

        assert len({id(loaded) for loaded in await asyncio.gather(*(ask() for _ in range(8)))}) == 1
        assert [loaded.name for loaded in pool.loaded()] == ["a"]


async def test_ready_after_the_default_model() -> None:
    async with pool_of("a", "b") as pool:
        assert not pool.ready and pool.default == "a"
        await pool.start()
        assert pool.ready and [loaded.name for loaded in pool.loaded()] == ["a"]


async def test_an_unknown_name() -> None:
    async with pool_of("a") as pool:
        with pytest.raises(ApiError, match="expected one of a, ") as caught:
            async with pool.use("b"):
                pass
        assert caught.value.status == 404


async def test_the_least_recently_used_model_is_unloaded() -> None:
    async with pool_of("a", "b", "c") as pool:
        async with pool.use("a") as loaded:
            one = loaded.bytes
    async with pool_of("a", "b", "c", max_bytes=2 * one) as pool:
        for name in "abac":
            async with pool.use(name):
                pass
        assert [loaded.name for loaded in pool.loaded()] == ["a", "c"]
        async with pool.use("a"), pool.use("c"):
            with pytest.raises(ApiError, match="not enough memory") as caught:
                async with pool.use("b"):
                    pass
        assert caught.value.status == 503 and "Retry-After" in caught.value.headers
        assert caught.value.body["error"]["code"] == "insufficient_memory"


async def test_a_model_above_the_memory_limit() -> None:
    file_bytes = find_model(None).stat().st_size
    async with pool_of("a") as pool:
        async with pool.use("a") as loaded:
            bytes_in_memory = loaded.bytes
    for limit, needed in ((file_bytes - 1, file_bytes), (bytes_in_memory - 1, bytes_in_memory)):
        async with pool_of("a", max_bytes=limit) as pool:
            with pytest.raises(ApiError, match=f"needs {needed:,} bytes .* is {limit:,} bytes") as caught:
                await pool.start()
            assert caught.value.status == 503 and not caught.value.headers and not pool.loaded()
            assert caught.value.body["error"]["code"] == "insufficient_memory"


async def test_idle_models_are_unloaded_and_load_again() -> None:
    async with pool_of("a", idle_seconds=0.1) as pool:
        await pool.start()
        async with pool.use("a") as loaded:
            await asyncio.sleep(0.5)
            assert pool.loaded(), "a model in use was unloaded"
            with generation(loaded, max_tokens=2) as answers:
                first = (await answers.answers())[0].text
        for _ in range(200):
            if not pool.loaded():
                break
            await asyncio.sleep(0.02)
        assert not pool.loaded() and pool.ready
        async with pool.use("a") as loaded:
            with generation(loaded, max_tokens=2) as answers:
                assert (await answers.answers())[0].text == first


async def test_the_error_of_loading_is_logged_without_its_path(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hỏng.gguf").write_bytes(b"GGUF")
    for path in (tmp_path / "hỏng.gguf", tmp_path / "không có.gguf"):
        async with pool_of("a", source=Source(str(path), OPTIONS)) as pool:
            with pytest.raises(ApiError) as caught:
                await pool.start()
            assert caught.value.status == 503 and path.name not in str(caught.value)
            assert not pool.ready
            reason = vars(caplog.records[-1])["reason"]
            assert path.name in reason and str(tmp_path) not in reason and tmp_path.name not in reason


async def test_closing_ends_running_requests_with_an_error() -> None:
    async with pool_of("a") as pool:
        async with pool.use("a") as loaded:
            with generation(loaded, max_tokens=2000, ignore_eos=True) as answers:
                await anext(answers.batches())
                closing = asyncio.create_task(pool.close())
                with pytest.raises(ClosedError, match="closing") as ended:
                    await answers.answers()
                await closing
                error = as_api_error(ended.value)
                assert (error.status, error.body["error"]["code"]) == (503, "unloaded")
        with pytest.raises(ApiError, match="shutting down"):
            async with pool.use("a"):
                pass


async def test_leaving_a_generation_cancels_it() -> None:
    async with pool_of("a") as pool, pool.use("a") as loaded:
        with generation(loaded, max_tokens=2000, ignore_eos=True) as answers:
            await anext(answers.batches())
        assert len(loaded.dispatcher) == 0
        for _ in range(200):
            if not loaded.model.engine_info()["running"]:
                return
            await asyncio.sleep(0.01)
        pytest.fail("the engine still runs the request")


async def test_one_mask_per_token() -> None:
    async with pool_of("a") as pool, pool.use("a") as loaded:
        tokenizer, words = loaded.model.tokenizer, -(-loaded.model.info.vocabulary // 32)
        wanted = tokenizer.encode("xin chào bạn")

        def only(tokens: list[int]) -> bytes:
            bits = bytearray(4 * words)
            if len(tokens) < len(wanted):
                bits[wanted[len(tokens)] // 8] |= 1 << wanted[len(tokens)] % 8
            return bytes(bits)

        options = GenerationOptions(max_tokens=50)
        plan = GenerationPlan([tokenizer.text_prompt("a")], options, n=3, new_mask=lambda: only)
        with Generation(loaded.dispatcher, tokenizer, plan, Biller().begin()) as answers:
            texts = [(answer.text, answer.finish_reason) for answer in await answers.answers()]
        assert texts == [("xin chào bạn", "stop")] * 3

        def broken(tokens: list[int]) -> bytes:
            raise RuntimeError("đứt")

        plan = GenerationPlan([tokenizer.text_prompt("a")], options, new_mask=lambda: broken)
        with Generation(loaded.dispatcher, tokenizer, plan, Biller().begin()) as answers:
            with pytest.raises(Exception, match="constraint failed"):
                await answers.answers()


async def test_a_cancelled_embedding_frees_its_requests() -> None:
    async with pool_of("a") as pool, pool.use("a") as loaded:
        prompts = [loaded.model.tokenizer.text_prompt("một câu khá dài " * 50)] * 8
        plan = EmbeddingPlan(prompts, EmbeddingOptions())
        run = EmbeddingRun(loaded.dispatcher, plan)
        task = asyncio.create_task(run.vectors())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(loaded.dispatcher) == 0 and run.computed_tokens < 8 * len(prompts[0].tokens)
        assert len(await EmbeddingRun(loaded.dispatcher, plan).vectors()) == 8


async def test_aliases_share_one_load() -> None:
    sources = dict.fromkeys(("a", "b"), Source(None, OPTIONS))
    pool = ModelPool(sources, aliases={"b": "a"})
    try:
        async with pool.use("a") as one, pool.use("b") as other:
            assert one.model is other.model and (one.name, other.name) == ("a", "b")
            assert len(pool.loaded()) == 1 and pool.state("b")[0] is one.model
    finally:
        await pool.close()


async def test_a_load_that_fails_is_tried_again_when_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"GGUF")
    tried: list[int] = []

    class Counted(Source):
        def load(self) -> Any:
            tried.append(1)
            return super().load()

    async with pool_of("a", source=Counted(str(file), OPTIONS)) as pool:
        for _ in range(3):
            with pytest.raises(ApiError, match="could not load this model") as caught:
                async with pool.use("a"):
                    pass
            assert str(tmp_path) not in str(caught.value) and pool.state("a")[1]
        assert len(tried) == 1
        file.write_bytes(find_model(None).read_bytes())
        async with pool.use("a"):
            assert len(tried) == 2 and pool.state("a")[1] == ""
