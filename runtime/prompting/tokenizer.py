"""Text to tokens and back: exact text, text of users, and conversations in the chat format of a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from binhdan.runtime.errors import InvalidArgumentError, TooLargeError
from binhdan.runtime.ffi import Library
from binhdan.runtime.options import GenerationOptions, with_changes
from binhdan.runtime.prompting.chat import AnyMessage, ChatTemplate, check_messages, clean_text
from binhdan.runtime.prompting.reasoning import ReasoningSplitter
from binhdan.runtime.results import ModelInfo

# A model without chat markup writes this when it continues with the turn of the user (csrc/text/chat.cpp).
_PLAIN_STOPS = ("\nUser:",)
# Control tokens before the text, before the text after the gap, and before the answer.
_INFILL = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SmolLM
    ("<|fim_begin|>", "<|fim_hole|>", "<|fim_end|>"),  # DeepSeek
)
# Variables that render() sets; template options must not replace them.
_TEMPLATE_NAMES = frozenset(
    {"messages", "tools", "add_generation_prompt", "bos_token", "eos_token", "unk_token", "pad_token"}
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokens of a prompt, and how to read the answer to it."""

    tokens: Sequence[int]
    stops: tuple[str, ...] = ()  # stop texts in addition to the caller's
    thinks: bool = False  # the answer may begin with <think>
    inside_thought: bool = False  # the prompt ends with an open <think>

    def splitter(self) -> ReasoningSplitter:
        """A new splitter; each answer needs its own."""
        return ReasoningSplitter(enabled=self.thinks, inside=self.inside_thought)

    def settings(self, options: GenerationOptions) -> GenerationOptions:
        """`options` with the stop texts of this prompt added."""
        return with_changes(options, {"stop": (*options.stop, *self.stops)}) if self.stops else options


class Tokenizer:
    """The vocabulary and the chat format of an open model. Safe for any number of threads.

    `context`: max tokens of a prompt. A text that cannot fit is refused before it is tokenized.
    """

    def __init__(self, library: Library, handle: int, info: ModelInfo, context: int) -> None:
        self._library = library
        self._handle = handle
        self._info = info
        self._context = context
        self._lock = threading.Lock()

    def encode(
        self, text: str | bytes, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """The tokens of a text, without normalisation.

        `add_special` adds BOS and EOS where the model requires them. `parse_special` recognises control
        tokens in the text; never use it with text of users. Raises InvalidArgumentError for lone surrogates,
        which have no UTF-8 form.
        """
        if isinstance(text, str):
            try:
                text = text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise InvalidArgumentError(
                    f"character {error.start} of the text is a lone surrogate, which UTF-8 cannot encode"
                ) from None
        return self._library.tokenize(
            self._handle, text, add_special=add_special, parse_special=parse_special
        )

    def decode(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """The exact bytes of tokens. `special` includes the text of control tokens."""
        return self._library.detokenize(self._handle, tokens, special=special)

    def token_text(self, token: int) -> str:
        """The text of one token. Bytes that are not UTF-8 become U+FFFD."""
        return self.decode((token,), special=True).decode("utf-8", "replace")

    def text_prompt(self, text: str, *, add_special: bool = True) -> Prompt:
        """A text of a user, for completion. Raises TooLargeError."""
        data = clean_text(text).encode()
        self._check_size(len(data))
        return Prompt(self.encode(data, add_special=add_special))

    def infill_prompt(
        self, prefix: str, suffix: str, extra: Sequence[tuple[str, str]] = (), start: str = ""
    ) -> Prompt:
        """A prompt whose answer goes between two texts (fill-in-the-middle, Bavarian et al. 2022).

        `extra`: names and texts of other files, which come first, with the model's token between files if it
        has one. `start`: the answer continues this text, which comes after the prefix.

        Raises InvalidArgumentError for a model without the tokens for it, TooLargeError.
        """
        for names in _INFILL:
            marks = [self.encode(name, parse_special=True) for name in names]
            if all(len(mark) == 1 for mark in marks):
                break
        else:
            raise InvalidArgumentError(
                "suffix: this model has no tokens for filling in the middle; use another model, or send no "
                "suffix",
                param="suffix",
            )
        before, after = clean_text(prefix).encode(), clean_text(suffix).encode()
        others = [(clean_text(name), clean_text(text)) for name, text in extra]
        self._check_size(len(before) + len(after) + sum(len(text) for _, text in others))
        begin, middle, end = marks
        separator = self.encode("<|file_sep|>", parse_special=True)
        tokens: list[int] = []
        for name, text in others:
            if len(separator) == 1:
                tokens += [*separator, *self.encode(f"{name}\n{text}\n")]
            else:
                tokens += self.encode(f"{text}\n")
        if tokens and len(separator) == 1:
            tokens += separator
        tokens += [*begin, *self.encode(before), *middle, *self.encode(after), *end]
        return Prompt([*tokens, *self.encode(clean_text(start))])

    def embedding_prompt(self, text: str, *, truncate: bool = False) -> Prompt:
        """A text to embed. `truncate` cuts a text that the context cannot hold, and keeps the end token that
        the model expects; otherwise raises TooLargeError."""
        if not truncate:
            return self._that_fits(self.text_prompt(text).tokens)
        data = clean_text(text).encode()
        if len(data) > 16 * self._context:  # more than the context can hold is not tokenized
            data = data[: self._longest_token * self._context].decode("utf-8", "ignore").encode()
        tokens = self.encode(data, add_special=True)
        if len(tokens) <= self._context:
            return Prompt(tokens)
        end = self._end_tokens(tokens, data)
        return Prompt([*tokens[: self._context - len(end)], *end])

    def pair_prompt(self, query: str, document: str, *, truncate: bool = False) -> Prompt:
        """A query and a document for a reranker. `truncate` cuts a document that is too long. Otherwise, and
        if the query alone is too long, raises TooLargeError."""
        data, rest = clean_text(query).encode(), clean_text(document).encode()
        self._check_size(len(data))
        if not truncate:
            self._check_size(len(rest))
            return self._that_fits(self._library.tokenize_pair(self._handle, data, rest))
        if len(rest) > 16 * self._context:
            rest = rest[: self._longest_token * self._context]
        kept = self.encode(rest)
        tokens = self._library.tokenize_pair(self._handle, data, rest)
        while len(tokens) > self._context and kept:
            del kept[-min(len(kept), len(tokens) - self._context) :]
            rest = self.decode(kept).decode("utf-8", "ignore").encode()
            tokens = self._library.tokenize_pair(self._handle, data, rest)
        return self._that_fits(tokens)

    def chat_prompt(
        self,
        messages: Sequence[AnyMessage],
        *,
        add_generation_prompt: bool = True,
        thinking: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
        template_options: dict[str, Any] | None = None,
    ) -> Prompt:
        """A conversation in the chat format that the model was trained on.

        Raises InvalidArgumentError for invalid messages, TooLargeError.
        """
        tokens = self._chat_tokens(messages, add_generation_prompt, thinking, tools, template_options)
        if not self.thinks:
            return Prompt(tokens, _PLAIN_STOPS if self._is_plain else ())
        tail = self.decode(tokens[-16:], special=True).rstrip()
        return Prompt(tokens, thinks=True, inside_thought=tail.endswith(b"<think>"))

    def continued(self, prompt: Prompt, start: str) -> Prompt:
        """`prompt` with the start of its answer, which the model continues. Raises TooLargeError."""
        data = clean_text(start).encode()
        self._check_size(len(data))
        return replace(prompt, tokens=[*prompt.tokens, *self.encode(data)])

    @cached_property
    def thinks(self) -> bool:
        """True if the model can write its reasoning between <think> and </think>."""
        source = self.chat_template_source or ""
        return "</think>" in source or len(self.encode("</think>", parse_special=True)) == 1

    @cached_property
    def chat_template_source(self) -> str | None:
        """The Jinja template of the file, the first one if none is the default; None when there is none."""
        return self._library.metadata(self._handle, "tokenizer.chat_template") or None

    # ---- internals -----------------------------------------------------------------------------------------

    def _chat_tokens(
        self,
        messages: Sequence[AnyMessage],
        add_generation_prompt: bool,
        thinking: bool,
        tools: Sequence[dict[str, Any]] | None,
        template_options: dict[str, Any] | None,
    ) -> list[int]:
        taken = _TEMPLATE_NAMES & (template_options or {}).keys()
        if taken:
            raise InvalidArgumentError(f"template options must not set {', '.join(sorted(taken))}")
        checked = check_messages(messages)
        self._check_size(sum(len((message["content"] or "").encode()) for message in checked))
        template = self._template
        if template is None:
            turns = [(str(message["role"]), (message["content"] or "").encode()) for message in checked]
            return self._library.tokenize_chat(self._handle, turns, add_generation_prompt)
        segments = template.render(
            checked,
            add_generation_prompt=add_generation_prompt,
            tools=tools,
            **{"enable_thinking": thinking} | (template_options or {}),
        )
        return self._library.tokenize_segments(
            self._handle, [(text.encode("utf-8", "replace"), markup) for text, markup in segments]
        )

    def _that_fits(self, tokens: Sequence[int]) -> Prompt:
        if len(tokens) > self._context:
            raise TooLargeError(
                f"the text has {len(tokens):,} tokens, and the context holds {self._context:,}; "
                "shorten the text, or truncate it"
            )
        return Prompt(tokens)

    def _end_tokens(self, tokens: Sequence[int], data: bytes) -> Sequence[int]:
        """The tokens at the end of `tokens` that `add_special` has added to those of `data`."""
        content = self.encode(data)
        added = len(tokens) - len(content)
        begin = next((i for i in range(added + 1) if tokens[i : i + len(content)] == content), added)
        return tokens[begin + len(content) :]

    def _check_size(self, size: int) -> None:
        """Refuses a text of `size` bytes that cannot fit. Tokenizing it first would waste the time."""
        if size <= 16 * self._context:
            return
        least = -(-size // self._longest_token)
        if least > self._context:
            raise TooLargeError(
                f"the prompt is too long: its {size:,} bytes are at least {least:,} tokens, "
                f"and the context holds {self._context:,}"
            )

    @cached_property
    def _longest_token(self) -> int:
        """Bytes of the longest token."""
        return max(len(self.decode((token,), special=True)) for token in range(self._info.vocabulary))

    def _control_tokens(self) -> Iterator[str]:
        roles = self._library.token_roles(self._handle, self._info.vocabulary)
        yield from (self.token_text(token) for token, role in enumerate(roles) if role)

    @cached_property
    def _is_plain(self) -> bool:
        return self._template is None and self._library.chat_family(self._handle) == "plain"

    @property
    def _template(self) -> ChatTemplate | None:
        with self._lock:  # two threads must not compile the template twice
            return self._compiled_template

    @cached_property
    def _compiled_template(self) -> ChatTemplate | None:
        if self.chat_template_source is None:
            return None
        special = {"bos_token": "", "eos_token": ""}  # templates write these two without a test
        special |= {
            name: self.token_text(token)
            for name, token in (
                ("bos_token", self._info.bos),
                ("eos_token", self._info.eos),
                ("unk_token", self._info.unknown),
                ("pad_token", self._info.padding),
            )
            if token is not None
        }
        return ChatTemplate(self.chat_template_source, self._control_tokens(), special)
