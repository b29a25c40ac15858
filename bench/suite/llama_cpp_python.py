"""llama.cpp in this process, as the installed llama-cpp-python brings it, to be asked the same questions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from binhdan.bench.micro.engines import INSTALL_LLAMA_CPP_PYTHON, LlamaCppPython
from binhdan.bench.suite.targets import Question, Sample
from binhdan.runtime.client.model import Model
from binhdan.runtime.errors import BinhdanError, UnsupportedError
from binhdan.runtime.prompting.chat import Message

_MOST_CONTEXT = 8192  # a longer one takes memory before it is used


class LlamaCpp:
    """Prompts are ours, token for token: `model` is the same file, opened for its vocabulary and template.

    llama-cpp-python answers one request at a time; others wait. It computes only what the prompt does not
    share with the one before, as ours does with all that it remembers.
    """

    def __init__(self, path: Path, model: Model, threads: int) -> None:
        """Raises UnsupportedError without llama-cpp-python, BinhdanError for a file that it cannot load."""
        if not LlamaCppPython.installed():
            raise UnsupportedError(f"llama-cpp-python is not installed: {INSTALL_LLAMA_CPP_PYTHON}")
        import llama_cpp

        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        self._model, self._context = model, min(model.context, _MOST_CONTEXT)
        try:
            self._llama: Any = llama_cpp.Llama(
                str(path),
                n_ctx=self._context,
                n_batch=2048,
                n_threads=threads,
                n_threads_batch=threads,
                verbose=False,
            )
        except ValueError as error:
            raise BinhdanError(f"llama.cpp: {error}") from error
        self._is_end = llama_cpp.llama_vocab_is_eog
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._llama.model)
        self._turn = asyncio.Lock()

    async def ask(self, question: Question, due: float) -> Callable[[], Sample]:
        tokens = self._model.chat_tokens(question.messages)
        if error := self._too_long(len(tokens), question.tokens):
            now = perf_counter()
            return lambda: Sample(due=due, first=now, ended=now, error=error)
        async with self._turn:
            first, ended = await asyncio.to_thread(self._time, tokens, question.tokens)
        return lambda: Sample(
            due=due,
            first=first,
            ended=ended,
            tokens=question.tokens,
            prompt_tokens=len(tokens),
            characters=question.characters,
        )

    async def answer(self, messages: Sequence[Message], most_tokens: int) -> str:
        tokens = self._model.chat_tokens(messages)
        async with self._turn:
            answer = await asyncio.to_thread(self._answer, tokens, most_tokens)
        return self._model.detokenize(answer)

    async def count(self, text: str) -> int:
        return len(self._model.tokenize(text))

    def _time(self, tokens: list[int], count: int) -> tuple[float, float]:
        """When the first token was there, and the last."""
        pieces = self._greedy(tokens)
        next(pieces)
        first = perf_counter()
        for _ in islice(pieces, count - 1):
            pass
        return first, perf_counter()

    def _answer(self, tokens: list[int], most: int) -> list[int]:
        answer: list[int] = []
        for token in islice(self._greedy(tokens), most):
            if self._is_end(self._vocabulary, token):
                break
            answer.append(token)
        return answer

    def _greedy(self, tokens: list[int]) -> Iterator[int]:
        return iter(self._llama.generate(tokens, temp=0.0, repeat_penalty=1.0))

    def _too_long(self, prompt: int, answer: int) -> str | None:
        if prompt + answer <= self._context:
            return None
        return (
            f"{prompt} tokens and {answer} of answer are more than the {self._context} of llama.cpp's context"
        )
