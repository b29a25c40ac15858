"""runtime/server/access/limits.py: limits per caller, with a clock that the tests set."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binhdan.runtime.server.access.keys import Caller, KeyLimits
from binhdan.runtime.server.access.limits import Admission, Limiter
from binhdan.runtime.server.errors import ApiError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def caller(
    name: str = "lan", tokens_per_minute: int | None = None, max_concurrent: int | None = None
) -> Caller:
    return Caller(name, 1, KeyLimits(tokens_per_minute, max_concurrent))


async def spend(limiter: Limiter, key: Caller, prompt: int, answer: int = 0, used: int | None = None) -> None:
    async with limiter.admit(key, prompt, answer) as admission:
        if used is not None:
            admission.settle(used)


async def refusal(limiter: Limiter, key: Caller, prompt: int = 0, answer: int = 0) -> tuple[int, int, Any]:
    """Status, Retry-After and the error."""
    with pytest.raises(ApiError) as caught:
        await spend(limiter, key, prompt, answer)
    return caught.value.status, int(caught.value.headers["Retry-After"]), caught.value.body["error"]


# ---- requests at a time ------------------------------------------------------------------------------------


async def test_concurrent_requests() -> None:
    limiter = Limiter()
    key = caller(max_concurrent=2)
    async with limiter.admit(key, 1), limiter.admit(key, 1):
        status, wait, error = await refusal(limiter, key)
        assert status == 429 and wait >= 1
        assert error["code"] == "rate_limit_exceeded" and error["type"] == "requests"
        await spend(limiter, caller("mai", max_concurrent=2), 1)
        assert limiter.running == 2
    await spend(limiter, key, 1)
    assert limiter.running == 0


async def test_errors_and_cancellation_end_the_admission() -> None:
    limiter, key = Limiter(), caller(tokens_per_minute=100, max_concurrent=1)
    with pytest.raises(RuntimeError):
        async with limiter.admit(key, 50, 50):
            raise RuntimeError
    task = asyncio.create_task(_hold(limiter, key))
    await asyncio.sleep(0)
    assert limiter.running == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await spend(limiter, key, 100)  # neither was charged
    assert limiter.running == 0


async def _hold(limiter: Limiter, key: Caller) -> None:
    async with limiter.admit(key, 100):
        await asyncio.sleep(60)


async def test_the_limit_of_the_server() -> None:
    limiter = Limiter(max_running=2)
    async with limiter.admit(caller("lan"), 1), limiter.admit(caller("mai"), 1):
        status, wait, error = await refusal(limiter, caller("hoa"))
        assert status == 503 and wait >= 1 and error["code"] == "overloaded"
    await spend(limiter, caller("hoa"), 1)


# ---- tokens per minute -------------------------------------------------------------------------------------


async def test_tokens_per_minute() -> None:
    clock = Clock()
    limiter, key = Limiter(clock=clock), caller(tokens_per_minute=600)
    await spend(limiter, key, 100, 200, used=150)  # leaves 450
    status, wait, error = await refusal(limiter, key, 200, 260)
    assert (status, wait) == (429, 1) and error["type"] == "tokens"  # 10 tokens flow in per second
    assert "600 tokens a minute" in error["message"] and "450 are left" in error["message"]
    clock.now += wait
    await spend(limiter, key, 200, 260, used=460)
    assert await refusal(limiter, key, 600) == (429, 60, (await refusal(limiter, key, 600))[2])
    await spend(limiter, caller("mai", tokens_per_minute=600), 600)


async def test_a_request_larger_than_the_bucket() -> None:
    clock = Clock()
    limiter, key = Limiter(clock=clock), caller(tokens_per_minute=60)
    await spend(limiter, key, 1, used=1)
    assert (await refusal(limiter, key, 100, 100_000))[1] == 1  # needs a full bucket
    clock.now += 1
    await spend(limiter, key, 100, 100_000, used=300)  # a debt of 240
    assert (await refusal(limiter, key, 1))[1] == 241
    clock.now += 240
    assert (await refusal(limiter, key, 1))[1] == 1
    clock.now += 1
    await spend(limiter, key, 1)


async def test_settling_counts_once() -> None:
    limiter, key = Limiter(clock=Clock()), caller(tokens_per_minute=100)
    async with limiter.admit(key, 100) as admission:
        admission.settle(100)
        admission.settle(0)
    assert (await refusal(limiter, key, 1))[0] == 429


async def test_no_limits() -> None:
    limiter, key = Limiter(), caller()
    async with AsyncExitStack() as stack:
        for _ in range(50):
            await stack.enter_async_context(limiter.admit(key, 10**9, 10**9))


# ---- any sequence -----------------------------------------------------------------------------------------

RATE = 120  # tokens a minute: 2 a second


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("wait"), st.integers(0, 90)),
            st.tuples(st.just("enter"), st.integers(0, 200)),
            st.tuples(st.just("leave"), st.integers(0, 100)),  # used tokens in percent of the estimate
        ),
        max_size=60,
    )
)
async def test_any_sequence(steps: list[tuple[str, int]]) -> None:
    clock = Clock()
    limiter, key = Limiter(clock=clock), caller(tokens_per_minute=RATE, max_concurrent=3)
    running: list[tuple[Any, Admission, int]] = []
    used, excess, started = 0, 0, clock.now
    for step, number in steps:
        if step == "wait":
            clock.now += number
        elif step == "enter":
            context = limiter.admit(key, number)
            try:
                running.append((context, await context.__aenter__(), number))
                assert len(running) <= 3
            except ApiError as error:
                assert error.status == 429 and int(error.headers["Retry-After"]) >= 1
                if len(running) == 0 and used == 0:
                    raise AssertionError("a fresh key was refused") from error
        elif running:
            context, admission, estimate = running.pop(0)
            admission.settle(estimate * number // 100)
            used += estimate * number // 100
            excess = max(excess, estimate - RATE)
            await context.__aexit__(None, None, None)
        # At most a full bucket, what flowed in, and the excess of one large request.
        assert used <= RATE + (clock.now - started) * RATE / 60 + max(0, excess) + 1e-6
        assert limiter.running == len(running)
    for context, _, _ in running:
        await context.__aexit__(None, None, None)
    assert limiter.running == 0


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 400)), max_size=12), st.integers(0, 500))
async def test_after_retry_after_a_request_is_admitted(history: list[tuple[int, int]], estimate: int) -> None:
    clock = Clock()
    limiter, key = Limiter(clock=clock), caller(tokens_per_minute=RATE)
    for size, used in history:
        try:
            await spend(limiter, key, size, used=min(size, used))
        except ApiError:
            clock.now += 1
    try:
        await spend(limiter, key, estimate)
    except ApiError as error:
        clock.now += int(error.headers["Retry-After"])
        await spend(limiter, key, estimate)
