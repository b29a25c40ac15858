"""An open vocabulary, and the loaded model with its engine: opening, closing, text and facts."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from binhdan.runtime.errors import BinhdanError, UnsupportedError
from binhdan.runtime.ffi import Library, library
from binhdan.runtime.options import LoadOptions
from binhdan.runtime.prompting.chat import AnyMessage
from binhdan.runtime.prompting.tokenizer import Tokenizer
from binhdan.runtime.results import ModelInfo

if TYPE_CHECKING:
    from binhdan.runtime.structured.constraints import Constraints

PathLike = str | os.PathLike[str]
Tools = Sequence[Mapping[str, Any]]  # function definitions as in OpenAI's API
_Self = TypeVar("_Self", bound="Vocabulary")


class Vocabulary:
    """A model file that is opened for its tokenizer and chat template: no weights are read. See
    load_vocabulary()."""

    _handle = 0
    _engine = 0

    def __init__(self, path: PathLike) -> None:
        self._open(path, LoadOptions(), vocabulary_only=True)
        self._set_tokenizer(self.info.context)

    def _open(
        self,
        path: PathLike,
        options: LoadOptions,
        *,
        vocabulary_only: bool = False,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        self._library = library()
        self.path = Path(path)
        self.options = options
        self._constraints: Constraints | None = None
        self._lock = threading.Lock()
        self._handle = self._library.open_model(
            os.fspath(path), options, vocabulary_only=vocabulary_only, progress=progress
        )
        self.info: ModelInfo = self._library.describe_model(self._handle)

    def _set_tokenizer(self, context: int) -> None:
        #: Max tokens of a prompt and its answer together.
        self.context: int = context
        self.tokenizer = Tokenizer(self._library, self._handle, self.info, context)

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
        messages: Sequence[AnyMessage],
        *,
        add_generation_prompt: bool = True,
        thinking: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
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

    def close(self) -> None:
        """Cancels running requests and frees the memory. A second call does nothing."""
        constraints, self._constraints = self._constraints, None
        if constraints is not None:
            constraints.close()
        engine, self._engine = self._engine, 0
        handle, self._handle = self._handle, 0
        with suppress(BinhdanError):
            if engine:
                self._library.close_engine(engine)
        with suppress(BinhdanError):
            if handle:
                self._library.close_model(handle)

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self: _Self) -> _Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():  # during interpreter exit, globals are gone and the system frees the memory
            self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "cannot pickle an open model; pickle its path and its LoadOptions, then load it again"
        )

    def __repr__(self) -> str:
        info = self.info
        return f"<binhdan.Vocabulary {self.path.name}: {info.architecture}, {info.vocabulary:,} tokens>"


class ModelBase(Vocabulary):
    """A loaded model and its engine."""

    def __init__(
        self,
        path: PathLike,
        options: LoadOptions | None = None,
        *,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        options = options or LoadOptions()
        self._open(path, options, progress=progress)
        try:
            self._engine = self._create_engine(options)
            self._set_tokenizer(self._library.describe_engine(self._engine)["context"])
        except BaseException:
            self.close()
            raise

    def _create_engine(self, options: LoadOptions) -> int:
        if options.draft is None:
            return self._library.create_engine(self._handle, options)
        draft = self._library.open_model(options.draft, options)
        try:
            return self._library.create_engine(self._handle, options, draft)
        finally:
            self._library.close_model(draft)  # the engine keeps it open

    def engine_info(self) -> dict[str, int]:
        """The current state of the engine: the fields of binhdan_engine_info in binhdan.h."""
        return self._library.describe_engine(self._engine)

    def native_handles(self) -> tuple[Library, int]:
        """The library and the handle of the engine, for code that submits requests itself."""
        return self._library, self._engine

    def constraints(self) -> Constraints:
        """Compiles JSON schemas, regular expressions and grammars for this model; made by the first call.

        Raises UnsupportedError when llguidance is not installed.
        """
        with self._lock:
            if self._constraints is None:
                try:
                    import llguidance  # noqa: F401
                except ImportError as error:
                    raise UnsupportedError(
                        "json_schema, regex, grammar, tools and response_model need the package llguidance: "
                        "pip install 'binhdan[structured]'"
                    ) from error
                from binhdan.runtime.structured.constraints import Constraints

                self._constraints = Constraints(self)
            return self._constraints

    def __repr__(self) -> str:
        info, engine = self.info, self._engine and self.engine_info()
        state = f"context {self.context:,}, {engine['threads']} threads" if engine else "closed"
        return (
            f"<binhdan.Model {self.path.name}: {info.architecture}, {info.parameters:,} parameters, "
            f"{info.weight_bytes / 1e6:,.0f} MB, {state}, {info.isa}>"
        )
