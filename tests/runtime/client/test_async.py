"""The asyncio methods of runtime/client/model.py and AsyncStream of runtime/client/stream.py."""

from __future__ import annotations

import asyncio
import time

import pytest
from masks import every_token

import binhdan

PROMPT = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam"


async def idle(model: binhdan.Model) -> bool:
    """True once the engine has no requests; waits up to 10 seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        report = model.engine_info()
        if report["running"] == report["waiting"] == 0:
            return True
        await asyncio.sleep(0.01)
    return False


async def test_pieces_and_answers(model: binhdan.Model) -> None:
    stream = model.aask(PROMPT)
    assert "".join([piece.text async for piece in stream]) == ANSWER
    assert (await stream.answer()).finish_reason == "stop"
    assert (await model.achat([{"role": "user", "content": PROMPT}])).text == ANSWER
    assert (await model.acomplete("Hà Nội", max_tokens=3, ignore_eos=True)).answer_tokens == 3


async def test_many_concurrent_requests(model: binhdan.Model) -> None:
    answers = await asyncio.gather(*(model.aask(PROMPT).answer() for _ in range(12)))
    assert [answer.text for answer in answers] == [ANSWER] * 12


async def test_embeddings(model: binhdan.Model) -> None:
    assert await model.aembed("Việt Nam") == pytest.approx(model.embed("Việt Nam"))
    assert len(await model.aembed(["một", "hai"])) == 2


async def test_leaving_the_loop_cancels(model: binhdan.Model) -> None:
    async for _ in model.acomplete("Hà Nội", ignore_eos=True):
        break
    assert await idle(model)


async def test_a_cancelled_task_cancels(model: binhdan.Model) -> None:
    async def read() -> None:
        async for _ in model.acomplete("Hà Nội", ignore_eos=True, mask=every_token(model)):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await idle(model)


async def test_a_timeout_cancels(model: binhdan.Model) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await model.acomplete("Hà Nội " * 400, ignore_eos=True, mask=every_token(model))
    assert await idle(model)


async def test_the_event_loop_keeps_running(model: binhdan.Model) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticker = asyncio.create_task(tick())
    for _ in range(20):  # on a busy machine the loop may get no time during a short answer
        ticks = 0
        await model.aask("Hà Nội " * 60, max_tokens=64, ignore_eos=True)
        if ticks > 3:
            break
    ticker.cancel()
    assert ticks > 3


async def test_errors_are_raised_with_the_first_piece(model: binhdan.Model) -> None:
    stream = model.aask("")
    with pytest.raises(binhdan.InvalidArgumentError, match="empty"):
        await stream
    closed = model.aask(PROMPT)
    closed.close()
    with pytest.raises(binhdan.ClosedError):
        await closed


async def test_a_mask(model: binhdan.Model) -> None:
    token = model.tokenize(" một")[0]
    bits = bytearray((model.info.vocabulary + 31) // 32 * 4)
    bits[token // 8] |= 1 << token % 8
    answer = await model.acomplete("Việt Nam", mask=lambda _: bits, max_tokens=4)
    assert answer.tokens == (token,) * 4


async def test_context_manager(model: binhdan.Model) -> None:
    async with model.acomplete("Hà Nội", ignore_eos=True) as stream:
        async for _ in stream:
            break
    assert (await stream.answer()).finish_reason == "cancelled"
    assert await idle(model)
