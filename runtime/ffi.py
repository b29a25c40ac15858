"""The C library as Python functions. Only this module and binhdan._native import cffi and handle C memory.

cffi parses the installed binhdan.h: types, functions and the values of enums come from the header, and Python
can do what every other caller of the C ABI can do. Functions raise the exceptions of errors.py.
"""

from __future__ import annotations

import array
import atexit
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from binhdan.runtime.errors import (
    BinhdanError,
    InvalidArgumentError,
    ModelNotFoundError,
    UnsupportedError,
    from_status,
)
from binhdan.runtime.files import package_file
from binhdan.runtime.options import EmbeddingOptions, GenerationOptions, LoadOptions
from binhdan.runtime.results import FinishReason, ModelInfo

if TYPE_CHECKING:
    from typing_extensions import Buffer

_log = logging.getLogger("binhdan")
_LEVELS = {0: logging.DEBUG, 1: logging.INFO, 2: logging.WARNING}  # of binhdan_log_sink

# The enumerators of binhdan.h in lower case, without their prefixes.
EventKind = Literal["token", "finished", "embedding", "scores", "logits"]
ChatFamily = Literal["auto", "plain", "chatml", "llama2", "llama3"]
ToneStyle = Literal["keep", "new", "old"]
Typing = Literal["none", "telex", "vni"]
TextFormat = Literal["text", "html", "markdown", "srt", "csv", "json", "po", "code"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """As binhdan_restore_options."""

    style: ToneStyle = "keep"
    format: TextFormat = "text"
    min_confidence: float = 0.0
    typing: Typing = "none"
    fast: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A copy of binhdan_event."""

    kind: EventKind
    request: int
    text: str
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    values: array.array[float]  # "f"
    finish: FinishReason | None  # of a "finished" event; None after an error
    error: BinhdanError | None  # why the request failed
    prompt_tokens: int
    answer_tokens: int
    queue_ns: int
    prefill_ns: int
    decode_ns: int
    cached_tokens: int
    drafted_tokens: int
    accepted_tokens: int
    stop_text: int  # of a "finished" event: the index of the stop text that ended the answer, or -1


class Library:
    """The opened libbinhdan. Handles are plain integers; binhdan.h states the contract of each function."""

    def __init__(self, header: Path, binary: Path) -> None:
        import cffi

        self.path = binary
        self._ffi: Any = cffi.FFI()
        self._ffi.cdef(declarations(header.read_text(encoding="utf-8")))
        self._lib: Any = self._ffi.dlopen(str(binary))
        self._event_kinds = self._names("binhdan_event_kind", "BINHDAN_EVENT_")
        self._finishes = self._names("binhdan_finish", "BINHDAN_FINISH_")
        self._chat_families = self._names("binhdan_chat_family", "BINHDAN_CHAT_")
        self._poolings = self._names("binhdan_pooling", "BINHDAN_POOLING_")
        self._start_logging()

    # ---- library -------------------------------------------------------------------------------------------

    def version(self) -> str:
        return self._string(self._lib.binhdan_version())

    def isas(self) -> list[str]:
        """Kernel tables of this build, the fastest last."""
        return self._string(self._lib.binhdan_isas()).split()

    def cpu_name(self) -> str:
        """The processor's name; "" when unknown."""
        return self._string(self._lib.binhdan_cpu_name())

    def usable_cores(self) -> int:
        """Cores that this process may use."""
        return int(self._lib.binhdan_usable_cores())

    def measure_bandwidth(self, threads: int) -> float:
        """Memory bandwidth in bytes per second of `threads` threads together; takes about half a second."""
        out = self._ffi.new("double *")
        self._check(self._lib.binhdan_measure_bandwidth(threads, out))
        return float(out[0])

    # ---- model ---------------------------------------------------------------------------------------------

    def open_model(
        self,
        path: str,
        options: LoadOptions,
        *,
        vocabulary_only: bool = False,
        progress: Callable[[float], object] | None = None,
    ) -> int:
        """`progress` is called with the loaded part, 0 to 1; its exception ends the loading and is raised."""
        failure: list[BaseException] = []

        def report(_: Any, done: float) -> int:
            try:
                assert progress is not None
                progress(done)
            except BaseException as error:
                failure.append(error)
                return 0
            return 1

        c_progress = self._ffi.NULL if progress is None else self._ffi.callback("binhdan_progress", report)
        c_isa = self._c_string(options.isa) if options.isa is not None else self._ffi.NULL
        c_options = self._struct(
            "binhdan_model_options",
            threads=options.threads or 0,
            isa=c_isa,
            flags=self._flags(
                MODEL_NO_MEMORY_CHECK=not options.memory_check, MODEL_VOCABULARY_ONLY=vocabulary_only
            ),
            progress=c_progress,
        )
        out = self._ffi.new("binhdan_model *")
        status = self._lib.binhdan_model_open(self._c_string(path), c_options, out)
        if failure:
            raise failure[0]
        self._check(status)
        return int(out[0])

    def pack_model(self, path: str, output: str | None = None) -> None:
        """Writes the pack file of a model; `output` None: the name that open_model looks for."""
        c_output = self._c_string(output) if output is not None else self._ffi.NULL
        self._check(self._lib.binhdan_model_pack(self._c_string(path), self._ffi.NULL, c_output))

    def close_model(self, model: int) -> None:
        self._check(self._lib.binhdan_model_close(model))

    def describe_model(self, model: int) -> ModelInfo:
        info = self._struct("binhdan_model_info")
        self._check(self._lib.binhdan_model_describe(model, info))
        return ModelInfo(
            architecture=self._string(info.architecture),
            isa=self._string(info.isa),
            parameters=info.parameters,
            file_bytes=info.file_bytes,
            weight_bytes=info.weight_bytes,
            bytes_per_token=info.bytes_per_token,
            kv_bytes_per_token=info.kv_bytes_per_token,
            context=info.context,
            vocabulary=info.vocabulary,
            embedding=info.embedding,
            layers=info.layers,
            heads=info.heads,
            kv_heads=info.kv_heads,
            head_dim=info.head_dim,
            bos=info.bos if info.bos >= 0 else None,
            eos=info.eos if info.eos >= 0 else None,
            causal=bool(info.causal),
            pooling=self._poolings[info.pooling],
            unknown=info.unknown if info.unknown >= 0 else None,
            padding=info.padding if info.padding >= 0 else None,
        )

    def chat_family(self, model: int) -> ChatFamily:
        """The built-in chat family that the library uses for this model."""
        info = self._struct("binhdan_model_info")
        self._check(self._lib.binhdan_model_describe(model, info))
        family: ChatFamily = self._chat_families[info.chat_family]
        return family

    def metadata(self, model: int, key: str) -> str | None:
        """A string of the file's metadata; None when the file has no string under `key`."""
        try:
            return self._read_text(self._lib.binhdan_model_metadata, model, self._c_string(key)).decode(
                "utf-8", "replace"
            )
        except ModelNotFoundError:
            return None

    def inspect(self, path: str) -> str:
        """A JSON description of any GGUF file."""
        return self._read_text(self._lib.binhdan_inspect, self._c_string(path), first=1 << 20).decode(
            "utf-8", "replace"
        )

    # ---- adapters ------------------------------------------------------------------------------------------

    def open_adapter(self, model: int, path: str) -> int:
        out = self._ffi.new("binhdan_adapter *")
        self._check(self._lib.binhdan_adapter_open(model, self._c_string(path), out))
        return int(out[0])

    def close_adapter(self, adapter: int) -> None:
        self._check(self._lib.binhdan_adapter_close(adapter))

    def describe_adapter(self, adapter: int) -> dict[str, int]:
        """The fields of binhdan_adapter_info."""
        info = self._struct("binhdan_adapter_info")
        self._check(self._lib.binhdan_adapter_describe(adapter, info))
        return self._fields(info)

    # ---- text ----------------------------------------------------------------------------------------------

    def tokenize(
        self, model: int, text: bytes, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        flags = self._flags(ADD_SPECIAL=add_special, PARSE_SPECIAL=parse_special)
        return self._read_tokens(
            len(text) + 8, self._lib.binhdan_tokenize, model, self._ffi.from_buffer(text), len(text), flags
        )

    def tokenize_segments(self, model: int, segments: Sequence[tuple[bytes, bool]]) -> list[int]:
        """Each segment is (text, is markup); see binhdan_segment."""
        c_segments = self._ffi.new("binhdan_segment[]", len(segments))
        buffers = [self._ffi.from_buffer(text) for text, _ in segments]
        for c_segment, buffer, (text, markup) in zip(c_segments, buffers, segments, strict=True):
            c_segment.text, c_segment.size, c_segment.markup = buffer, len(text), markup
        capacity = sum(len(text) for text, _ in segments) + 8
        return self._read_tokens(
            capacity, self._lib.binhdan_tokenize_segments, model, c_segments, len(segments), 0
        )

    def tokenize_chat(
        self, model: int, messages: Sequence[tuple[str, bytes]], add_generation_prompt: bool
    ) -> list[int]:
        """Each message is (role, content). The library chooses the chat family."""
        c_messages = self._ffi.new("binhdan_message[]", len(messages))
        alive = [(self._c_string(role), self._ffi.from_buffer(content)) for role, content in messages]
        for c_message, (role, buffer), (_, content) in zip(c_messages, alive, messages, strict=True):
            c_message.role, c_message.content, c_message.size = role, buffer, len(content)
        capacity = sum(len(content) + 64 for _, content in messages) + 64
        return self._read_tokens(
            capacity,
            self._lib.binhdan_chat_tokenize,
            model,
            self._lib.BINHDAN_CHAT_AUTO,
            c_messages,
            len(messages),
            add_generation_prompt,
        )

    def tokenize_pair(self, model: int, query: bytes, document: bytes) -> list[int]:
        """A query and a document for a reranker."""
        c_query, c_document = self._ffi.from_buffer(query), self._ffi.from_buffer(document)
        return self._read_tokens(
            len(query) + len(document) + 64,
            self._lib.binhdan_tokenize_pair,
            model,
            c_query,
            len(query),
            c_document,
            len(document),
        )

    def detokenize(self, model: int, tokens: Sequence[int], *, special: bool = False) -> bytes:
        """`special` includes the text of control tokens."""
        c_tokens = self._int32s(tokens)
        flags = self._flags(WRITE_SPECIAL=special)
        return self._read_text(
            self._lib.binhdan_detokenize, model, c_tokens, len(tokens), flags, first=16 * len(tokens) + 256
        )

    def token_roles(self, model: int, vocabulary: int) -> list[int]:
        """The role of each token of the vocabulary: 0 text, 1 ends an answer, 2 another control token."""
        role = self._lib.binhdan_token_role
        out = self._ffi.new("int32_t *")
        roles = []
        for token in range(vocabulary):
            self._check(role(model, token, out))
            roles.append(out[0])
        return roles

    # ---- engine --------------------------------------------------------------------------------------------

    def create_engine(self, model: int, options: LoadOptions, draft: int = 0) -> int:
        """`draft`: the handle of a draft model, which may be closed afterwards; 0: none."""
        folder = options.prefix_cache_dir
        c_folder = self._c_string(folder) if folder is not None else self._ffi.NULL
        c_options = self._struct(
            "binhdan_engine_options",
            flags=self._flags(
                DETERMINISTIC=options.deterministic,
                NO_PREFIX_CACHE=not options.prefix_cache,
                NO_MEMORY_CHECK=not options.memory_check,
            ),
            threads=options.threads or 0,
            context=options.context or 0,
            max_sequences=options.max_sequences or 0,
            max_waiting=options.max_waiting or 0,
            prefill_chunk=options.prefill_chunk or 0,
            max_decode_stall_ms=options.max_decode_stall_ms or 0,
            max_kv_bytes=options.max_kv_bytes or 0,
            cache_folder=c_folder,
            max_cache_folder_bytes=options.max_prefix_cache_dir_bytes or 0,
            kv_type=self._value(f"KV_{options.kv_type.upper()}"),
            draft=draft,
        )
        out = self._ffi.new("binhdan_engine *")
        self._check(self._lib.binhdan_engine_create(model, c_options, out))
        return int(out[0])

    def close_engine(self, engine: int) -> None:
        self._check(self._lib.binhdan_engine_close(engine))

    def describe_engine(self, engine: int) -> dict[str, int]:
        """The fields of binhdan_engine_info."""
        info = self._struct("binhdan_engine_info")
        self._check(self._lib.binhdan_engine_describe(engine, info))
        return self._fields(info)

    # ---- requests ------------------------------------------------------------------------------------------

    def create_queue(self, engine: int) -> int:
        out = self._ffi.new("binhdan_queue *")
        self._check(self._lib.binhdan_queue_create(engine, out))
        return int(out[0])

    def close_queue(self, queue: int) -> None:
        self._check(self._lib.binhdan_queue_close(queue))

    def queue_fd(self, queue: int) -> int:
        """A file descriptor that is readable while the queue holds events. The queue owns it."""
        out = self._ffi.new("int32_t *")
        self._check(self._lib.binhdan_queue_fd(queue, out))
        return int(out[0])

    def next_event(self, queue: int, timeout_ms: int) -> Event | None:
        """The next event, or None after `timeout_ms`. Other Python threads run during the wait."""
        out = self._ffi.new("binhdan_event **")
        self._check(self._lib.binhdan_queue_next(queue, timeout_ms, out))
        if out[0] == self._ffi.NULL:
            return None
        try:
            return self._event(out[0])
        finally:
            self._lib.binhdan_event_free(out[0])

    def submit(
        self,
        engine: int,
        queue: int,
        tokens: Sequence[int],
        options: GenerationOptions,
        seed: int,
        masked: bool,
        cache_salt: int = 0,
        use_cache: bool = True,
        adapter: int = 0,
    ) -> int:
        """Submits a generation and returns its id for `cancel` and `set_mask`.

        Requests with different values of `cache_salt` share nothing in the prefix cache.
        """
        stops = [stop.encode("utf-8", "replace") for stop in options.stop]
        buffers = [self._ffi.from_buffer(stop) for stop in stops]
        c_stops = self._ffi.new("binhdan_text[]", len(stops))
        for c_stop, buffer, stop in zip(c_stops, buffers, stops, strict=True):
            c_stop.text, c_stop.size = buffer, len(stop)
        c_stop_tokens = self._int32s(options.stop_tokens)
        c_bias = self._ffi.new("binhdan_token_value[]", list(options.logit_bias.items()))
        return self._submit(
            engine,
            queue,
            tokens,
            kind=self._lib.BINHDAN_GENERATE,
            flags=self._flags(
                IGNORE_EOS=options.ignore_eos, USE_MASK=masked, SKIP_PREFIX_CACHE=not use_cache
            ),
            max_tokens=-1 if options.max_tokens is None else options.max_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            top_logprobs=-1 if options.logprobs is None else options.logprobs,
            seed=seed,
            logit_bias=c_bias,
            n_logit_bias=len(options.logit_bias),
            stop=c_stops,
            n_stop=len(stops),
            stop_tokens=c_stop_tokens,
            n_stop_tokens=len(options.stop_tokens),
            min_tokens=options.min_tokens,
            cache_salt=cache_salt,
            loop_guard=0 if options.ignore_eos else options.loop_guard,
            max_draft_tokens=0 if options.ignore_eos else options.max_draft_tokens,
            adapter=adapter,
        )

    def submit_scoring(
        self,
        engine: int,
        queue: int,
        tokens: Sequence[int],
        score_from: int | None,
        adapter: int = 0,
        top: int = 0,
    ) -> int:
        """Submits the scoring of the tokens from `score_from` on, or None: the logits after the last token.
        Its events are one "scores" or "logits", then "finished". "scores" has the `top` most likely tokens
        for each scored token."""
        kind = self._lib.BINHDAN_LOGITS if score_from is None else self._lib.BINHDAN_SCORE
        return self._submit(
            engine,
            queue,
            tokens,
            kind=kind,
            score_from=score_from or 0,
            adapter=adapter,
            top_logprobs=top,
        )

    def submit_embedding(
        self, engine: int, queue: int, tokens: Sequence[int], options: EmbeddingOptions, adapter: int = 0
    ) -> int:
        """Submits an embedding. Its events are one "embedding", then "finished"."""
        return self._submit(
            engine,
            queue,
            tokens,
            kind=self._lib.BINHDAN_EMBED,
            flags=self._flags(NO_NORMALIZE=not options.normalize),
            pooling=self._value(f"POOLING_{(options.pooling or 'auto').upper()}"),
            dimensions=options.dimensions or 0,
            adapter=adapter,
        )

    def cancel(self, engine: int, request: int) -> None:
        self._check(self._lib.binhdan_cancel(engine, request))

    def set_mask(self, engine: int, request: int, mask: Buffer) -> None:
        """Bit t of `mask` (bytes, low bit first) allows token t; 4 bytes for every 32 tokens, or none."""
        view = memoryview(mask).cast("B")
        if len(view) % 4:
            raise InvalidArgumentError(f"mask: expected a multiple of 4 bytes, got {len(view)}")
        words = array.array("I")
        words.frombytes(view)
        self._check(
            self._lib.binhdan_set_mask(
                engine, request, self._ffi.from_buffer("uint32_t[]", words), len(words)
            )
        )

    # ---- sessions ------------------------------------------------------------------------------------------

    def save_session(
        self, engine: int, path: str, tokens: Sequence[int], note: bytes, cache_salt: int = 0
    ) -> None:
        c_tokens, c_note = self._int32s(tokens), self._ffi.from_buffer(note)
        self._check(
            self._lib.binhdan_session_save(
                engine, self._c_string(path), c_tokens, len(tokens), cache_salt, c_note, len(note)
            )
        )

    def load_session(self, engine: int, path: str, cache_salt: int = 0) -> bytes:
        """Restores the keys and values, and returns the note."""
        return self._read_text(self._lib.binhdan_session_load, engine, self._c_string(path), cache_salt)

    # ---- restoring diacritics ------------------------------------------------------------------------------

    def open_restorer(self, path: str, scorer: str | None = None) -> int:
        out = self._ffi.new("binhdan_restorer *")
        file = self._c_string(path)
        if scorer is None:
            self._check(self._lib.binhdan_restorer_open(file, out))
        else:
            self._check(self._lib.binhdan_restorer_open_scored(file, self._c_string(scorer), out))
        return int(out[0])

    def restorer_card(self, restorer: int) -> str:
        return self._read_text(self._lib.binhdan_restorer_card, restorer).decode("utf-8", "replace")

    def restore(self, restorer: int, text: bytes, options: RestoreOptions) -> bytes:
        given, buffer = self._restore_options(options), self._ffi.from_buffer(text)
        first = len(text) + len(text) // 2 + 64
        return self._read_text(self._lib.binhdan_restore, restorer, buffer, len(text), given, first=first)

    def explain_restoration(self, restorer: int, text: bytes, options: RestoreOptions) -> bytes:
        """JSON; see binhdan_restore_explain."""
        given, buffer = self._restore_options(options), self._ffi.from_buffer(text)
        first = 64 * len(text) + 4096
        return self._read_text(
            self._lib.binhdan_restore_explain, restorer, buffer, len(text), given, first=first
        )

    def spell(self, restorer: int, text: bytes, format: TextFormat, min_confidence: float) -> bytes:
        """JSON; see binhdan_spell."""
        options = self._struct(
            "binhdan_spell_options",
            format=self._value(f"FORMAT_{format.upper()}"),
            min_confidence=min_confidence,
        )
        buffer, first = self._ffi.from_buffer(text), 4 * len(text) + 4096
        return self._read_text(self._lib.binhdan_spell, restorer, buffer, len(text), options, first=first)

    def _restore_options(self, options: RestoreOptions) -> Any:
        return self._struct(
            "binhdan_restore_options",
            style=self._value(f"STYLE_{options.style.upper()}"),
            format=self._value(f"FORMAT_{options.format.upper()}"),
            min_confidence=options.min_confidence,
            typing=self._value(f"TYPING_{options.typing.upper()}"),
            fast=int(options.fast),
        )

    def _start_logging(self) -> None:
        sink = self._ffi.callback("binhdan_log_sink", self._log)
        self._lib.binhdan_set_log_sink(sink, self._ffi.NULL)
        self._sink = sink  # must live as long as the library calls it
        # A thread of the library must not call Python while the interpreter ends.
        atexit.register(self._lib.binhdan_set_log_sink, self._ffi.NULL, self._ffi.NULL)

    def _log(self, _: Any, level: int, message: Any) -> None:
        """The library's log sink."""
        _log.log(_LEVELS.get(level, logging.WARNING), "%s", self._string(message))

    # ---- helpers -------------------------------------------------------------------------------------------

    def _submit(self, engine: int, queue: int, tokens: Sequence[int], **settings: Any) -> int:
        request = self._ffi.new("binhdan_request *")
        self._lib.binhdan_request_init_sized(request, self._ffi.sizeof("binhdan_request"))
        c_tokens = self._int32s(tokens)
        request.tokens, request.n_tokens = c_tokens, len(tokens)
        for name, value in settings.items():
            setattr(request, name, value)
        out = self._ffi.new("binhdan_request_id *")
        self._check(self._lib.binhdan_submit(engine, queue, request, out))
        return int(out[0])

    def _event(self, event: Any) -> Event:
        data = bytes(self._ffi.buffer(event.text, event.text_size)) if event.text_size else b""
        text = data.decode("utf-8", "replace")
        failed = event.finish == self._lib.BINHDAN_FINISH_ERROR
        return Event(
            kind=self._event_kinds[event.kind],
            request=event.request,
            text=text,
            token=event.token,
            logprob=event.logprob,
            top=tuple((event.top[i].token, event.top[i].value) for i in range(event.n_top)),
            values=self._floats(event.values, event.n_values),
            finish=None if failed else self._finishes.get(event.finish),
            error=from_status(event.status, text) if failed else None,
            prompt_tokens=event.prompt_tokens,
            answer_tokens=event.answer_tokens,
            queue_ns=event.queue_ns,
            prefill_ns=event.prefill_ns,
            decode_ns=event.decode_ns,
            cached_tokens=event.cached_tokens,
            drafted_tokens=event.drafted_tokens,
            accepted_tokens=event.accepted_tokens,
            stop_text=event.stop_text,
        )

    def _floats(self, values: Any, count: int) -> array.array[float]:
        floats = array.array("f")
        if count:
            floats.frombytes(self._ffi.buffer(values, 4 * count))
        return floats

    def _names(self, enum: str, prefix: str) -> dict[int, Any]:
        """The enumerators of a C enum: value -> name in lower case without `prefix`."""
        elements: dict[int, str] = self._ffi.typeof(enum).elements
        return {value: name.removeprefix(prefix).lower() for value, name in elements.items()}

    def _value(self, name: str) -> int:
        """The value of the enumerator BINHDAN_`name`."""
        return int(getattr(self._lib, f"BINHDAN_{name}"))

    def _flags(self, **chosen: bool) -> int:
        """The union of the flags whose argument is true; names without BINHDAN_."""
        return sum(self._value(name) for name, wanted in chosen.items() if wanted)

    def _check(self, status: int) -> None:
        if status:
            raise from_status(status, self._string(self._lib.binhdan_last_error()))

    def _struct(self, name: str, **values: Any) -> Any:
        struct = self._ffi.new(f"{name} *")
        struct.struct_size = self._ffi.sizeof(name)
        for key, value in values.items():
            setattr(struct, key, value)
        return struct

    def _fields(self, struct: Any) -> dict[str, int]:
        """The numbers in a struct, by name, without struct_size."""
        names = [name for name, _ in self._ffi.typeof(struct).item.fields]
        return {name: int(getattr(struct, name)) for name in names if name != "struct_size"}

    def _read_tokens(self, capacity: int, function: Any, *arguments: Any) -> list[int]:
        count = self._ffi.new("size_t *")
        while True:
            tokens = self._ffi.new("int32_t[]", capacity)
            status = function(*arguments, tokens, capacity, count)
            if status != self._lib.BINHDAN_TOO_SMALL:
                self._check(status)
                return list(self._ffi.unpack(tokens, count[0]))
            capacity = int(count[0])

    def _read_text(self, function: Any, *arguments: Any, first: int = 4096) -> bytes:
        capacity = first
        size = self._ffi.new("size_t *")
        while True:
            buffer = self._ffi.new("char[]", capacity)
            status = function(*arguments, buffer, capacity, size)
            if status != self._lib.BINHDAN_TOO_SMALL:
                self._check(status)
                return bytes(self._ffi.buffer(buffer, size[0]))
            capacity = int(size[0]) + 1

    def _int32s(self, values: Sequence[int]) -> Any:
        try:
            return self._ffi.from_buffer("int32_t[]", array.array("i", values))
        except OverflowError:
            raise InvalidArgumentError("expected tokens that fit a signed 32-bit integer") from None

    def _c_string(self, text: str) -> Any:
        if "\0" in text:
            raise InvalidArgumentError(f"expected a string without NUL characters, got {text!r}")
        return self._ffi.new("char[]", text.encode("utf-8", "surrogateescape"))

    def _string(self, c_string: Any) -> str:
        return bytes(self._ffi.string(c_string)).decode("utf-8", "replace")


def declarations(header: str) -> str:
    """The part of a header of the library between its cffi marks, in the form that cffi parses."""
    _, _, after = header.partition("cffi-begin")
    region = after.partition("*/")[2].partition("/* cffi-end")[0]
    return region.replace("BINHDAN_API ", "")


_LIBRARY_NAMES = {"darwin": "libbinhdan.dylib", "win32": "libbinhdan.dll"}


@cache
def library() -> Library:
    """The installed library, opened once. Raises UnsupportedError when it is missing or cannot be loaded."""
    name = _LIBRARY_NAMES.get(sys.platform, "libbinhdan.so")
    binary, header = package_file(f"lib/{name}"), package_file("include/binhdan.h")
    if binary is None or header is None:
        searched = ", ".join(str(Path(folder) / "lib") for folder in sys.modules["binhdan"].__path__)
        raise UnsupportedError(f"found no {name} in {searched}; install the package again: pip install .")
    try:
        return Library(header, binary)
    except OSError as error:
        raise UnsupportedError(f"cannot load {binary}: {error}") from error
