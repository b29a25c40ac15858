"""Functions of engines: requests, events, sessions."""

from __future__ import annotations

import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binhdan.runtime.errors import InvalidArgumentError, from_status
from binhdan.runtime.ffi.binding import Binding
from binhdan.runtime.ffi.types import Event
from binhdan.runtime.options import EmbeddingOptions, GenerationOptions, LoadOptions

if TYPE_CHECKING:
    from typing_extensions import Buffer


class EngineFunctions(Binding):
    def __init__(self, header: Path, binary: Path) -> None:
        super().__init__(header, binary)
        self._event_kinds = self._names("binhdan_event_kind", "BINHDAN_EVENT_")
        self._finishes = self._names("binhdan_finish", "BINHDAN_FINISH_")

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
