"""The C library as Python functions: the only import of cffi, and the only place that handles C memory.

Declarations come from the installed binhdan.h, so that Python can do what every other caller of the C
interface can do, and no more. Functions raise the exceptions of errors.py.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binhdan.runtime.errors import ModelNotFoundError, UnsupportedError, from_status
from binhdan.runtime.options import GenerationOptions, LoadOptions
from binhdan.runtime.results import ModelInfo

if TYPE_CHECKING:
    from typing_extensions import Buffer

ADD_SPECIAL = 1
PARSE_SPECIAL = 2
CHAT_AUTO = -1
CHAT_PLAIN = 0
EVENT_TOKEN = 1
EVENT_FINISHED = 2
EVENT_EMBEDDING = 3
FINISH_ERROR = 5

_TOO_SMALL = 12
_DETERMINISTIC = 2
_GENERATE = 0
_EMBED = 1
_IGNORE_EOS = 1
_USE_MASK = 2
_NO_CACHE = 4
_NO_PREFIX_CACHE = 4
_KV_TYPES = {"f16": 0, "q8_0": 1}


@dataclass(frozen=True, slots=True)
class Event:
    """binhdan_event in Python's own memory."""

    kind: int
    request: int
    text: str
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    values: tuple[float, ...]
    finish: int
    status: int
    prompt_tokens: int
    answer_tokens: int
    queue_ns: int
    prefill_ns: int
    decode_ns: int
    cached_tokens: int


class Library:
    """libbinhdan, opened. Handles are plain integers; see binhdan.h for the contract of each function."""

    def __init__(self, header: Path, binary: Path) -> None:
        import cffi

        self.path = binary
        self._ffi: Any = cffi.FFI()
        self._ffi.cdef(_declarations(header.read_text(encoding="utf-8")))
        self._lib: Any = self._ffi.dlopen(str(binary))

    # ---- library -------------------------------------------------------------------------------------------

    def version(self) -> str:
        return self._string(self._lib.binhdan_version())

    def isas(self) -> list[str]:
        """Kernel tables of this build, best last."""
        return self._string(self._lib.binhdan_isas()).split()

    def cpu_name(self) -> str:
        """The processor's name; "" when unknown."""
        return self._string(self._lib.binhdan_cpu_name())

    def usable_cores(self) -> int:
        """Cores that this process may use."""
        return int(self._lib.binhdan_usable_cores())

    def measure_bandwidth(self, threads: int) -> float:
        """Bytes per second that `threads` threads read from memory together; takes about half a second."""
        out = self._ffi.new("double *")
        self._check(self._lib.binhdan_measure_bandwidth(threads, out))
        return float(out[0])

    # ---- model ---------------------------------------------------------------------------------------------

    def open_model(self, path: str, options: LoadOptions) -> int:
        c_isa = self._c_string(options.isa) if options.isa is not None else self._ffi.NULL
        c_options = self._struct("binhdan_model_options", threads=options.threads or 0, isa=c_isa)
        out = self._ffi.new("binhdan_model *")
        self._check(self._lib.binhdan_model_open(self._c_string(path), c_options, out))
        return int(out[0])

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
        )

    def chat_family(self, model: int) -> int:
        """The built-in chat family that stands for this model's template."""
        info = self._struct("binhdan_model_info")
        self._check(self._lib.binhdan_model_describe(model, info))
        return int(info.chat_family)

    def metadata(self, model: int, key: str) -> str | None:
        """A metadata value that is a string; None when there is none."""
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

    # ---- text ----------------------------------------------------------------------------------------------

    def tokenize(self, model: int, text: bytes, flags: int) -> list[int]:
        return self._read_tokens(
            len(text) + 8, self._lib.binhdan_tokenize, model, self._ffi.from_buffer(text), len(text), flags
        )

    def tokenize_segments(self, model: int, segments: Sequence[tuple[bytes, bool]], flags: int) -> list[int]:
        """Segments are (text, is markup); see binhdan_segment."""
        c_segments = self._ffi.new("binhdan_segment[]", len(segments))
        buffers = [self._ffi.from_buffer(text) for text, _ in segments]
        for c_segment, buffer, (text, markup) in zip(c_segments, buffers, segments, strict=True):
            c_segment.text, c_segment.size, c_segment.markup = buffer, len(text), markup
        capacity = sum(len(text) for text, _ in segments) + 8
        return self._read_tokens(
            capacity, self._lib.binhdan_tokenize_segments, model, c_segments, len(segments), flags
        )

    def tokenize_chat(
        self, model: int, family: int, messages: Sequence[tuple[str, bytes]], add_generation_prompt: bool
    ) -> list[int]:
        """Messages are (role, content)."""
        c_messages = self._ffi.new("binhdan_message[]", len(messages))
        alive = [(self._c_string(role), self._ffi.from_buffer(content)) for role, content in messages]
        for c_message, (role, buffer), (_, content) in zip(c_messages, alive, messages, strict=True):
            c_message.role, c_message.content, c_message.size = role, buffer, len(content)
        capacity = sum(len(content) + 64 for _, content in messages) + 64
        return self._read_tokens(
            capacity,
            self._lib.binhdan_chat_tokenize,
            model,
            family,
            c_messages,
            len(messages),
            add_generation_prompt,
        )

    def detokenize(self, model: int, tokens: Sequence[int], flags: int) -> bytes:
        c_tokens = self._int32s(tokens)
        return self._read_text(
            self._lib.binhdan_detokenize, model, c_tokens, len(tokens), flags, first=16 * len(tokens) + 256
        )

    def token_roles(self, model: int, vocabulary: int) -> list[int]:
        """For each token of a vocabulary of that size: 0 text, 1 ends an answer, 2 another control token."""
        role = self._lib.binhdan_token_role
        out = self._ffi.new("int32_t *")
        roles = []
        for token in range(vocabulary):
            self._check(role(model, token, out))
            roles.append(out[0])
        return roles

    # ---- engine --------------------------------------------------------------------------------------------

    def create_engine(self, model: int, options: LoadOptions) -> int:
        folder = options.prefix_cache_dir
        c_folder = self._c_string(folder) if folder is not None else self._ffi.NULL
        c_options = self._struct(
            "binhdan_engine_options",
            flags=(_DETERMINISTIC if options.deterministic else 0)
            | (0 if options.prefix_cache else _NO_PREFIX_CACHE),
            threads=options.threads or 0,
            context=options.context or 0,
            max_sequences=options.max_sequences or 0,
            max_waiting=options.max_waiting or 0,
            prefill_chunk=options.prefill_chunk or 0,
            max_decode_stall_ms=options.max_decode_stall_ms or 0,
            max_kv_bytes=options.max_kv_bytes or 0,
            cache_folder=c_folder,
            max_cache_folder_bytes=options.max_prefix_cache_dir_bytes or 0,
            kv_type=_KV_TYPES[options.kv_type],
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
        fields = self._ffi.typeof(info).item.fields
        return {name: int(getattr(info, name)) for name, _ in fields if name != "struct_size"}

    # ---- requests ------------------------------------------------------------------------------------------

    def create_queue(self, engine: int) -> int:
        out = self._ffi.new("binhdan_queue *")
        self._check(self._lib.binhdan_queue_create(engine, out))
        return int(out[0])

    def close_queue(self, queue: int) -> None:
        self._check(self._lib.binhdan_queue_close(queue))

    def queue_fd(self, queue: int) -> int:
        """A descriptor that is readable while events wait; it belongs to the queue."""
        out = self._ffi.new("int32_t *")
        self._check(self._lib.binhdan_queue_fd(queue, out))
        return int(out[0])

    def next_event(self, queue: int, timeout_ms: int) -> Event | None:
        """The next event; None when none came in time. Lets other Python threads run meanwhile."""
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
    ) -> int:
        """Submits a generation; its number for cancel and set_mask. Requests with different salts share
        nothing in the prefix cache."""
        flags = _IGNORE_EOS if options.ignore_eos else 0
        flags |= (_USE_MASK if masked else 0) | (0 if use_cache else _NO_CACHE)
        stops = [stop.encode("utf-8", "replace") for stop in options.stop]
        buffers = [self._ffi.from_buffer(stop) for stop in stops]
        c_stops = self._ffi.new("binhdan_text[]", len(stops))
        for c_stop, buffer, stop in zip(c_stops, buffers, stops, strict=True):
            c_stop.text, c_stop.size = buffer, len(stop)
        c_bias = self._ffi.new("binhdan_token_value[]", list(options.logit_bias.items()))
        return self._submit(
            engine,
            queue,
            tokens,
            kind=_GENERATE,
            flags=flags,
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
            cache_salt=cache_salt,
        )

    def submit_embedding(self, engine: int, queue: int, tokens: Sequence[int]) -> int:
        """Submits an embedding: one EVENT_EMBEDDING comes, then EVENT_FINISHED."""
        return self._submit(engine, queue, tokens, kind=_EMBED)

    def cancel(self, engine: int, request: int) -> None:
        self._check(self._lib.binhdan_cancel(engine, request))

    def set_mask(self, engine: int, request: int, mask: Buffer) -> None:
        """Bit t of `mask` (bytes, low bit first) allows token t; the size is a multiple of 4 bytes."""
        view = memoryview(mask).cast("B")
        words = array.array("I")
        words.frombytes(view)
        self._check(
            self._lib.binhdan_set_mask(
                engine, request, self._ffi.from_buffer("uint32_t[]", words), len(words)
            )
        )

    # ---- helpers -------------------------------------------------------------------------------------------

    def _submit(self, engine: int, queue: int, tokens: Sequence[int], **settings: Any) -> int:
        request = self._ffi.new("binhdan_request *")
        self._lib.binhdan_request_init(request)
        c_tokens = self._int32s(tokens)
        request.tokens, request.n_tokens = c_tokens, len(tokens)
        for name, value in settings.items():
            setattr(request, name, value)
        out = self._ffi.new("binhdan_id *")
        self._check(self._lib.binhdan_submit(engine, queue, request, out))
        return int(out[0])

    def _event(self, event: Any) -> Event:
        text = bytes(self._ffi.buffer(event.text, event.text_size)) if event.text_size else b""
        return Event(
            kind=event.kind,
            request=event.request,
            text=text.decode("utf-8", "replace"),
            token=event.token,
            logprob=event.logprob,
            top=tuple((event.top[i].token, event.top[i].value) for i in range(event.n_top)),
            values=tuple(self._ffi.unpack(event.values, event.n_values)) if event.n_values else (),
            finish=event.finish,
            status=event.status,
            prompt_tokens=event.prompt_tokens,
            answer_tokens=event.answer_tokens,
            queue_ns=event.queue_ns,
            prefill_ns=event.prefill_ns,
            decode_ns=event.decode_ns,
            cached_tokens=event.cached_tokens,
        )

    def _check(self, status: int) -> None:
        if status:
            raise from_status(status, self._string(self._lib.binhdan_last_error()))

    def _struct(self, name: str, **values: Any) -> Any:
        struct = self._ffi.new(f"{name} *")
        struct.struct_size = self._ffi.sizeof(name)
        for key, value in values.items():
            setattr(struct, key, value)
        return struct

    def _read_tokens(self, capacity: int, function: Any, *arguments: Any) -> list[int]:
        count = self._ffi.new("size_t *")
        while True:
            tokens = self._ffi.new("int32_t[]", capacity)
            status = function(*arguments, tokens, capacity, count)
            if status != _TOO_SMALL:
                self._check(status)
                return list(self._ffi.unpack(tokens, count[0]))
            capacity = int(count[0])

    def _read_text(self, function: Any, *arguments: Any, first: int = 4096) -> bytes:
        capacity = first
        size = self._ffi.new("size_t *")
        while True:
            buffer = self._ffi.new("char[]", capacity)
            status = function(*arguments, buffer, capacity, size)
            if status != _TOO_SMALL:
                self._check(status)
                return bytes(self._ffi.buffer(buffer, size[0]))
            capacity = int(size[0]) + 1

    def _int32s(self, values: Sequence[int]) -> Any:
        try:
            return self._ffi.from_buffer("int32_t[]", array.array("i", values))
        except OverflowError:
            raise from_status(1, "a token is a number that fits 32 bits") from None

    def _c_string(self, text: str) -> Any:
        if "\0" in text:
            raise from_status(1, f"{text!r} holds a NUL character")
        return self._ffi.new("char[]", text.encode("utf-8", "surrogateescape"))

    def _string(self, c_string: Any) -> str:
        return bytes(self._ffi.string(c_string)).decode("utf-8", "replace")


def _declarations(header: str) -> str:
    """What stands between the cffi marks of binhdan.h, as cffi reads it."""
    _, _, after = header.partition("cffi-begin")
    region = after.partition("*/")[2].partition("/* cffi-end")[0]
    return region.replace("BINHDAN_API ", "")


@cache
def library() -> Library:
    """The installed library, opened once. Raises UnsupportedError where it is missing or cannot be loaded."""
    # An editable install spreads the package over the source tree and site-packages.
    for folder in map(Path, sys.modules["binhdan"].__path__):
        binary = folder / "lib" / ("libbinhdan.dylib" if sys.platform == "darwin" else "libbinhdan.so")
        if binary.exists():
            try:
                return Library(folder / "include" / "binhdan.h", binary)
            except OSError as error:
                raise UnsupportedError(f"cannot load {binary}: {error}") from error
    raise UnsupportedError("libbinhdan is not installed with this package; install it again: pip install .")
