"""Conveniences of the client: content parts, plain dicts, coroutines, waiting for a place, notebooks."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from typing import Any

import pytest

import binhdan

PROMPT = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam"


def test_content_parts_and_plain_dicts(model: binhdan.Model) -> None:
    parts = [
        {"type": "text", "text": "them dau: ha noi "},
        {"type": "text", "text": "la thu do cua viet nam"},
    ]
    assert model.chat([{"role": "user", "content": parts}]).text == ANSWER
    messages = [{"role": "user", "content": PROMPT}]  # mypy: list[dict[str, str]]
    assert model.chat(messages).text == ANSWER
    wanted: bool = len(messages) > 1
    assert not isinstance(model.chat(messages, stream=wanted), binhdan.Stream)
    with pytest.raises(binhdan.InvalidArgumentError, match="content part without text"):
        model.chat([{"role": "user", "content": [{"type": "image_url"}]}])


async def test_an_async_stream_is_a_coroutine(model: binhdan.Model) -> None:
    task = asyncio.create_task(model.aask(PROMPT))
    assert (await task).text == ANSWER
    answers = await asyncio.gather(model.aask(PROMPT), model.achat([{"role": "user", "content": PROMPT}]))
    assert [answer.text for answer in answers] == [ANSWER] * 2
    task = asyncio.create_task(model.acomplete("Hà Nội", ignore_eos=True, max_tokens=None))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_async_with() -> None:
    async with binhdan.load(threads=1) as model:
        assert (await model.aask(PROMPT)).text == ANSWER
    assert "closed" in repr(model)
    with pytest.raises(binhdan.ClosedError):
        model.ask(PROMPT)


def test_repr(model: binhdan.Model) -> None:
    text = repr(model)
    assert model.path.name in text and "1 threads" in text and f"context {model.context:,}" in text


@pytest.mark.parametrize("wait", [False, True])
def test_a_full_engine(wait: bool) -> None:
    with binhdan.load(threads=1, max_sequences=1, max_waiting=1, wait_when_busy=wait) as model:
        answers: list[str] = []
        errors: list[binhdan.BusyError] = []

        def ask() -> None:
            try:
                answers.append(model.ask(PROMPT).text)
            except binhdan.BusyError as error:
                errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) == {ANSWER} and len(answers) + len(errors) == 12
        assert not errors or not wait


async def test_a_full_engine_with_tasks() -> None:
    with binhdan.load(threads=1, max_sequences=1, max_waiting=1, wait_when_busy=True) as model:
        answers = await asyncio.gather(*(model.aask(PROMPT) for _ in range(8)))
        assert [answer.text for answer in answers] == [ANSWER] * 8


def test_a_notebook_shows_a_stream(model: binhdan.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, text: str) -> None:
            shown.append(text)

    def display(text: str, display_id: bool) -> Any:
        shown.append(text)
        return Handle()

    notebook = types.ModuleType("IPython.display")
    notebook.Markdown = str  # type: ignore[attr-defined]
    notebook.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    model.ask(PROMPT, stream=True)._ipython_display_()
    assert shown[0] == "" and shown[-1] == ANSWER
    assert model.ask(PROMPT)._repr_markdown_() == ANSWER
