"""Models: load one, then ask, chat, complete, embed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Unpack, overload

from binhdan.runtime import ffi as c
from binhdan.runtime.client.request import AnswerBuilder, Request, TokenMask
from binhdan.runtime.client.stream import AsyncStream, Stream, async_events, events
from binhdan.runtime.errors import BinhdanError, InvalidArgumentError, ModelNotFoundError
from binhdan.runtime.options import GenerationChanges, GenerationOptions, KvType, LoadOptions, with_changes
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, ModelInfo

PathLike = str | os.PathLike[str]
_EMBEDDED = Path(__file__).parents[1] / "assets"


def embedded_model() -> Path:
    """The file of the model that comes with the package."""
    files = sorted(_EMBEDDED.glob("*.gguf"))
    if not files:
        raise ModelNotFoundError(f"this installation has no embedded model in {_EMBEDDED}")
    return files[0]


def find_model(path_or_id: PathLike | None) -> Path:
    """A model file: None is the embedded one, "org/name" or "org/name:file" one that `binhdan pull` has
    fetched.

    Raises ModelNotFoundError.
    """
    if path_or_id is None:
        return embedded_model()
    name = os.fspath(path_or_id)
    if os.path.exists(name):
        return Path(name)
    from binhdan.runtime.client import hub

    if isinstance(path_or_id, str) and hub.is_id(name):
        return hub.find(name)
    raise ModelNotFoundError(f"no such file: {name}")


def load(
    path_or_id: PathLike | None = None,
    *,
    threads: int | None = None,
    context: int | None = None,
    isa: str | None = None,
    max_sequences: int | None = None,
    max_waiting: int | None = None,
    prefill_chunk: int | None = None,
    max_decode_stall_ms: int | None = None,
    max_kv_bytes: int | None = None,
    kv_type: KvType = "f16",
    prefix_cache: bool = True,
    prefix_cache_dir: PathLike | None = None,
    max_prefix_cache_dir_bytes: int | None = None,
    deterministic: bool = False,
) -> Model:
    """Loads a GGUF file (None: the embedded model), or what `binhdan pull` fetched as "org/name".

    Keyword arguments are the fields of LoadOptions. Raises ModelNotFoundError, BadFormatError for a damaged
    file, UnsupportedError for one of an unknown kind, OutOfMemoryError.
    """
    options = LoadOptions(
        threads=threads,
        context=context,
        isa=isa,
        max_sequences=max_sequences,
        max_waiting=max_waiting,
        prefill_chunk=prefill_chunk,
        max_decode_stall_ms=max_decode_stall_ms,
        max_kv_bytes=max_kv_bytes,
        kv_type=kv_type,
        prefix_cache=prefix_cache,
        prefix_cache_dir=None if prefix_cache_dir is None else os.fspath(prefix_cache_dir),
        max_prefix_cache_dir_bytes=max_prefix_cache_dir_bytes,
        deterministic=deterministic,
    )
    return Model(find_model(path_or_id), options)


class Model:
    """A loaded model. Any number of threads and tasks may use it at once; requests run together.

    Close it, or use it in a `with`, to give its memory back at a certain time. A model that was loaded before
    a fork must not be used in the child: that raises ClosedError.

    Users' text is brought to Unicode NFC, lone surrogates in it become U+FFFD, and control tokens written in
    it stay plain text. Only `tokenize` and `detokenize` are exact.
    """

    _handle = 0
    _engine = 0

    def __init__(self, path: PathLike, options: LoadOptions | None = None) -> None:
        options = options or LoadOptions()
        self._library = c.library()
        self.path = Path(path)
        self._handle = self._library.open_model(os.fspath(path), options)
        try:
            self.info: ModelInfo = self._library.describe_model(self._handle)
            self._engine = self._library.create_engine(self._handle, options)
            #: Most tokens of one prompt and its answer.
            self.context: int = self._library.describe_engine(self._engine)["context"]
            self.tokenizer = Tokenizer(self._library, self._handle, self.info, self.context)
        except BaseException:
            self.close()
            raise

    # ---- answers -------------------------------------------------------------------------------------------

    @overload
    def ask(
        self,
        prompt: str,
        *,
        system: str | None = ...,
        stream: Literal[False] = ...,
        options: GenerationOptions | None = ...,
        mask: TokenMask | None = ...,
        **changes: Unpack[GenerationChanges],
    ) -> Answer: ...
    @overload
    def ask(
        self,
        prompt: str,
        *,
        system: str | None = ...,
        stream: Literal[True],
        options: GenerationOptions | None = ...,
        mask: TokenMask | None = ...,
        **changes: Unpack[GenerationChanges],
    ) -> Stream: ...
    def ask(
        self,
        prompt: str,
        *,
        system: str | None = None,
        stream: bool = False,
        options: GenerationOptions | None = None,
        mask: TokenMask | None = None,
        **changes: Unpack[GenerationChanges],
    ) -> Answer | Stream:
        """One question. `changes` are fields of GenerationOptions, such as `max_tokens=100`; `system` is an
        instruction that stands before.

        Raises InvalidArgumentError for an empty prompt, TooLargeError for one that the context cannot hold.
        """
        settings = with_changes(options, changes)
        return _result(
            Stream(*self._start_chat(_question(prompt, system), settings, None, None, mask)), stream
        )

    def aask(
        self,
        prompt: str,
        *,
        system: str | None = None,
        options: GenerationOptions | None = None,
        mask: TokenMask | None = None,
        **changes: Unpack[GenerationChanges],
    ) -> AsyncStream:
        """`ask` for asyncio: `async for piece in model.aask(…)` or `answer = await model.aask(…)`."""
        settings = with_changes(options, changes)
        return AsyncStream(lambda: self._start_chat(_question(prompt, system), settings, None, None, mask))

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = ...,
        tools: Sequence[dict[str, Any]] | None = ...,
        template_options: dict[str, Any] | None = ...,
        options: GenerationOptions | None = ...,
        mask: TokenMask | None = ...,
        **changes: Unpack[GenerationChanges],
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        tools: Sequence[dict[str, Any]] | None = ...,
        template_options: dict[str, Any] | None = ...,
        options: GenerationOptions | None = ...,
        mask: TokenMask | None = ...,
        **changes: Unpack[GenerationChanges],
    ) -> Stream: ...
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
        template_options: dict[str, Any] | None = None,
        options: GenerationOptions | None = None,
        mask: TokenMask | None = None,
        **changes: Unpack[GenerationChanges],
    ) -> Answer | Stream:
        """The assistant's next turn. `tools` and `template_options` go to the model's chat template.

        Raises InvalidArgumentError for messages that make no conversation, TooLargeError for too many.
        """
        settings = with_changes(options, changes)
        return _result(Stream(*self._start_chat(messages, settings, tools, template_options, mask)), stream)

    def achat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[dict[str, Any]] | None = None,
        template_options: dict[str, Any] | None = None,
        options: GenerationOptions | None = None,
        mask: TokenMask | None = None,
        **changes: Unpack[GenerationChanges],
    ) -> AsyncStream:
        """`chat` for asyncio: `async for piece in model.achat(…)` or `answer = await model.achat(…)`."""
        settings = with_changes(options, changes)
        return AsyncStream(lambda: self._start_chat(messages, settings, tools, template_options, mask))

    @overload
    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        stream: Literal[False] = ...,
        options: GenerationOptions | None = ...,
        mask: TokenMask | None = ...,
        **changes: Unpack[GenerationChanges],
    ) -> Answer: ...
    @overload
    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        stream: Literal[True],
        options: GenerationOptions | None = ...,
        mask: TokenMask | None = ...,
        **changes: Unpack[GenerationChanges],
    ) -> Stream: ...
    def complete(
        self,
        prompt: str | Sequence[int],
        *,
        stream: bool = False,
        options: GenerationOptions | None = None,
        mask: TokenMask | None = None,
        **changes: Unpack[GenerationChanges],
    ) -> Answer | Stream:
        """Goes on with a text, without a chat template. A prompt may also be tokens."""
        return _result(Stream(*self._start_completion(prompt, with_changes(options, changes), mask)), stream)

    def acomplete(
        self,
        prompt: str | Sequence[int],
        *,
        options: GenerationOptions | None = None,
        mask: TokenMask | None = None,
        **changes: Unpack[GenerationChanges],
    ) -> AsyncStream:
        """`complete` for asyncio."""
        settings = with_changes(options, changes)
        return AsyncStream(lambda: self._start_completion(prompt, settings, mask))

    @overload
    def embed(self, text: str) -> list[float]: ...
    @overload
    def embed(self, text: list[str] | tuple[str, ...]) -> list[list[float]]: ...
    def embed(self, text: str | list[str] | tuple[str, ...]) -> list[float] | list[list[float]]:
        """The mean of the final hidden states, scaled to length 1; for several texts, one for each.

        Raises TooLargeError for a text that the context cannot hold.
        """
        if isinstance(text, str):
            return self._embed(text)
        return [self._embed(one) for one in text]

    @overload
    async def aembed(self, text: str) -> list[float]: ...
    @overload
    async def aembed(self, text: list[str] | tuple[str, ...]) -> list[list[float]]: ...
    async def aembed(self, text: str | list[str] | tuple[str, ...]) -> list[float] | list[list[float]]:
        """`embed` for asyncio."""
        if isinstance(text, str):
            return await self._aembed(text)
        return [await self._aembed(one) for one in text]

    # ---- text ----------------------------------------------------------------------------------------------

    def tokenize(
        self, text: str | bytes, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """Exact: no normalisation. `add_special` adds the BOS and EOS that the model wants; `parse_special`
        reads control tokens that are written out, which must never be done with users' text.

        Raises InvalidArgumentError for lone surrogates, which have no UTF-8.
        """
        return self.tokenizer.encode(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens; bytes that are not UTF-8 become U+FFFD. `special` writes control tokens out."""
        return self.detokenize_bytes(tokens, special=special).decode("utf-8", "replace")

    def detokenize_bytes(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """The exact bytes of tokens."""
        return self.tokenizer.decode(tokens, special=special)

    def token_roles(self) -> list[int]:
        """For each token of the vocabulary: 0 text, 1 ends an answer, 2 another control token."""
        return self._library.token_roles(self._handle, self.info.vocabulary)

    def chat_tokens(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        thinking: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
        template_options: dict[str, Any] | None = None,
    ) -> list[int]:
        """The prompt that `chat` would send, in tokens."""
        prompt = self.tokenizer.chat_prompt(
            messages,
            add_generation_prompt=add_generation_prompt,
            thinking=thinking,
            tools=tools,
            template_options=template_options,
        )
        return list(prompt.tokens)

    # ---- life ----------------------------------------------------------------------------------------------

    def metadata(self, key: str) -> str | None:
        """A string of the file's metadata, such as "general.license"; None when there is none."""
        return self._library.metadata(self._handle, key)

    def load_report(self) -> dict[str, int]:
        """What the engine holds and does now: the fields of binhdan_engine_info in binhdan.h."""
        return self._library.describe_engine(self._engine)

    def connection(self) -> tuple[c.Library, int]:
        """The library and the engine's handle, for who drives requests itself (server/dispatcher.py)."""
        return self._library, self._engine

    def close(self) -> None:
        """Gives the memory back and ends what still runs. Twice is no error."""
        engine, self._engine = self._engine, 0
        handle, self._handle = self._handle, 0
        with suppress(BinhdanError):
            if engine:
                self._library.close_engine(engine)
        with suppress(BinhdanError):
            if handle:
                self._library.close_model(handle)

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():  # at the interpreter's end names are gone, and the system takes the memory
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Model cannot be pickled; pickle its path and LoadOptions, and load it again")

    def __repr__(self) -> str:
        return (
            f"<binhdan.Model {self.path.name}: {self.info.architecture}, {self.info.parameters:,} parameters>"
        )

    # ---- how -----------------------------------------------------------------------------------------------

    def _start_chat(
        self,
        messages: Sequence[Message],
        options: GenerationOptions,
        tools: Sequence[dict[str, Any]] | None,
        template_options: dict[str, Any] | None,
        mask: TokenMask | None,
    ) -> tuple[Request, AnswerBuilder]:
        prompt = self.tokenizer.chat_prompt(
            messages, thinking=options.thinking, tools=tools, template_options=template_options
        )
        return self._start(prompt, options, mask)

    def _start_completion(
        self, prompt: str | Sequence[int], options: GenerationOptions, mask: TokenMask | None
    ) -> tuple[Request, AnswerBuilder]:
        ready = self.tokenizer.text_prompt(prompt) if isinstance(prompt, str) else Prompt(prompt)
        return self._start(ready, options, mask)

    def _start(
        self, prompt: Prompt, options: GenerationOptions, mask: TokenMask | None
    ) -> tuple[Request, AnswerBuilder]:
        builder = AnswerBuilder(prompt, self.tokenizer, options)
        return Request(self._library, self._engine, prompt.tokens, prompt.settings(options), mask), builder

    def _start_embedding(self, text: str) -> Request:
        return Request(self._library, self._engine, self.tokenizer.text_prompt(text).tokens, None)

    def _embed(self, text: str) -> list[float]:
        request = self._start_embedding(text)
        try:
            return [value for event in events(request) for value in event.values]
        finally:
            request.close()

    async def _aembed(self, text: str) -> list[float]:
        import asyncio

        request = await asyncio.to_thread(self._start_embedding, text)
        try:
            return [value async for event in async_events(request) for value in event.values]
        finally:
            request.close()


def _question(prompt: str, system: str | None) -> list[Message]:
    if not prompt.strip():
        raise InvalidArgumentError("the prompt is empty")
    question: list[Message] = [{"role": "user", "content": prompt}]
    return [{"role": "system", "content": system}, *question] if system else question


def _result(stream: Stream, want_stream: bool) -> Answer | Stream:
    return stream if want_stream else stream.answer()
