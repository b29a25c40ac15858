"""Log probabilities of texts, decisions between options, and logits, by a loaded model."""

from __future__ import annotations

import array
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from binhdan.runtime.client.adapter import Adapter, handle_of
from binhdan.runtime.client.base import ModelBase
from binhdan.runtime.client.stream import SLICE_MS
from binhdan.runtime.errors import BinhdanError, BusyError, InvalidArgumentError
from binhdan.runtime.prompting.chat import AnyMessage
from binhdan.runtime.results import Decision, TokenLogprob

# A text as in complete(), its tokens, or a conversation as in chat().
PromptOrMessages = str | Sequence[int] | Sequence[AnyMessage]


@dataclass(frozen=True, slots=True)
class _Work:
    """Tokens, and the first one to score; None: the logits after the last."""

    tokens: Sequence[int]
    score_from: int | None


class Scorer(ModelBase):
    """The methods that compute probabilities. A prompt is a text as in complete(), its tokens, or a
    conversation as in chat(). `adapter` is one of Model.load_adapter. All raise TooLargeError for a text that
    the context cannot hold."""

    def score(
        self, prompt: PromptOrMessages, text: str, *, adapter: Adapter | None = None
    ) -> list[TokenLogprob]:
        """The log probability of each token of `text` after the prompt: what the model would have to choose
        to write it. Their sum is the log probability of the text."""
        work = self._work(prompt, self._prompt_tokens(prompt), text)
        assert work.score_from is not None
        (values,) = self._values([work], adapter)
        scored = work.tokens[work.score_from :]
        return [
            TokenLogprob(token, self.tokenizer.token_text(token), value)
            for token, value in zip(scored, values, strict=True)
        ]

    def choose(
        self,
        prompt: PromptOrMessages,
        options: Sequence[str],
        *,
        prior: PromptOrMessages | None = None,
        adapter: Adapter | None = None,
    ) -> Decision:
        """How likely each option is as the answer, if the answer is one of them.

        All options share the computation of the prompt, and one batch. If the tokens of one option begin
        another, the end of the answer counts, too. `prior` is a prompt with the same question and no content,
        such as "N/A": the options' log probabilities after it are subtracted, which removes the preference of
        the model for frequent words (Zhao et al. 2021).
        """
        if len(options) < 2 or len(set(options)) != len(options):
            raise InvalidArgumentError(
                f"options: expected at least two different texts, got {list(options)!r}", param="options"
            )
        work = self._options(prompt, options)
        ends = _needs_end(work)
        if prior is not None:
            work += self._options(prior, options)
        if ends and self.info.eos is not None:
            work = [_Work([*one.tokens, self.info.eos], one.score_from) for one in work]
        sums = [math.fsum(values) for values in self._values(work, adapter)]
        count = len(options)
        logprobs = sums[:count]
        if prior is not None:
            logprobs = [value - base for value, base in zip(logprobs, sums[count:], strict=True)]
        best = max(logprobs)
        total = math.fsum(math.exp(value - best) for value in logprobs)
        return Decision(
            options[logprobs.index(best)],
            {o: math.exp(value - best) / total for o, value in zip(options, logprobs, strict=True)},
            dict(zip(options, logprobs, strict=True)),
        )

    def logits(self, prompt: PromptOrMessages, *, adapter: Adapter | None = None) -> array.array[float]:
        """The logits after the prompt, one for each token of the vocabulary: an array of type "f"."""
        (values,) = self._values([_Work(self._prompt_tokens(prompt), None)], adapter)
        return values

    async def ascore(
        self, prompt: PromptOrMessages, text: str, *, adapter: Adapter | None = None
    ) -> list[TokenLogprob]:
        """`score` for asyncio."""
        import asyncio

        return await asyncio.to_thread(lambda: self.score(prompt, text, adapter=adapter))

    async def achoose(
        self,
        prompt: PromptOrMessages,
        options: Sequence[str],
        *,
        prior: PromptOrMessages | None = None,
        adapter: Adapter | None = None,
    ) -> Decision:
        """`choose` for asyncio."""
        import asyncio

        return await asyncio.to_thread(lambda: self.choose(prompt, options, prior=prior, adapter=adapter))

    # ---- internals -----------------------------------------------------------------------------------------

    def _prompt_tokens(self, prompt: PromptOrMessages) -> list[int]:
        if isinstance(prompt, str):
            return list(self.tokenizer.text_prompt(prompt).tokens)
        messages = [item for item in prompt if not isinstance(item, int)]
        if messages:
            return list(self.tokenizer.chat_prompt(messages).tokens)
        return [item for item in prompt if isinstance(item, int)]

    def _options(self, prompt: PromptOrMessages, options: Sequence[str]) -> list[_Work]:
        before = self._prompt_tokens(prompt)
        return [self._work(prompt, before, option) for option in options]

    def _work(self, prompt: PromptOrMessages, before: list[int], text: str) -> _Work:
        """The prompt, which has the tokens `before`, with the text after it. Of a text, both are tokenized
        together: the scored tokens begin with the first that differs from those of the prompt alone."""
        if not text:
            raise InvalidArgumentError("the text to score is empty; expected at least one character")
        tokens, same = list[int](), 0
        if isinstance(prompt, str):
            tokens = list(self.tokenizer.text_prompt(prompt + text).tokens)
            while same < min(len(before), len(tokens) - 1) and before[same] == tokens[same]:
                same += 1
        if same == 0:  # a prompt in tokens, or one that the text changes from its first token on
            tokens = [*before, *self.tokenizer.text_prompt(text, add_special=False).tokens]
            same = len(before)
        if same == 0:
            raise InvalidArgumentError(
                "the prompt is empty; the first token of a text has no probability in this model"
            )
        return _Work(tokens, same)

    def _values(self, work: Sequence[_Work], adapter: Adapter | None) -> list[array.array[float]]:
        """The values of each piece of work, in order."""
        adapter_handle = handle_of(adapter, self)
        queue = self._library.create_queue(self._engine)
        try:
            running: dict[int, int] = {}
            values: list[array.array[float]] = [array.array("f")] * len(work)
            submitted = 0
            while submitted < len(work) or running:
                try:
                    while submitted < len(work):
                        one = work[submitted]
                        request = self._library.submit_scoring(
                            self._engine, queue, one.tokens, one.score_from, adapter_handle
                        )
                        running[request] = submitted
                        submitted += 1
                except BusyError:
                    if not running:
                        raise
                event = self._library.next_event(queue, SLICE_MS)
                if event is None:
                    continue
                if event.error is not None:
                    raise event.error
                if event.kind == "finished":
                    del running[event.request]
                else:
                    values[running[event.request]] = event.values
            return values
        finally:
            with suppress(BinhdanError):
                self._library.close_queue(queue)


def _needs_end(work: Sequence[_Work]) -> bool:
    """True if the tokens of one option begin those of another."""
    texts = [tuple(one.tokens[one.score_from :]) for one in work]
    return any(a != b and b[: len(a)] == a for a in texts for b in texts)
