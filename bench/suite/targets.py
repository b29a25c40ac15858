"""What is asked: our engine in this process, or a server.

Nothing is read out of an answer while the clock runs: what `ask` gives is read by calling it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import binhdan
from binhdan.bench.load.chat_client import ChatClient, chat_body
from binhdan.runtime.client.model import Model
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.results import Answer


@dataclass(frozen=True, slots=True)
class Question:
    """One request: what to say, how many tokens of answer, and for how many characters they stand."""

    messages: Sequence[Message]
    tokens: int
    characters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One answer, in seconds of perf_counter."""

    due: float  # when it was to be asked
    first: float  # when its first text came
    ended: float
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    characters: int = 0
    error: str | None = None

    @property
    def first_token_s(self) -> float:
        return self.first - self.due

    @property
    def end_to_end_s(self) -> float:
        return self.ended - self.due

    @property
    def per_token_s(self) -> float:
        """After the first token; 0 for an answer of one token, which has none."""
        return (self.ended - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0


class Target(Protocol):
    """Something that answers."""

    async def ask(self, question: Question, due: float) -> Callable[[], Sample]:
        """Does not raise: what failed is in the sample."""

    async def answer(self, messages: Sequence[Message], most_tokens: int) -> str:
        """A greedy answer to its end. Raises BinhdanError."""

    async def count(self, text: str) -> int:
        """Tokens of an answer that says `text`; estimated for a server that cannot be asked."""


class InProcess:
    """Our engine, driven as an app with asyncio does it."""

    def __init__(self, model: Model) -> None:
        self.model = model

    async def ask(self, question: Question, due: float) -> Callable[[], Sample]:
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
        return lambda: self._sample(question, due, first or ended, ended, answer, error)

    async def answer(self, messages: Sequence[Message], most_tokens: int) -> str:
        return (await self.model.achat(messages, max_tokens=most_tokens)).text

    async def count(self, text: str) -> int:
        return len(self.model.tokenize(text))

    @staticmethod
    def _sample(
        question: Question, due: float, first: float, ended: float, answer: Answer | None, error: str | None
    ) -> Sample:
        if answer is None:
            return Sample(due=due, first=first, ended=ended, error=error or "no answer")
        if answer.answer_tokens != question.tokens:
            error = f"{answer.answer_tokens} tokens instead of {question.tokens}: {answer.finish_reason}"
        return Sample(
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
    """A server with OpenAI's API. Its tokens are counted by itself, or estimated by its prompts' sizes."""

    def __init__(self, client: ChatClient, model: str, tokens_per_character: float) -> None:
        self.client, self.model, self.tokens_per_character = client, model, tokens_per_character

    async def ask(self, question: Question, due: float) -> Callable[[], Sample]:
        body = chat_body(self.model, _plain(question.messages), question.tokens)
        call = await self.client.chat(body, due)

        def read() -> Sample:
            reply = call.reply()
            tokens = len(reply.times) if reply.answer_tokens is None else reply.answer_tokens
            error = reply.error
            if error is None and tokens != question.tokens:
                # A server that knows no ignore_eos answers as long as it likes: another amount of work.
                error = f"{tokens} tokens instead of {question.tokens}: it may not know ignore_eos"
            return Sample(
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

    async def answer(self, messages: Sequence[Message], most_tokens: int) -> str:
        body = chat_body(self.model, _plain(messages), most_tokens, ignore_eos=False)
        reply = (await self.client.chat(body)).reply()
        if reply.error is not None:
            raise binhdan.BinhdanError(f"no answer: {reply.error}")
        return reply.text

    async def count(self, text: str) -> int:
        return max(1, round(len(text) * self.tokens_per_character))


def _plain(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": str(one["role"]), "content": str(one["content"])} for one in messages]
