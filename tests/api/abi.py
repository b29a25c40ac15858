"""Helpers for tests of the C ABI: the raw functions and structs, and the calls that most tests need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.ffi import library

MODEL = embedded_model()
QUESTION = "them dau: ha noi la thu do cua viet nam"
ANSWER = "hà nội là thủ đô của việt nam"

ffi: Any = library()._ffi
lib: Any = library()._lib


def last_error() -> str:
    return bytes(ffi.string(lib.binhdan_last_error())).decode()


def check(status: int) -> None:
    assert status == lib.BINHDAN_OK, f"{status}: {last_error()}"


def struct(name: str, **fields: Any) -> Any:
    """A zeroed struct of the ABI with its struct_size and `fields` set."""
    value = ffi.new(f"{name} *")
    value.struct_size = ffi.sizeof(name)
    for field, content in fields.items():
        setattr(value, field, content)
    return value


def opened(function: Any, *arguments: Any) -> int:
    """Calls a function that opens something and returns the handle that it writes to its last argument."""
    out = ffi.new("uint64_t *")
    check(function(*arguments, out))
    return int(out[0])


def open_model(path: Path = MODEL) -> int:
    return opened(lib.binhdan_model_open, str(path).encode(), ffi.NULL)


def create_engine(model: int, **options: Any) -> int:
    return opened(
        lib.binhdan_engine_create, model, struct("binhdan_engine_options", **({"threads": 1} | options))
    )


def create_queue(engine: int) -> int:
    return opened(lib.binhdan_queue_create, engine)


def prompt(model: int, question: str = QUESTION) -> Any:
    """The tokens of a chat prompt with one question, in the model's chat format."""
    content = question.encode()
    c_content = ffi.from_buffer(content)
    role = ffi.new("char[]", b"user")
    message = ffi.new("binhdan_message *", {"role": role, "content": c_content, "size": len(content)})
    capacity = len(content) + 64
    tokens, count = ffi.new("int32_t[]", capacity), ffi.new("size_t *")
    check(lib.binhdan_chat_tokenize(model, lib.BINHDAN_CHAT_AUTO, message, 1, 1, tokens, capacity, count))
    return ffi.new("int32_t[]", ffi.unpack(tokens, count[0]))


def request(tokens: Any, **fields: Any) -> Any:
    value = ffi.new("binhdan_request *")
    lib.binhdan_request_init_sized(value, ffi.sizeof("binhdan_request"))
    value.tokens, value.n_tokens = tokens, len(tokens)
    for field, content in fields.items():
        setattr(value, field, content)
    return value


def submit(engine: int, queue: int, tokens: Any, **fields: Any) -> int:
    return opened(lib.binhdan_submit, engine, queue, request(tokens, **fields))


@dataclass(frozen=True)
class Event:
    kind: int
    request: int
    token: int
    text: str
    finish: int
    answer_tokens: int
    prompt_tokens: int
    n_values: int
    stop_text: int
    values: tuple[float, ...]
    top: tuple[tuple[int, float], ...]


def next_event(queue: int, timeout_ms: int = 60_000) -> Event | None:
    out = ffi.new("binhdan_event **")
    check(lib.binhdan_queue_next(queue, timeout_ms, out))
    if not out[0]:
        return None
    event = out[0]
    text = bytes(ffi.buffer(event.text, event.text_size)).decode()
    numbers = event.finish, event.answer_tokens, event.prompt_tokens, event.n_values, event.stop_text
    values = tuple(event.values[i] for i in range(event.n_values))
    top = tuple((event.top[i].token, event.top[i].value) for i in range(event.n_top))
    copy = Event(event.kind, event.request, event.token, text, *numbers, values, top)
    lib.binhdan_event_free(event)
    return copy


def events_of(queue: int) -> Iterator[Event]:
    """Yields events up to and including the last event of one request."""
    while event := next_event(queue):
        yield event
        if event.kind == lib.BINHDAN_EVENT_FINISHED:
            return
    raise AssertionError("expected an event within a minute, got none")


def answer(queue: int) -> str:
    return "".join(event.text for event in events_of(queue))


@dataclass
class Running:
    """A model, an engine and a queue."""

    model: int
    engine: int
    queue: int

    @classmethod
    def start(cls, **options: Any) -> Running:
        model = open_model()
        engine = create_engine(model, **options)
        return cls(model, engine, create_queue(engine))

    def submit(self, tokens: Any = None, **fields: Any) -> int:
        return submit(self.engine, self.queue, prompt(self.model) if tokens is None else tokens, **fields)

    def close(self) -> None:
        """Closes all three handles; handles that the test has closed are ignored."""
        lib.binhdan_queue_close(self.queue)
        lib.binhdan_engine_close(self.engine)
        lib.binhdan_model_close(self.model)
