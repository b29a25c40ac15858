"""Invalid arguments return a status and a message; they never crash."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from api.abi import (
    MODEL,
    Running,
    check,
    create_engine,
    events_of,
    ffi,
    last_error,
    lib,
    prompt,
    request,
    struct,
)

from binhdan.runtime.ffi import library

NULL = ffi.NULL
HUGE = [2**64 - 1, 2**62]


@pytest.fixture(scope="module", autouse=True)
def package_sink() -> Iterator[None]:
    """These tests replace the log sink of the process; later tests read the log of the package."""
    yield
    library()._start_logging()


def check_invalid(status: int, message: str) -> None:
    assert status == lib.BINHDAN_INVALID_ARGUMENT, (status, last_error())
    assert message in last_error()


def test_null_outputs(shared_engine: Running) -> None:
    model, engine, queue = shared_engine.model, shared_engine.engine, shared_engine.queue
    path = str(MODEL).encode()
    calls: list[tuple[Callable[[], int], str]] = [
        (lambda: lib.binhdan_model_open(path, NULL, NULL), "model"),
        (lambda: lib.binhdan_model_open(NULL, NULL, ffi.new("uint64_t *")), "path"),
        (lambda: lib.binhdan_model_describe(model, NULL), "binhdan_model_info"),
        (lambda: lib.binhdan_model_metadata(model, NULL, NULL, 0, ffi.new("size_t *")), "key"),
        (lambda: lib.binhdan_model_metadata(model, b"general.architecture", NULL, 0, NULL), "size"),
        (lambda: lib.binhdan_model_warnings(model, NULL, 0, NULL), "size"),
        (lambda: lib.binhdan_inspect(NULL, NULL, 0, ffi.new("size_t *")), "path"),
        (lambda: lib.binhdan_inspect(path, NULL, 0, NULL), "size"),
        (lambda: lib.binhdan_tokenize(model, b"a", 1, 0, NULL, 0, NULL), "size"),
        (lambda: lib.binhdan_normalize(b"a", 1, NULL, 0, NULL), "size"),
        (lambda: lib.binhdan_token_role(model, 0, NULL), "role"),
        (lambda: lib.binhdan_engine_create(model, NULL, NULL), "engine"),
        (lambda: lib.binhdan_engine_describe(engine, NULL), "binhdan_engine_info"),
        (lambda: lib.binhdan_engine_step(engine, NULL), "busy"),
        (lambda: lib.binhdan_queue_create(engine, NULL), "queue"),
        (lambda: lib.binhdan_queue_next(queue, 0, NULL), "event"),
        (lambda: lib.binhdan_queue_fd(queue, NULL), "fd"),
        (lambda: lib.binhdan_submit(engine, queue, NULL, ffi.new("uint64_t *")), "request"),
        (lambda: lib.binhdan_submit(engine, queue, request(prompt(model)), NULL), "id"),
        (lambda: lib.binhdan_measure_bandwidth(1, NULL), "bytes_per_second"),
    ]
    for call, message in calls:
        check_invalid(call(), message)
    lib.binhdan_request_init(NULL)
    lib.binhdan_event_free(NULL)
    lib.binhdan_set_log_sink(NULL, NULL)


def test_null_arrays_with_a_count(shared_engine: Running) -> None:
    model, engine, queue = shared_engine.model, shared_engine.engine, shared_engine.queue
    count = ffi.new("size_t *")
    for size in [1, *HUGE]:
        check_invalid(lib.binhdan_tokenize(model, NULL, size, 0, NULL, 0, count), "text")
        check_invalid(lib.binhdan_tokenize_segments(model, NULL, size, 0, NULL, 0, count), "segments")
        check_invalid(lib.binhdan_tokenize_pair(model, NULL, size, b"a", 1, NULL, 0, count), "query")
        check_invalid(lib.binhdan_tokenize_pair(model, b"a", 1, NULL, size, NULL, 0, count), "document")
        check_invalid(lib.binhdan_chat_tokenize(model, -1, NULL, size, 1, NULL, 0, count), "messages")
        check_invalid(lib.binhdan_detokenize(model, NULL, size, 0, NULL, 0, count), "tokens")
        check_invalid(lib.binhdan_normalize(NULL, size, NULL, 0, count), "text")
        check_invalid(lib.binhdan_set_mask(engine, 1, NULL, size), "words")
        for array in ["tokens", "logit_bias", "stop"]:
            wrong = request(prompt(model))
            setattr(wrong, array, NULL)
            setattr(wrong, f"n_{array}", size)
            check_invalid(lib.binhdan_submit(engine, queue, wrong, ffi.new("uint64_t *")), array)
    message = ffi.new("binhdan_message *")
    check_invalid(lib.binhdan_chat_tokenize(model, -1, message, 1, 1, NULL, 0, count), "role")


@pytest.mark.parametrize("size", HUGE)
def test_impossible_counts(shared_engine: Running, size: int) -> None:
    """The pointer is valid, but the count is not: rejected before any element is read."""
    model, engine, queue = shared_engine.model, shared_engine.engine, shared_engine.queue
    count, out = ffi.new("size_t *"), ffi.new("uint64_t *")
    memory = ffi.new("char[]", 64)
    statuses = [
        lib.binhdan_detokenize(model, ffi.cast("int32_t *", memory), size, 0, NULL, 0, count),
        lib.binhdan_tokenize_segments(model, ffi.cast("binhdan_segment *", memory), size, 0, NULL, 0, count),
        lib.binhdan_chat_tokenize(model, -1, ffi.cast("binhdan_message *", memory), size, 1, NULL, 0, count),
        lib.binhdan_set_mask(engine, 1, ffi.cast("uint32_t *", memory), size),
    ]
    kinds = {"tokens": "int32_t", "logit_bias": "binhdan_token_value", "stop": "binhdan_text"}
    for array, kind in kinds.items():
        wrong = request(prompt(model))
        setattr(wrong, array, ffi.cast(f"{kind} *", memory))
        setattr(wrong, f"n_{array}", size)
        statuses.append(lib.binhdan_submit(engine, queue, wrong, out))
    assert statuses == [lib.BINHDAN_INVALID_ARGUMENT] * len(statuses)


def test_values_out_of_range(shared_engine: Running) -> None:
    model, engine, queue = shared_engine.model, shared_engine.engine, shared_engine.queue
    out, count, number = ffi.new("uint64_t *"), ffi.new("size_t *"), ffi.new("int32_t *")
    tokens = prompt(model)
    vocabulary = struct("binhdan_model_info")
    check(lib.binhdan_model_describe(model, vocabulary))
    beyond = vocabulary.vocabulary
    ranges: dict[str, list[float]] = {
        "kind": [-1, 4, 2**31 - 1],
        "loop_guard": [-1, 15, 2**20 + 1],
        "max_draft_tokens": [-1, 16],
        "flags": [16, 2**31],
        "pooling": [-1, 5, 2**31 - 1],
        "max_tokens": [-2, -(2**31)],
        "temperature": [-0.1, float("nan"), float("inf")],
        "top_k": [-1],
        "top_p": [-0.1, 1.1, float("nan")],
        "min_p": [-0.1, 1.1, float("nan")],
        "repetition_penalty": [0.0, -1.0, float("nan"), float("inf")],
        "presence_penalty": [float("nan"), 1e30],
        "frequency_penalty": [float("nan"), -1e30],
        "top_logprobs": [-2, 21],
    }
    for field, values in ranges.items():
        for value in values:
            check_invalid(lib.binhdan_submit(engine, queue, request(tokens, **{field: value}), out), field)
    for dimensions in [-1, vocabulary.embedding + 1, 2**31 - 1]:
        wrong = request(tokens, kind=lib.BINHDAN_EMBED, dimensions=dimensions)
        check_invalid(lib.binhdan_submit(engine, queue, wrong, out), "dimensions")
    for token in [-1, beyond, 2**31 - 1]:
        wrong = request(ffi.new("int32_t[]", [1, token]))
        check_invalid(lib.binhdan_submit(engine, queue, wrong, out), "tokens[1]")
        bias = ffi.new("binhdan_token_value[]", [(token, 1.0)])
        wrong = request(tokens, logit_bias=bias, n_logit_bias=1)
        check_invalid(lib.binhdan_submit(engine, queue, wrong, out), "logit_bias")
        check_invalid(lib.binhdan_token_role(model, token, number), "token")
        alone = ffi.new("int32_t[]", [token])
        check_invalid(lib.binhdan_detokenize(model, alone, 1, 0, NULL, 0, count), "tokens[0]")
    check_invalid(lib.binhdan_submit(engine, queue, request(ffi.new("int32_t[]", 0)), out), "tokens")
    for flags in [4, 2**31]:
        check_invalid(lib.binhdan_tokenize(model, b"a", 1, flags, NULL, 0, count), "flags")
        check_invalid(lib.binhdan_detokenize(model, tokens, 1, flags, NULL, 0, count), "flags")
    role, content = ffi.new("char[]", b"robot"), ffi.new("char[]", b"a")
    message = ffi.new("binhdan_message *", {"role": role, "content": content, "size": 1})
    check_invalid(lib.binhdan_chat_tokenize(model, -1, message, 1, 1, NULL, 0, count), "robot")
    message.role = user = ffi.new("char[]", b"user")
    for family in [-2, 4, 2**31 - 1]:
        check_invalid(lib.binhdan_chat_tokenize(model, family, message, 1, 1, NULL, 0, count), "family")
    assert user


def test_more_tokens_than_the_context(shared_engine: Running) -> None:
    wrong = request(ffi.new("int32_t[]", [5] * 100_000))
    out = ffi.new("uint64_t *")
    status = lib.binhdan_submit(shared_engine.engine, shared_engine.queue, wrong, out)
    assert status == lib.BINHDAN_TOO_LARGE and "100000" in last_error()


def test_options_out_of_range(shared_engine: Running) -> None:
    out = ffi.new("uint64_t *")
    for field, values in {
        "flags": [16, 2**31],
        "threads": [-1, 2**31 - 1],
        "context": [-1, 2**31 - 1],
        "max_sequences": [-1, 2**31 - 1],
        "max_waiting": [-1, 2**31 - 1],
        "prefill_chunk": [-1, 2**31 - 1],
        "max_decode_stall_ms": [-1],
        "kv_type": [-1, 2],
    }.items():
        for value in values:
            options = struct("binhdan_engine_options", **{field: value})
            check_invalid(lib.binhdan_engine_create(shared_engine.model, options, out), field)
    for threads in [-1, 2**31 - 1]:
        options = struct("binhdan_model_options", threads=threads)
        check_invalid(lib.binhdan_model_open(str(MODEL).encode(), options, out), "threads")
        check_invalid(lib.binhdan_measure_bandwidth(threads, ffi.new("double *")), "threads")
    isa = ffi.new("char[]", b"abacus")
    options = struct("binhdan_model_options", isa=isa)
    check_invalid(lib.binhdan_model_open(str(MODEL).encode(), options, out), "abacus")


@pytest.mark.parametrize("size", [0, 3, 2**16 + 1, 2**32 - 1])
def test_invalid_struct_sizes(shared_engine: Running, size: int) -> None:
    model, engine, queue = shared_engine.model, shared_engine.engine, shared_engine.queue
    out = ffi.new("uint64_t *")
    calls: dict[str, Callable[[Any], int]] = {
        "binhdan_model_options": lambda s: lib.binhdan_model_open(str(MODEL).encode(), s, out),
        "binhdan_model_info": lambda s: lib.binhdan_model_describe(model, s),
        "binhdan_engine_options": lambda s: lib.binhdan_engine_create(model, s, out),
        "binhdan_engine_info": lambda s: lib.binhdan_engine_describe(engine, s),
        "binhdan_request": lambda s: lib.binhdan_submit(engine, queue, s, out),
    }
    for name, call in calls.items():
        check_invalid(call(struct(name, struct_size=size)), f"{name}.struct_size")


def test_a_struct_of_a_later_version(shared_engine: Running) -> None:
    """The struct is longer than this version's: fields past the known ones are neither read nor written."""
    calls: dict[str, Callable[[Any], int]] = {
        "binhdan_model_info": lambda s: lib.binhdan_model_describe(shared_engine.model, s),
        "binhdan_engine_info": lambda s: lib.binhdan_engine_describe(shared_engine.engine, s),
    }
    for name, call in calls.items():
        known = ffi.sizeof(name)
        memory = ffi.new("char[]", b"\xaa" * (known + 64))
        later = ffi.cast(f"{name} *", memory)
        later.struct_size = known + 32
        check(call(later))
        assert later.struct_size == known + 32
        assert bytes(ffi.buffer(memory, known + 64))[known:] == b"\xaa" * 64
    size = ffi.sizeof("binhdan_request")
    memory = ffi.new("char[]", b"\xaa" * (size + 32))
    later = ffi.cast("binhdan_request *", memory)
    tokens = prompt(shared_engine.model)
    later[0] = request(tokens, max_tokens=1)[0]
    later.struct_size = size + 32
    check(lib.binhdan_submit(shared_engine.engine, shared_engine.queue, later, ffi.new("uint64_t *")))
    assert list(events_of(shared_engine.queue))[-1].answer_tokens == 1


def test_a_struct_of_an_earlier_version(shared_engine: Running) -> None:
    """The struct is shorter than this version's: missing fields are not written, and read as defaults."""
    known = ffi.sizeof("binhdan_model_info")
    memory = ffi.new("char[]", b"\xaa" * known)
    info = ffi.cast("binhdan_model_info *", memory)
    info.struct_size = ffi.offsetof("binhdan_model_info", "embedding")
    check(lib.binhdan_model_describe(shared_engine.model, info))
    assert info.vocabulary > 0
    assert bytes(ffi.buffer(memory))[info.struct_size : known] == b"\xaa" * (known - info.struct_size)

    tokens = prompt(shared_engine.model)
    earlier = request(tokens, max_tokens=3, temperature=float("nan"), top_k=-5, n_stop=2**60)
    earlier.struct_size = ffi.offsetof("binhdan_request", "temperature")
    check(lib.binhdan_submit(shared_engine.engine, shared_engine.queue, earlier, ffi.new("uint64_t *")))
    assert list(events_of(shared_engine.queue))[-1].answer_tokens == 3


def test_too_small_reports_the_needed_size(shared_engine: Running) -> None:
    model = shared_engine.model
    text = "Thủ đô của Việt Nam là gì?".encode()
    tokens = prompt(model)
    role, content = ffi.new("char[]", b"user"), ffi.from_buffer(text)
    message = ffi.new("binhdan_message *", {"role": role, "content": content, "size": len(text)})
    segment = ffi.new("binhdan_segment *", {"text": content, "size": len(text), "markup": 0})
    calls: dict[str, tuple[str, Any]] = {
        "tokenize": ("int32_t", lambda *out: lib.binhdan_tokenize(model, text, len(text), 1, *out)),
        "segments": ("int32_t", lambda *out: lib.binhdan_tokenize_segments(model, segment, 1, 0, *out)),
        "chat": ("int32_t", lambda *out: lib.binhdan_chat_tokenize(model, -1, message, 1, 1, *out)),
        "detokenize": ("char", lambda *out: lib.binhdan_detokenize(model, tokens, len(tokens), 2, *out)),
        "metadata": ("char", lambda *out: lib.binhdan_model_metadata(model, b"tokenizer.ggml.model", *out)),
        "inspect": ("char", lambda *out: lib.binhdan_inspect(str(MODEL).encode(), *out)),
        "normalize": ("char", lambda *out: lib.binhdan_normalize(text, len(text), *out)),
    }
    for name, (kind, call) in calls.items():
        size = ffi.new("size_t *")
        assert call(NULL, 0, size) == lib.BINHDAN_TOO_SMALL, name
        needed = size[0]
        assert needed > 1, name
        buffer = ffi.new(f"{kind}[]", needed)
        size[0] = 0
        assert call(buffer, needed - 1, size) == lib.BINHDAN_TOO_SMALL, name
        assert size[0] == needed, name
        assert not any(bytes(ffi.buffer(buffer))), f"{name} wrote into a buffer that is too small"
        size[0] = 0
        check(call(buffer, needed, size))
        assert size[0] == needed and any(bytes(ffi.buffer(buffer))), name
        check_invalid(call(NULL, needed, size), "buffer")


def test_empty_input_has_empty_output(shared_engine: Running) -> None:
    size = ffi.new("size_t *", 7)
    check(lib.binhdan_normalize(NULL, 0, NULL, 0, size))
    assert size[0] == 0
    check(lib.binhdan_model_warnings(shared_engine.model, NULL, 0, size))
    assert size[0] == 0
    check(lib.binhdan_detokenize(shared_engine.model, NULL, 0, 0, NULL, 0, size))
    assert size[0] == 0


def test_outputs_are_written_on_success_only(shared_engine: Running) -> None:
    out = ffi.new("uint64_t *", 77)
    assert lib.binhdan_model_open(b"/no/such/file.gguf", NULL, out) == lib.BINHDAN_NOT_FOUND
    assert "/no/such/file.gguf" in last_error()
    assert lib.binhdan_engine_create(0, NULL, out) == lib.BINHDAN_INVALID_HANDLE
    wrong = request(prompt(shared_engine.model), top_p=5.0)
    check_invalid(lib.binhdan_submit(shared_engine.engine, shared_engine.queue, wrong, out), "top_p")
    assert out[0] == 77


def test_missing_metadata(shared_engine: Running) -> None:
    for key in [b"no.such.key", b"", b"general.file_type"]:
        status = lib.binhdan_model_metadata(shared_engine.model, key, NULL, 0, ffi.new("size_t *"))
        assert status == lib.BINHDAN_NOT_FOUND


def test_the_last_error_belongs_to_its_thread() -> None:
    assert lib.binhdan_model_close(0) == lib.BINHDAN_INVALID_HANDLE
    own = last_error()
    others: list[str] = []

    def fail() -> None:
        others.append(last_error())
        lib.binhdan_engine_close(0)
        others.append(last_error())

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert others[0] == "" and "engine" in others[1]
    assert last_error() == own and "model" in own


def test_the_log_sink_receives_messages() -> None:
    messages: list[tuple[int, str]] = []

    @ffi.callback("void(void *, int32_t, const char *)")  # type: ignore[untyped-decorator]
    def sink(_user: Any, level: int, message: Any) -> None:
        messages.append((level, ffi.string(message).decode()))

    out = ffi.new("uint64_t *")
    lib.binhdan_set_log_sink(sink, NULL)
    try:
        check(lib.binhdan_model_open(str(MODEL).encode(), NULL, out))
    finally:
        lib.binhdan_set_log_sink(NULL, NULL)
    check(lib.binhdan_model_close(out[0]))
    assert any(level == 1 and MODEL.name in message for level, message in messages)
    count = len(messages)
    assert lib.binhdan_model_close(out[0]) == lib.BINHDAN_INVALID_HANDLE
    assert len(messages) == count


def test_a_queue_of_another_engine(shared_engine: Running) -> None:
    other = create_engine(shared_engine.model)
    status = lib.binhdan_submit(
        other, shared_engine.queue, request(prompt(shared_engine.model)), ffi.new("uint64_t *")
    )
    check_invalid(status, "queue")
    check(lib.binhdan_engine_close(other))
