"""Handles: closed in any order, closed twice, used after close, and used after fork."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from api.abi import (
    ANSWER,
    Running,
    answer,
    check,
    create_engine,
    create_queue,
    events_of,
    ffi,
    lib,
    next_event,
    open_model,
    prompt,
    request,
    struct,
)

NULL = ffi.NULL


@pytest.mark.parametrize("order", list(itertools.permutations(["model", "engine", "queue"])))
@pytest.mark.parametrize("busy", [False, True])
def test_closing_in_any_order(order: tuple[str, ...], busy: bool) -> None:
    running = Running.start()
    if busy:
        for _ in range(3):
            running.submit(flags=lib.BINHDAN_IGNORE_EOS)
        assert next_event(running.queue)
    for name in order:
        check(getattr(lib, f"binhdan_{name}_close")(getattr(running, name)))
    for name in order:
        assert getattr(lib, f"binhdan_{name}_close")(getattr(running, name)) == lib.BINHDAN_INVALID_HANDLE


def test_an_engine_outlives_the_model_handle(own_engine: Running) -> None:
    tokens = prompt(own_engine.model)
    check(lib.binhdan_model_close(own_engine.model))
    own_engine.submit(tokens)
    assert answer(own_engine.queue) == ANSWER


def test_last_events_can_be_read_after_the_engine_closed(own_engine: Running) -> None:
    first, second = own_engine.submit(flags=lib.BINHDAN_USE_MASK), own_engine.submit()
    check(lib.binhdan_engine_close(own_engine.engine))
    ends = {}
    for _ in range(2):
        end = list(events_of(own_engine.queue))[-1]
        ends[end.request] = end.finish
    assert ends.keys() == {first, second}
    assert ends[first] == lib.BINHDAN_FINISH_CANCELLED
    out = ffi.new("binhdan_event **")
    assert lib.binhdan_queue_next(own_engine.queue, -1, out) == lib.BINHDAN_CLOSED


def test_closing_a_queue_cancels_its_requests(own_engine: Running) -> None:
    for _ in range(4):
        own_engine.submit(flags=lib.BINHDAN_IGNORE_EOS)
    other = create_queue(own_engine.engine)
    check(lib.binhdan_queue_close(own_engine.queue))
    info = struct("binhdan_engine_info")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        check(lib.binhdan_engine_describe(own_engine.engine, info))
        if info.running == info.waiting == info.kv_bytes == 0:
            break
        time.sleep(0.01)
    assert (info.running, info.waiting, info.kv_bytes) == (0, 0, 0)
    own_engine.queue = other
    own_engine.submit()
    assert answer(other) == ANSWER


def statuses_of_waiting_readers(closed: str) -> list[int]:
    running = Running.start()
    statuses: list[int] = []

    def wait() -> None:
        statuses.append(lib.binhdan_queue_next(running.queue, -1, ffi.new("binhdan_event **")))

    readers = [threading.Thread(target=wait) for _ in range(3)]
    for reader in readers:
        reader.start()
    time.sleep(0.02)
    check(getattr(lib, f"binhdan_{closed}_close")(getattr(running, closed)))
    for reader in readers:
        reader.join(30)
    running.close()
    return statuses


@pytest.mark.parametrize("closed", ["queue", "engine"])
def test_closing_unblocks_waiting_readers(closed: str) -> None:
    for _ in range(20):
        statuses = statuses_of_waiting_readers(closed)
        assert len(statuses) == 3
        if lib.BINHDAN_INVALID_HANDLE not in statuses:  # otherwise, a reader had not started to wait yet
            break
    assert statuses == [lib.BINHDAN_CLOSED] * 3


@pytest.mark.parametrize("kind", ["never", "closed", "another kind"])
def test_invalid_handles(shared_engine: Running, kind: str) -> None:
    model = open_model() if kind == "closed" else 0
    engine, queue = 12345, 2**64 - 1
    if kind == "closed":
        engine = create_engine(model)
        queue = create_queue(engine)
        check(lib.binhdan_queue_close(queue))
        check(lib.binhdan_engine_close(engine))
        check(lib.binhdan_model_close(model))
    elif kind == "another kind":
        model, engine, queue = shared_engine.queue, shared_engine.model, shared_engine.engine
    out, size, number = ffi.new("uint64_t *"), ffi.new("size_t *"), ffi.new("int32_t *")
    tokens = prompt(shared_engine.model)
    role = ffi.new("char[]", b"user")
    message = ffi.new("binhdan_message *", {"role": role})
    calls: list[Callable[[], int]] = [
        lambda: lib.binhdan_model_describe(model, struct("binhdan_model_info")),
        lambda: lib.binhdan_model_metadata(model, b"general.architecture", NULL, 0, size),
        lambda: lib.binhdan_model_warnings(model, NULL, 0, size),
        lambda: lib.binhdan_tokenize(model, b"a", 1, 0, NULL, 0, size),
        lambda: lib.binhdan_tokenize_segments(model, NULL, 0, 0, NULL, 0, size),
        lambda: lib.binhdan_chat_tokenize(model, -1, message, 1, 1, NULL, 0, size),
        lambda: lib.binhdan_detokenize(model, tokens, 1, 0, NULL, 0, size),
        lambda: lib.binhdan_token_role(model, 0, number),
        lambda: lib.binhdan_engine_create(model, NULL, out),
        lambda: lib.binhdan_engine_describe(engine, struct("binhdan_engine_info")),
        lambda: lib.binhdan_engine_step(engine, number),
        lambda: lib.binhdan_queue_create(engine, out),
        lambda: lib.binhdan_submit(engine, shared_engine.queue, request(tokens), out),
        lambda: lib.binhdan_submit(shared_engine.engine, queue, request(tokens), out),
        lambda: lib.binhdan_cancel(engine, 1),
        lambda: lib.binhdan_set_mask(engine, 1, NULL, 0),
        lambda: lib.binhdan_queue_next(queue, 0, ffi.new("binhdan_event **")),
        lambda: lib.binhdan_queue_fd(queue, number),
        lambda: lib.binhdan_queue_close(queue),
        lambda: lib.binhdan_engine_close(engine),
        lambda: lib.binhdan_model_close(model),
    ]
    assert [call() for call in calls] == [lib.BINHDAN_INVALID_HANDLE] * len(calls)


def test_handles_are_never_reused(shared_engine: Running) -> None:
    seen = set()
    for _ in range(300):
        queue = create_queue(shared_engine.engine)
        check(lib.binhdan_queue_close(queue))
        seen.add(queue)
    assert len(seen) == 300


def test_threads_end_with_their_engines() -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    if not Path("/proc/self/task").is_dir():
        pytest.skip("needs /proc to count threads")
    before = threads()
    for _ in range(5):
        running = Running.start(threads=3)
        running.submit()
        running.close()
    deadline = time.monotonic() + 30  # Linux may list a joined thread for a moment
    while threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() <= before


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
from api.abi import *

running = Running.start(threads=2)
running.submit(flags=lib.BINHDAN_IGNORE_EOS)
next_event(running.queue)
child = os.fork()
if child == 0:
    out = ffi.new("binhdan_event **")
    handle = ffi.new("uint64_t *")
    info = struct("binhdan_engine_info")
    statuses = [
        lib.binhdan_queue_next(running.queue, -1, out),
        lib.binhdan_engine_describe(running.engine, info),
        lib.binhdan_submit(running.engine, running.queue, request(ffi.new("int32_t[]", [5])), handle),
        lib.binhdan_model_describe(running.model, struct("binhdan_model_info")),
        lib.binhdan_cancel(running.engine, 1),
        lib.binhdan_queue_close(running.queue),
        lib.binhdan_engine_close(running.engine),
        lib.binhdan_model_close(running.model),
    ]
    assert statuses == [lib.BINHDAN_CLOSED] * len(statuses), statuses
    own = Running.start(threads=2)
    own.submit()
    assert answer(own.queue) == ANSWER
    own.close()
    sys.exit(0)  # runs destructors, which must not hang
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
tail = [event.text for event in events_of(running.queue)]
assert len(tail) > 1
running.submit()
assert answer(running.queue) == ANSWER
running.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_after_fork_the_child_gets_errors_and_the_parent_continues() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", FORK],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
