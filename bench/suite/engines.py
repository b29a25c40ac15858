"""The engines that the suite measures: binhdan in this process, a server, or llama.cpp in this process.

`ask` stops the clock at the last token and returns a function. The caller calls this function after the
trial, to read the timed answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import binhdan
from binhdan.bench.load.chat_client import ChatClient, chat_body
from binhdan.bench.load.prompts import count_tokens
from binhdan.bench.micro import llama_cpp
from binhdan.bench.suite.workloads import load_workload
from binhdan.runtime.client.model import Model
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.results import Answer

LLAMA_CPP_PYTHON = "llama-cpp-python"  # its name on the command line
_MAX_LLAMA_CONTEXT = 8192  # llama.cpp allocates the whole context at once


@dataclass(frozen=True, slots=True)
class Question:
    """One request: messages, the number of answer tokens, and the characters that they correspond to."""

    messages: Sequence[Message]
    tokens: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedAnswer:
    """One answer. `due`, `first` and `ended` are times of perf_counter."""

    due: float  # when the request should be sent
    first: float  # the first text arrived
    ended: float
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    characters: int = 0
    error: str | None = None

    @property
    def ttft_s(self) -> float:
        return self.first - self.due

    @property
    def end_to_end_s(self) -> float:
        return self.ended - self.due

    @property
    def tpot_s(self) -> float:
        """Mean time of a token after the first; 0 for an answer of one token."""
        return (self.ended - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0


class Engine(Protocol):
    """An engine under test."""

    async def ask(self, question: Question, due: float) -> Callable[[], TimedAnswer]:
        """Does not raise: a failure is in TimedAnswer.error."""

    async def answer(self, messages: Sequence[Message], max_tokens: int) -> str:
        """A greedy answer up to its end token. Raises BinhdanError."""

    async def count(self, text: str) -> int:
        """Number of tokens of an answer with the text `text`; an estimate for a server."""


class InProcess:
    """binhdan in this process, used as an asyncio application uses it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def ask(self, question: Question, due: float) -> Callable[[], TimedAnswer]:
        options = GenerationOptions(max_tokens=question.tokens, ignore_eos=True)
        first, answer, error = 0.0, None, None
        try:
            stream = self.model.achat(question.messages, options=options)
            async for _ in stream:
                first = first or perf_counter()
            answer = await stream.answer()
        except binhdan.BinhdanError as failure:
            error = str(failure)
        ended = perf_counter()
        return lambda: self._timed(question, due, first or ended, ended, answer, error)

    async def answer(self, messages: Sequence[Message], max_tokens: int) -> str:
        return (await self.model.achat(messages, max_tokens=max_tokens)).text

    async def count(self, text: str) -> int:
        return len(self.model.tokenize(text))

    @staticmethod
    def _timed(
        question: Question, due: float, first: float, ended: float, answer: Answer | None, error: str | None
    ) -> TimedAnswer:
        if answer is None:
            return TimedAnswer(
                due=due,
                first=first,
                ended=ended,
                error=error or f"expected {question.tokens} answer tokens, got none",
            )
        if answer.answer_tokens != question.tokens:
            error = (
                f"expected {question.tokens} answer tokens, got {answer.answer_tokens} "
                f"(finish reason {answer.finish_reason})"
            )
        return TimedAnswer(
            due=due,
            first=first,
            ended=ended,
            tokens=answer.answer_tokens,
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=answer.cached_tokens,
            characters=question.characters,
            error=error,
        )


class Server:
    """A server with OpenAI's API. It counts its tokens itself; `count` estimates them by the text length."""

    def __init__(self, client: ChatClient, model: str, tokens_per_character: float) -> None:
        self.client, self.model, self.tokens_per_character = client, model, tokens_per_character

    @staticmethod
    async def connect(client: ChatClient, model: str | None) -> Server:
        """`model` None: the first model that the server lists. Raises BinhdanError."""
        name = model or await client.model()
        text = "\n".join(turn.answer for turn in load_workload("short").turns)
        return Server(client, name, await count_tokens(client, name, text) / len(text))

    async def ask(self, question: Question, due: float) -> Callable[[], TimedAnswer]:
        body = chat_body(self.model, _plain(question.messages), question.tokens)
        call = await self.client.chat(body, due)

        def read() -> TimedAnswer:
            reply = call.reply()
            tokens = len(reply.times) if reply.answer_tokens is None else reply.answer_tokens
            error = reply.error
            if error is None and tokens != question.tokens:
                # A server without ignore_eos stops early: the amount of work differs.
                error = (
                    f"expected {question.tokens} answer tokens, got {tokens}: "
                    "the server may not support ignore_eos"
                )
            return TimedAnswer(
                due=due,
                first=reply.times[0] if reply.times else reply.ended,
                ended=reply.ended,
                tokens=tokens,
                prompt_tokens=reply.prompt_tokens or 0,
                cached_tokens=reply.cached_tokens or 0,
                characters=question.characters,
                error=error,
            )

        return read

    async def answer(self, messages: Sequence[Message], max_tokens: int) -> str:
        body = chat_body(self.model, _plain(messages), max_tokens, ignore_eos=False)
        reply = (await self.client.chat(body)).reply()
        if reply.error is not None:
            raise binhdan.BinhdanError(f"no answer: {reply.error}")
        return reply.text

    async def count(self, text: str) -> int:
        return max(1, round(len(text) * self.tokens_per_character))


class LlamaCpp:
    """llama.cpp in this process, one request at a time.

    It gets the same prompt tokens as binhdan: `model` is the same file, opened for its vocabulary and chat
    template. Raises UnsupportedError without llama-cpp-python, BinhdanError for a file that it cannot load.
    """

    def __init__(self, path: Path, model: Model, threads: int) -> None:
        self._model, self._context = model, min(model.context, _MAX_LLAMA_CONTEXT)
        self._generator = llama_cpp.Generator(path, context=self._context, threads=threads)
        self.version = self._generator.version
        self._lock = asyncio.Lock()

    async def ask(self, question: Question, due: float) -> Callable[[], TimedAnswer]:
        tokens = self._model.chat_tokens(question.messages)
        if len(tokens) + question.tokens > self._context:
            now = perf_counter()
            error = (
                f"expected prompt and answer to fit into {self._context} tokens of context, "
                f"got {len(tokens)} and {question.tokens}"
            )
            return lambda: TimedAnswer(due=due, first=now, ended=now, error=error)
        async with self._lock:
            first, ended = await asyncio.to_thread(self._generator.time, tokens, question.tokens)
        return lambda: TimedAnswer(
            due=due,
            first=first,
            ended=ended,
            tokens=question.tokens,
            prompt_tokens=len(tokens),
            characters=question.characters,
        )

    async def answer(self, messages: Sequence[Message], max_tokens: int) -> str:
        tokens = self._model.chat_tokens(messages)
        async with self._lock:
            answer = await asyncio.to_thread(self._generator.answer, tokens, max_tokens)
        return self._model.detokenize(answer)

    async def count(self, text: str) -> int:
        return len(self._model.tokenize(text))


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": str(one["role"]), "content": str(one["content"])} for one in messages]
