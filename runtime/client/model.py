"""Models: load one, then call ask, chat, complete or embed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from binhdan.runtime.client.adapter import Adapter
from binhdan.runtime.client.answers import Answerer
from binhdan.runtime.client.base import PathLike, Vocabulary
from binhdan.runtime.client.embedder import Embedder
from binhdan.runtime.client.scores import Scorer
from binhdan.runtime.client.session import Session
from binhdan.runtime.errors import ModelNotFoundError
from binhdan.runtime.files import package_file
from binhdan.runtime.options import KvType, LoadOptions
from binhdan.runtime.prompting.chat import AnyMessage

_EMBEDDED = "runtime/assets/tiny-vi-v1-q8_0.gguf"


def embedded_model() -> Path:
    """The file of the model that is part of the package."""
    file = package_file(_EMBEDDED)
    if file is None:
        raise ModelNotFoundError(f"found no {_EMBEDDED} in the package: install it again")
    return file


def find_model(path_or_id: PathLike | int | None) -> Path:
    """The file of a model: a path, "org/name" or "org/name:file" after `binhdan pull`, an open descriptor, or
    None for the embedded model.

    Raises ModelNotFoundError.
    """
    if path_or_id is None:
        return embedded_model()
    if isinstance(path_or_id, int):
        return Path(f"/dev/fd/{path_or_id}")
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
    path_or_id: PathLike | int | None = None,
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
    memory_check: bool = True,
    draft: PathLike | None = None,
    wait_when_busy: bool = False,
    progress: Callable[[float], object] | None = None,
) -> Model:
    """Loads a GGUF file, "org/name" after `binhdan pull`, or None for the embedded model.

    An int is an open descriptor of a file or of memory (os.memfd_create), on Linux and macOS; it may then be
    closed. `progress` is called in this thread with the loaded part of the weights, 0 to 1; an
    exception that it raises ends the loading. `draft` is a smaller model with the same tokens, such as one of
    the same family: it guesses tokens, which the model verifies, so that answers come faster and do not
    change. The other keyword arguments are the fields of LoadOptions.
    Raises ModelNotFoundError, BadFormatError for a damaged file, UnsupportedError for an unknown architecture
    or tensor type, OutOfMemoryError.
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
        memory_check=memory_check,
        draft=None if draft is None else str(find_model(draft)),
        wait_when_busy=wait_when_busy,
    )
    return Model(find_model(path_or_id), options, progress=progress)


def load_vocabulary(path_or_id: PathLike | int | None = None) -> Vocabulary:
    """Opens a model for its tokenizer and chat template alone, without its weights: tokenize, detokenize,
    chat_tokens, metadata. Raises as `load`."""
    return Vocabulary(find_model(path_or_id))


class Model(Answerer, Embedder, Scorer):
    """A loaded model. Any number of threads and tasks may use it at the same time; requests share batches.

    `close()`, or the end of a `with` or `async with` block, frees the memory. A child process must not use a
    model that was loaded before the fork: it raises ClosedError.

    Text of users is normalised to Unicode NFC, lone surrogates become U+FFFD, and control tokens in it remain
    plain text. `tokenize` and `detokenize` do not change text.
    """

    def load_adapter(self, path: PathLike) -> Adapter:
        """Loads a LoRA adapter, a GGUF file in llama.cpp's format, beside the model, whose weights stay as
        they are: `model.ask(…, adapter=adapter)`. `binhdan quantize FOLDER adapter.gguf` converts a folder of
        PEFT.

        Raises ModelNotFoundError, UnsupportedError for an adapter of another architecture or with tensors
        that cannot be changed, BadFormatError for a damaged file and for shapes that do not fit this model.
        """
        return Adapter(self, path)

    def session(
        self,
        messages: Sequence[AnyMessage] = (),
        *,
        system: str | None = None,
        adapter: Adapter | None = None,
    ) -> Session:
        """A new conversation, with `system` as its first message. `adapter` applies to all of it."""
        first: Sequence[AnyMessage] = [{"role": "system", "content": system}] if system else []
        return Session(self, [*first, *messages], adapter)

    def load_session(self, path: PathLike, *, adapter: Adapter | None = None) -> Session:
        """A conversation that Session.save has written, with its keys and values. `adapter` is the one that
        it was saved with.

        Raises ModelNotFoundError if there is no such file, BadFormatError for a damaged one, UnsupportedError
        for one of another model, adapter, kernel table or `kv_type`.
        """
        return Session.load(self, path, adapter)
