"""Limits of several servers that share a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
from postgres_server import PostgresServer, postgres

from binhdan.runtime.server.access import shared_limits
from binhdan.runtime.server.access.keys import Caller, KeyLimits
from binhdan.runtime.server.access.shared_limits import SharedLimiter
from binhdan.runtime.server.errors import ApiError


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture
async def limiters(server: PostgresServer) -> AsyncIterator[list[SharedLimiter]]:
    """Limiters of three servers."""
    limiters = [SharedLimiter(server.url) for _ in range(3)]
    yield limiters
    for limiter in limiters:
        limiter.close()


def caller(name: str, tokens_per_minute: int | None = None, max_concurrent: int | None = None) -> Caller:
    return Caller(name, 1, KeyLimits(tokens_per_minute, max_concurrent))


async def spend(limiter: SharedLimiter, key: Caller, tokens: int, used: int = 0) -> None:
    async with limiter.admit(key, tokens) as admission:
        admission.settle(used)


async def refused(limiter: SharedLimiter, key: Caller, tokens: int = 1) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await spend(limiter, key, tokens)
    assert caught.value.status == 429
    return caught.value


async def test_concurrent_requests_count_on_all_servers(limiters: list[SharedLimiter]) -> None:
    one, two, three = limiters
    key = caller("lan", max_concurrent=2)
    async with one.admit(key, 1), two.admit(key, 1):
        error = await refused(three, key)
        assert "this API key has 2 running requests; its limit is 2" in str(error)
        await spend(three, caller("mai", max_concurrent=2), 1)
    for limiter in (one, two):
        await limiter.settled()
    await spend(three, key, 1)


async def test_tokens_are_charged_on_all_servers(limiters: list[SharedLimiter]) -> None:
    one, two, three = limiters
    key = caller("tokens", tokens_per_minute=1000)
    await spend(one, key, 600, used=600)
    await one.settled()
    error = await refused(two, key, 600)
    assert 1 <= int(error.headers["Retry-After"]) <= 13
    async with two.admit(key, 300) as admission:  # the unused part comes back
        await refused(three, key, 300)
        admission.settle(50)
        admission.settle(300)
        await two.settled()
        await spend(three, key, 300, used=300)


async def test_keys_without_limits_do_not_use_the_database(limiters: list[SharedLimiter]) -> None:
    free = caller("free")
    async with limiters[0].admit(free, 10**9) as admission:
        assert type(admission).__name__ == "Admission"


async def test_cancelled_requests_end_their_admissions(limiters: list[SharedLimiter]) -> None:
    key = caller("cancelled", max_concurrent=1)
    for _ in range(20):
        task = asyncio.create_task(spend(limiters[0], key, 1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await limiters[0].settled()
    await limiters[0].settled()
    await spend(limiters[1], key, 1)


def use_all(url: str, results: multiprocessing.SimpleQueue[tuple[int, int]]) -> None:
    """As many admissions as the key allows, in another process; then the most that ran together there."""

    async def main() -> tuple[int, int]:
        limiter, key, admitted = SharedLimiter(url), caller("busy", 500, 4), 0
        running = highest = 0

        async def one() -> None:
            nonlocal admitted, running, highest
            try:
                async with limiter.admit(key, 10) as admission:
                    running += 1
                    highest = max(highest, running)
                    await asyncio.sleep(0.001)
                    admission.settle(10)
                    admitted += 1
                    running -= 1
            except ApiError:
                await asyncio.sleep(0.005)

        for _ in range(60):
            await asyncio.gather(*(one() for _ in range(4)))
        await limiter.settled()
        limiter.close()
        return admitted, highest

    results.put(asyncio.run(main()))


def test_several_processes_exceed_no_limit(server: PostgresServer) -> None:
    from binhdan.runtime.server.postgres import Database

    Database(server.url).close()  # makes the tables
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.SimpleQueue[tuple[int, int]] = context.SimpleQueue()
    processes = [context.Process(target=use_all, args=(server.url, results)) for _ in range(3)]
    begin = asyncio.new_event_loop().time()
    for process in processes:
        process.start()
    outcomes = [results.get() for _ in processes]
    for process in processes:
        process.join()
    minutes = (asyncio.new_event_loop().time() - begin) / 60
    admitted = sum(count for count, _ in outcomes)
    # One minute's tokens at the start, and those of the time that the processes ran.
    assert 50 <= admitted <= 50 * (1 + minutes) + 1
    assert all(highest <= 4 for _, highest in outcomes)


async def test_a_server_that_is_dead_no_longer_counts(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_limits, "BEAT_SECONDS", 0.1)
    key = caller("dead", max_concurrent=1)
    alive, dead = SharedLimiter(server.url), SharedLimiter(server.url)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(dead.admit(key, 1))
        await asyncio.sleep(0.5)
        await refused(alive, key)
        dead._closed.set()  # no beats any more, as after SIGKILL
        monkeypatch.setattr(shared_limits, "LOST_SECONDS", 0.3)
        await asyncio.sleep(1.0)
        await spend(alive, key, 1)
    alive.close()


async def test_without_the_database_each_server_limits_by_itself(
    server: PostgresServer, limiters: list[SharedLimiter], caplog: pytest.LogCaptureFixture
) -> None:
    key = caller("away", max_concurrent=1)
    async with limiters[0].admit(key, 1):
        server.stop(signal.SIGKILL)
        try:
            async with limiters[1].admit(key, 1):
                await refused(limiters[1], key)
            assert len([text for text in caplog.messages if "limits are not shared" in text]) == 1
        finally:
            server.start()
    await asyncio.sleep(1.2)  # a failed connection is tried again after a second
    async with limiters[2].admit(key, 1):
        await refused(limiters[1], key)
