"""Models: load one, then call ask, chat, complete or embed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, TypedDict, Unpack, overload

from binhdan.runtime.client.embedding import MakePrompt, NameText, Vector, async_embeddings, embeddings
from binhdan.runtime.client.request import AnswerBuilder, Request, TokenMask
from binhdan.runtime.client.stream import AsyncStream, Stream, SubmitRequest
from binhdan.runtime.errors import BinhdanError, InvalidArgumentError, ModelNotFoundError
from binhdan.runtime.ffi import Library, library
from binhdan.runtime.options import (
    EmbeddingOptions,
    GenerationChanges,
    GenerationOptions,
    KvType,
    LoadOptions,
    Pooling,
    with_changes,
)
from binhdan.runtime.prompting.chat import Message
from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.results import Answer, ModelInfo

PathLike = str | os.PathLike[str]
Tools = Sequence[dict[str, Any]]  # function definitions as in OpenAI's API

_EMBEDDED = Path(__file__).parents[1] / "assets"


class Settings(GenerationChanges, total=False):
    """Keyword arguments of ask, chat and complete: fields of GenerationOptions, and these two."""

    options: GenerationOptions | None  # the values of all other fields
    mask: TokenMask | None  # the tokens that are allowed next; see request.py


class EmbeddingSettings(TypedDict, total=False):
    """Keyword arguments of embed, aembed and embed_each."""

    prefix: str  # precedes each text, such as "query: " or "passage: " for e5 models
    truncate: bool  # cut a text that the context cannot hold; False: TooLargeError
    dimensions: int | None  # keep the first values; for models that were trained for it (Matryoshka)
    normalize: bool  # scale to length 1, the default
    pooling: Pooling | None  # instead of the one that the model file specifies


def _text_name(position: int) -> str:
    return f"text {position + 1}"


def embedded_model() -> Path:
    """The file of the model that is part of the package."""
    files = sorted(_EMBEDDED.glob("*.gguf"))
    if not files:
        raise ModelNotFoundError(f"found no *.gguf in {_EMBEDDED}: this installation has no embedded model")
    return files[0]


def find_model(path_or_id: PathLike | None) -> Path:
    """The file of a model: a path, "org/name" or "org/name:file" after `binhdan pull`, or None for the
    embedded model.

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
    raise ModelNotFoundError(
        f"no such file: {name}; expected the path of a GGUF file, or org/name after: binhdan pull org/name"
    )


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
    """Loads a GGUF file, "org/name" after `binhdan pull`, or None for the embedded model.

    Keyword arguments are the fields of LoadOptions. Raises ModelNotFoundError, BadFormatError for a damaged
    file, UnsupportedError for an unknown architecture or tensor type, OutOfMemoryError.
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
    """A loaded model. Any number of threads and tasks may use it at the same time; requests share batches.

    `close()`, or the end of a `with` block, frees the memory. A child process must not use a model that was
    loaded before the fork: it raises ClosedError.

    Text of users is normalised to Unicode NFC, lone surrogates become U+FFFD, and control tokens in it remain
    plain text. `tokenize` and `detokenize` do not change text.
    """

    _handle = 0
    _engine = 0

    def __init__(self, path: PathLike, options: LoadOptions | None = None) -> None:
        options = options or LoadOptions()
        self._library = library()
        self.path = Path(path)
        self._handle = self._library.open_model(os.fspath(path), options)
        try:
            self.info: ModelInfo = self._library.describe_model(self._handle)
            self._engine = self._library.create_engine(self._handle, options)
            #: Max tokens of a prompt and its answer together.
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
        **settings: Unpack[Settings],
    ) -> Answer: ...
    @overload
    def ask(
        self, prompt: str, *, system: str | None = ..., stream: Literal[True], **settings: Unpack[Settings]
    ) -> Stream: ...
    def ask(
        self, prompt: str, *, system: str | None = None, stream: bool = False, **settings: Unpack[Settings]
    ) -> Answer | Stream:
        """Answers one question. `system` is an instruction that precedes it.

        `settings` are fields of GenerationOptions such as `max_tokens=100`, or `options` and `mask`. Raises
        InvalidArgumentError for an empty prompt, TooLargeError for one that the context cannot hold.
        """
        return _result(Stream(self._ask(prompt, system, settings)), stream)

    def aask(self, prompt: str, *, system: str | None = None, **settings: Unpack[Settings]) -> AsyncStream:
        """`ask` for asyncio: `async for piece in model.aask(…)` or `answer = await model.aask(…)`."""
        return AsyncStream(self._ask(prompt, system, settings))

    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[False] = ...,
        tools: Tools | None = ...,
        template_options: dict[str, Any] | None = ...,
        **settings: Unpack[Settings],
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: Literal[True],
        tools: Tools | None = ...,
        template_options: dict[str, Any] | None = ...,
        **settings: Unpack[Settings],
    ) -> Stream: ...
    def chat(
        self,
        messages: Sequence[Message],
        *,
        stream: bool = False,
        tools: Tools | None = None,
        template_options: dict[str, Any] | None = None,
        **settings: Unpack[Settings],
    ) -> Answer | Stream:
        """The next turn of the assistant. The model's chat template receives `tools` and `template_options`.

        `settings` as in `ask`. Raises InvalidArgumentError for invalid messages, TooLargeError for a
        conversation that the context cannot hold.
        """
        return _result(Stream(self._chat(messages, tools, template_options, settings)), stream)

    def achat(
        self,
        messages: Sequence[Message],
        *,
        tools: Tools | None = None,
        template_options: dict[str, Any] | None = None,
        **settings: Unpack[Settings],
    ) -> AsyncStream:
        """`chat` for asyncio: `async for piece in model.achat(…)` or `answer = await model.achat(…)`."""
        return AsyncStream(self._chat(messages, tools, template_options, settings))

    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[False] = ..., **settings: Unpack[Settings]
    ) -> Answer: ...
    @overload
    def complete(
        self, prompt: str | Sequence[int], *, stream: Literal[True], **settings: Unpack[Settings]
    ) -> Stream: ...
    def complete(
        self, prompt: str | Sequence[int], *, stream: bool = False, **settings: Unpack[Settings]
    ) -> Answer | Stream:
        """Continues a text, or tokens, without a chat template. `settings` as in `ask`."""
        return _result(Stream(self._complete(prompt, settings)), stream)

    def acomplete(self, prompt: str | Sequence[int], **settings: Unpack[Settings]) -> AsyncStream:
        """`complete` for asyncio."""
        return AsyncStream(self._complete(prompt, settings))

    @overload
    def embed(self, text: str, **settings: Unpack[EmbeddingSettings]) -> list[float]: ...
    @overload
    def embed(
        self, text: list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[list[float]]: ...
    def embed(
        self, text: str | list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[float] | list[list[float]]:
        """The embedding of a text, or of each of several texts, which share batches.

        It is made of the final hidden states as the model file specifies (mean, first or last token), and
        scaled to length 1. Raises TooLargeError for a text that the context cannot hold, InvalidArgumentError
        for more dimensions than the model has, and for a reranker.
        """
        options, make_prompt = self._embedding(settings)
        if isinstance(text, str):
            return next(self._embeddings([partial(make_prompt, text)], options, None)).tolist()
        prompts = (partial(make_prompt, one) for one in text)
        return [vector.tolist() for vector in self._embeddings(prompts, options)]

    def embed_each(
        self,
        texts: Iterable[str],
        *,
        name: NameText = _text_name,
        **settings: Unpack[EmbeddingSettings],
    ) -> Iterator[Vector[float]]:
        """`embed` for any number of texts: reads a few texts ahead, and returns arrays of type "f" in order.

        `name` maps the position of a text to its name in error messages.
        """
        options, make_prompt = self._embedding(settings)
        return self._embeddings((partial(make_prompt, text) for text in texts), options, name)

    @overload
    async def aembed(self, text: str, **settings: Unpack[EmbeddingSettings]) -> list[float]: ...
    @overload
    async def aembed(
        self, text: list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[list[float]]: ...
    async def aembed(
        self, text: str | list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[float] | list[list[float]]:
        """`embed` for asyncio."""
        options, make_prompt = self._embedding(settings)
        single = isinstance(text, str)
        prompts = [partial(make_prompt, one) for one in ([text] if isinstance(text, str) else text)]
        name = None if single else _text_name
        each = async_embeddings(self._library, self._engine, prompts, options, name)
        vectors = [vector.tolist() async for vector in each]
        return vectors[0] if single else vectors

    def rerank(self, query: str, documents: Sequence[str], *, truncate: bool = False) -> list[float]:
        """How well each document answers the query: scores of a reranker from 0 to 1, higher is better.

        `truncate` cuts documents that the context cannot hold. Raises TooLargeError, and InvalidArgumentError
        for a model that is not a reranker.
        """
        self.check_reranker()
        prompts = (
            partial(self.tokenizer.pair_prompt, query, document, truncate=truncate) for document in documents
        )
        return [vector[0] for vector in self._embeddings(prompts, EmbeddingOptions(pooling="rank"))]

    def check_reranker(self) -> None:
        """Raises InvalidArgumentError if this model is not a reranker."""
        if self.info.pooling != "rank":
            raise InvalidArgumentError(
                f"this model is not a reranker: its file specifies pooling {self.info.pooling}, and rerank "
                "needs rank; use a reranker such as bge-reranker-v2-m3",
                param="model",
            )

    def check_embedder(self, pooling: Pooling | None = None) -> None:
        """Raises InvalidArgumentError if this model is a reranker, unless `pooling` chooses an embedding."""
        if self.info.pooling == "rank" and pooling in (None, "rank"):
            raise InvalidArgumentError(
                "this model is a reranker, which scores a query and a document; use rerank", param="model"
            )

    # ---- text ----------------------------------------------------------------------------------------------

    def tokenize(
        self, text: str | bytes, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        """The tokens of a text, without normalisation.

        `add_special` adds BOS and EOS where the model requires them. `parse_special` recognises control
        tokens in the text; never use it with text of users. Raises InvalidArgumentError for lone surrogates,
        which have no UTF-8 form.
        """
        return self.tokenizer.encode(text, add_special=add_special, parse_special=parse_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """The text of tokens. Bytes that are not UTF-8 become U+FFFD. `special` includes control tokens."""
        return self.detokenize_bytes(tokens, special=special).decode("utf-8", "replace")

    def detokenize_bytes(self, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """The exact bytes of tokens."""
        return self.tokenizer.decode(tokens, special=special)

    def token_roles(self) -> list[int]:
        """The role of each token of the vocabulary: 0 text, 1 ends an answer, 2 another control token."""
        return self._library.token_roles(self._handle, self.info.vocabulary)

    def chat_tokens(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        thinking: bool = False,
        tools: Tools | None = None,
        template_options: dict[str, Any] | None = None,
    ) -> list[int]:
        """The tokens of the prompt that `chat` submits."""
        prompt = self.tokenizer.chat_prompt(
            messages,
            add_generation_prompt=add_generation_prompt,
            thinking=thinking,
            tools=tools,
            template_options=template_options,
        )
        return list(prompt.tokens)

    # ---- state ---------------------------------------------------------------------------------------------

    def metadata(self, key: str) -> str | None:
        """A string of the file's metadata, such as "general.license", or None."""
        return self._library.metadata(self._handle, key)

    def engine_info(self) -> dict[str, int]:
        """The current state of the engine: the fields of binhdan_engine_info in binhdan.h."""
        return self._library.describe_engine(self._engine)

    def native_handles(self) -> tuple[Library, int]:
        """The library and the handle of the engine, for code that submits requests itself."""
        return self._library, self._engine

    def close(self) -> None:
        """Cancels running requests and frees the memory. A second call does nothing."""
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
        if not finalizing():  # during interpreter exit, globals are gone and the system frees the memory
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("cannot pickle a Model; pickle its path and its LoadOptions, then load it again")

    def __repr__(self) -> str:
        return (
            f"<binhdan.Model {self.path.name}: {self.info.architecture}, {self.info.parameters:,} parameters>"
        )

    # ---- requests ------------------------------------------------------------------------------------------
    # Each function validates the settings and returns a SubmitRequest. Stream calls it in its constructor,
    # AsyncStream later, in a worker thread.

    def _ask(self, prompt: str, system: str | None, settings: Settings) -> SubmitRequest:
        return self._starter(lambda options: self._chat_prompt(_question(prompt, system), options), settings)

    def _chat(
        self,
        messages: Sequence[Message],
        tools: Tools | None,
        template_options: dict[str, Any] | None,
        settings: Settings,
    ) -> SubmitRequest:
        return self._starter(
            lambda options: self._chat_prompt(messages, options, tools, template_options), settings
        )

    def _complete(self, prompt: str | Sequence[int], settings: Settings) -> SubmitRequest:
        return self._starter(
            lambda _: self.tokenizer.text_prompt(prompt) if isinstance(prompt, str) else Prompt(prompt),
            settings,
        )

    def _starter(
        self, make_prompt: Callable[[GenerationOptions], Prompt], settings: Settings
    ) -> SubmitRequest:
        changes: dict[str, Any] = {**settings}
        mask: TokenMask | None = changes.pop("mask", None)
        options = with_changes(changes.pop("options", None), changes)

        def start() -> tuple[Request, AnswerBuilder]:
            prompt = make_prompt(options)
            builder = AnswerBuilder(prompt, self.tokenizer, options)
            request = Request(self._library, self._engine, prompt.tokens, prompt.settings(options), mask)
            return request, builder

        return start

    def _chat_prompt(
        self,
        messages: Sequence[Message],
        options: GenerationOptions,
        tools: Tools | None = None,
        template_options: dict[str, Any] | None = None,
    ) -> Prompt:
        return self.tokenizer.chat_prompt(
            messages, thinking=options.thinking, tools=tools, template_options=template_options
        )

    def _embedding(self, settings: EmbeddingSettings) -> tuple[EmbeddingOptions, Callable[[str], Prompt]]:
        """The options of embeddings, and the function that makes the prompt of a text."""
        changes: dict[str, Any] = {**settings}
        prefix, truncate = changes.pop("prefix", ""), changes.pop("truncate", False)
        options = EmbeddingOptions(**changes)
        self.check_embedder(options.pooling)
        return options, lambda text: self.tokenizer.embedding_prompt(prefix + text, truncate=truncate)

    def _embeddings(
        self, prompts: Iterable[MakePrompt], options: EmbeddingOptions, name: NameText = _text_name
    ) -> Iterator[Vector[float]]:
        return embeddings(self._library, self._engine, prompts, options, name)


def _question(prompt: str, system: str | None) -> list[Message]:
    if not prompt.strip():
        raise InvalidArgumentError("the prompt is empty; expected a text that is not blank")
    question: list[Message] = [{"role": "user", "content": prompt}]
    return [{"role": "system", "content": system}, *question] if system else question


def _result(stream: Stream, want_stream: bool) -> Answer | Stream:
    return stream if want_stream else stream.answer()
