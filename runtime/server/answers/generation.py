"""Generation of the answers of one HTTP request: one or more prompts, n answers to each, one stream of
pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from binhdan.runtime.client.request import AnswerBuilder, TokenMask
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.ffi import Event
from binhdan.runtime.options import GenerationOptions
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, Piece, TokenLogprob
from binhdan.runtime.server.accounting.bill import Work
from binhdan.runtime.server.models.dispatcher import Dispatcher

_RETRY_TEMPERATURE = 0.7  # at least, of the second attempt at an answer


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """The prompts of a request, and the settings that all its answers share.

    `new_mask` makes the token mask of one answer; None: no constraint. Requests with different `cache_salt`
    share nothing in the prefix cache.
    """

    prompts: Sequence[Prompt]
    options: GenerationOptions
    n: int = 1  # answers to each prompt
    new_mask: Callable[[], TokenMask] | None = None
    cache_salt: int = 0
    use_cache: bool = True
    # Also compute the log probability of each token of the prompts, and so many of the most likely tokens.
    score_prompts: int | None = None
    # Generate an answer once more if the check of its mask rejects it. Not for streams, whose clients have
    # the first attempt already.
    retry_invalid: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts; each prompt counts once, whatever `n` is."""
        return sum(len(prompt.tokens) for prompt in self.prompts)


class Generation:
    """The running answers of a plan. Use it in a `with`: leaving it cancels the answers that still run.

    Answer i * n + j is the j-th answer to prompt i. `work` counts what the engine has computed, for the bill.
    """

    def __init__(
        self, dispatcher: Dispatcher, tokenizer: Tokenizer, plan: GenerationPlan, work: Work
    ) -> None:
        self._dispatcher = dispatcher
        self._tokenizer = tokenizer
        self._plan = plan
        self._work = work
        self._pieces: list[tuple[int, Piece]] = []  # not yet returned by `batches`
        self._changed = asyncio.Event()  # new pieces, an error, or an end
        self._error: BinhdanError | None = None
        self._builders: list[AnswerBuilder] = []
        self._running: dict[int, int] = {}  # index of an answer -> number of its engine request
        self._begun: set[int] = set()  # answers that have a first token
        self._checks: set[asyncio.Task[None]] = set()  # of complete answers, under their schemas
        self._invalid: set[int] = set()  # answers that do not fit
        self._rejected: dict[int, Answer] = {}  # first attempts that did not fit
        # Of each prompt, the log probability of each token; None for the first one, which nothing precedes.
        self.prompt_logprobs: list[list[TokenLogprob | None]] = [
            [None] * min(1, len(prompt.tokens)) for prompt in plan.prompts
        ]
        try:
            if plan.score_prompts is not None:
                for i, prompt in enumerate(plan.prompts):
                    self._score(i, prompt, plan.score_prompts)
            for prompt in plan.prompts:
                for j in range(plan.n):
                    self._start(prompt, _with_seed(plan.options, j))
        except BaseException:
            self.close()
            raise

    async def batches(self) -> AsyncIterator[list[tuple[int, Piece]]]:
        """Lists of (index of the answer, piece): the pieces since the last list. Raises the error that ended
        an answer."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._error is not None:
                raise self._error
            pieces, self._pieces = self._pieces, []
            if pieces:
                yield pieces
            if not self._running and not self._pieces:
                return

    async def answers(self) -> list[Answer]:
        """Waits for the last answer to end and returns all answers. Raises the error that ended one."""
        async for _ in self.batches():
            pass
        return [self.answer(index) for index in range(len(self))]

    def answer(self, index: int) -> Answer:
        """One answer: complete, or the part that exists so far."""
        answer = self._builders[index].answer()
        return replace(answer, finish_reason="invalid") if index in self._invalid else answer

    def attempts(self, index: int) -> list[Answer]:
        """The attempts at one answer: one, or with `retry_invalid` two. The last one is the answer."""
        rejected = self._rejected.get(index)
        return [*([] if rejected is None else [rejected]), self.answer(index)]

    def all_attempts(self) -> list[Answer]:
        """The attempts at all answers."""
        return [one for index in range(len(self)) for one in self.attempts(index)]

    def finished(self, index: int) -> bool:
        return index not in self._running

    @property
    def ended(self) -> bool:
        """True if no answer runs and none has failed."""
        return not self._running and self._error is None

    def __len__(self) -> int:
        """The number of answers."""
        return len(self._builders)

    def close(self) -> None:
        """Cancels the answers that still run. Further calls do nothing."""
        running, self._running = self._running, {}
        for number in running.values():
            self._dispatcher.cancel(number)
        for check in self._checks:
            check.cancel()

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, prompt: Prompt, options: GenerationOptions) -> None:
        """Starts another answer."""
        self._builders.append(AnswerBuilder(prompt, self._tokenizer, options))
        self._submit(len(self._builders) - 1, prompt, options)

    def _submit(self, index: int, prompt: Prompt, options: GenerationOptions) -> None:
        """Starts an attempt at an answer, whose builder is new."""
        plan, builder = self._plan, self._builders[index]
        mask = plan.new_mask() if plan.new_mask is not None else None
        fits: Callable[[str], bool] | None = getattr(mask, "check", None)

        def handle(event: Event | BinhdanError) -> None:
            if isinstance(event, BinhdanError):
                self._error = event
                self._running.pop(index, None)
            else:
                self._count_work(event, index, prompt)
                self._pieces += [(index, piece) for piece in builder.feed(event)]
                if event.kind == "finished":
                    self._finish(index, fits, lambda: self._retry(index, prompt, options))
            self._changed.set()

        self._running[index] = self._dispatcher.submit(
            prompt.tokens,
            prompt.settings(options),
            handle,
            mask=mask,
            cache_salt=plan.cache_salt,
            use_cache=plan.use_cache,
        )

    def _finish(self, index: int, fits: Callable[[str], bool] | None, retry: Callable[[], None]) -> None:
        """Ends an answer. A complete one is first checked, if its mask does not enforce all of its schema."""
        answer = self._builders[index].answer()
        if fits is None or answer.finish_reason != "stop":
            self._running.pop(index, None)
            return

        async def check() -> None:
            ended = True
            try:
                if not await asyncio.to_thread(fits, answer.text):
                    if self._plan.retry_invalid and index not in self._rejected:
                        retry()
                        ended = False
                    else:
                        self._invalid.add(index)
            except BinhdanError as error:
                self._error = error
            finally:
                if ended:
                    self._running.pop(index, None)
                self._changed.set()

        self._checks.add(asyncio.create_task(check()))

    def _retry(self, index: int, prompt: Prompt, options: GenerationOptions) -> None:
        """Starts the second attempt at an answer. It is sampled: the most likely answer was the first one."""
        self._rejected[index] = self._builders[index].answer()
        self._begun.discard(index)
        options = replace(
            _with_seed(options, self._plan.n), temperature=max(options.temperature, _RETRY_TEMPERATURE)
        )
        self._builders[index] = AnswerBuilder(prompt, self._tokenizer, options)
        self._submit(index, prompt, options)

    def _score(self, i: int, prompt: Prompt, top: int) -> None:
        """Starts to score a prompt. In `_running` its index is negative: -1 for the first prompt."""
        if len(prompt.tokens) < 2:
            return
        index = -1 - i

        def handle(event: Event | BinhdanError) -> None:
            if isinstance(event, BinhdanError):
                self._error = event
            elif event.kind == "scores":
                self.prompt_logprobs[i] += _scored(self._tokenizer, prompt.tokens[1:], event, top)
                return
            self._running.pop(index, None)
            self._changed.set()

        self._running[index] = self._dispatcher.submit_scoring(prompt.tokens, 1, handle, top)

    def _count_work(self, event: Event, index: int, prompt: Prompt) -> None:
        if event.kind != "token":
            return
        if index in self._begun:
            self._work.tokens()
        else:
            self._begun.add(index)
            self._work.first_token(len(prompt.tokens))


def _with_seed(options: GenerationOptions, offset: int) -> GenerationOptions:
    """The options with another seed, if they have one: with equal seeds answers would be equal."""
    if options.seed is None or not offset:
        return options
    return replace(options, seed=(options.seed + offset) % 2**64)


def _scored(tokenizer: Tokenizer, tokens: Sequence[int], event: Event, top: int) -> list[TokenLogprob]:
    """The log probabilities in an event "scores", with the `top` most likely tokens in the place of each."""
    text = tokenizer.token_text
    return [
        TokenLogprob(
            token,
            text(token),
            value,
            tuple(
                TokenLogprob(one, text(one), logprob)
                for one, logprob in event.top[i * top : (i + 1) * top]
                if one >= 0
            ),
        )
        for i, (token, value) in enumerate(zip(tokens, event.values, strict=True))
    ]
