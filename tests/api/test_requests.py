"""Requests through the C ABI: events, cancellation, masks, manual steps."""

from __future__ import annotations

import math
import select
from typing import Any

import pytest
from api.abi import (
    ANSWER,
    Running,
    answer,
    check,
    events_of,
    ffi,
    last_error,
    lib,
    next_event,
    prompt,
    request,
    submit,
)

NULL = ffi.NULL


def test_events_of_an_answer(shared_engine: Running) -> None:
    id = shared_engine.submit()
    events = list(events_of(shared_engine.queue))
    assert {event.request for event in events} == {id}
    assert "".join(event.text for event in events) == ANSWER
    assert {event.kind for event in events[:-1]} == {lib.BINHDAN_EVENT_TOKEN}
    assert events[-1].finish == lib.BINHDAN_FINISH_STOP
    assert events[-1].answer_tokens == len(events) - 1


def test_fields_of_the_last_event(shared_engine: Running) -> None:
    tokens = prompt(shared_engine.model)
    submit(shared_engine.engine, shared_engine.queue, tokens, max_tokens=2)
    out = ffi.new("binhdan_event **")
    for _ in range(3):
        check(lib.binhdan_queue_next(shared_engine.queue, -1, out))
        event = out[0]
        assert event.struct_size == ffi.sizeof("binhdan_event")
        assert ffi.string(event.text) == bytes(ffi.buffer(event.text, event.text_size))
        if event.kind == lib.BINHDAN_EVENT_FINISHED:
            assert event.finish == lib.BINHDAN_FINISH_LENGTH and event.status == lib.BINHDAN_OK
            assert event.prompt_tokens == len(tokens) and event.answer_tokens == 2
            assert event.queue_ns >= 0 and event.prefill_ns > 0 and event.decode_ns > 0
        lib.binhdan_event_free(event)


def test_log_probabilities(shared_engine: Running) -> None:
    tokens = prompt(shared_engine.model)
    submit(shared_engine.engine, shared_engine.queue, tokens, max_tokens=1, top_logprobs=20)
    out = ffi.new("binhdan_event **")
    check(lib.binhdan_queue_next(shared_engine.queue, -1, out))
    event = out[0]
    top = [(entry.token, entry.value) for entry in ffi.unpack(event.top, event.n_top)]
    assert top[0] == (event.token, event.logprob)
    assert len(top) == 20 and top == sorted(top, key=lambda entry: -entry[1])
    assert math.fsum(math.exp(value) for _, value in top) <= 1 + 1e-5
    lib.binhdan_event_free(event)
    assert len(list(events_of(shared_engine.queue))) == 1


def test_an_embedding(shared_engine: Running) -> None:
    shared_engine.submit(kind=lib.BINHDAN_EMBED)
    out = ffi.new("binhdan_event **")
    check(lib.binhdan_queue_next(shared_engine.queue, -1, out))
    assert out[0].kind == lib.BINHDAN_EVENT_EMBEDDING
    values = ffi.unpack(out[0].values, out[0].n_values)
    lib.binhdan_event_free(out[0])
    assert math.isclose(math.fsum(value * value for value in values), 1, rel_tol=1e-5)
    assert answer(shared_engine.queue) == ""


def test_options_of_an_embedding(shared_engine: Running) -> None:
    def embedding(**fields: object) -> list[float]:
        shared_engine.submit(kind=lib.BINHDAN_EMBED, **fields)
        out = ffi.new("binhdan_event **")
        check(lib.binhdan_queue_next(shared_engine.queue, -1, out))
        values: list[float] = ffi.unpack(out[0].values, out[0].n_values)
        lib.binhdan_event_free(out[0])
        assert answer(shared_engine.queue) == ""
        return values

    scaled = embedding(pooling=lib.BINHDAN_POOLING_LAST)
    raw = embedding(pooling=lib.BINHDAN_POOLING_LAST, flags=lib.BINHDAN_NO_NORMALIZE)
    assert math.isclose(raw[0] / math.hypot(*raw), scaled[0], rel_tol=1e-5)
    assert scaled != embedding() == embedding(pooling=lib.BINHDAN_POOLING_MEAN)
    assert len(embedding(dimensions=8)) == 8


def test_a_stop_text_across_tokens(shared_engine: Running) -> None:
    before, stop = ANSWER.split("ủ đô c")[0], "ủ đô c".encode()
    buffer = ffi.from_buffer(stop)
    stops = ffi.new("binhdan_text[]", [(buffer, len(stop))])
    shared_engine.submit(stop=stops, n_stop=1)
    events = list(events_of(shared_engine.queue))
    assert "".join(event.text for event in events) == before
    assert events[-1].finish == lib.BINHDAN_FINISH_STOP


def test_submit_copies_all_of_its_input(stepped_engine: Running) -> None:
    tokens = prompt(stepped_engine.model)
    stop = bytearray("thủ".encode())
    stops = ffi.new("binhdan_text[]", [(ffi.from_buffer(stop), len(stop))])
    stepped_engine.submit(tokens, stop=stops, n_stop=1)
    stop[:] = b"\xff" * len(stop)
    stops[0].text = NULL
    for i in range(len(tokens)):
        tokens[i] = -1
    run(stepped_engine)
    assert answer(stepped_engine.queue) == ANSWER.split("thủ")[0]


def run(running: Running) -> None:
    busy = ffi.new("int32_t *", 1)
    while busy[0]:
        check(lib.binhdan_engine_step(running.engine, busy))


def test_manual_steps(stepped_engine: Running) -> None:
    stepped_engine.submit()
    assert next_event(stepped_engine.queue, 20) is None
    busy = ffi.new("int32_t *")
    check(lib.binhdan_engine_step(stepped_engine.engine, busy))
    assert busy[0] == 1
    assert next_event(stepped_engine.queue, 0)
    run(stepped_engine)
    assert ANSWER.endswith(answer(stepped_engine.queue))


def test_an_engine_with_a_thread_cannot_be_stepped(shared_engine: Running) -> None:
    status = lib.binhdan_engine_step(shared_engine.engine, ffi.new("int32_t *"))
    assert status == lib.BINHDAN_INVALID_ARGUMENT and "MANUAL_STEP" in last_error()


def test_submit_fails_when_max_waiting_is_reached(stepped_engine: Running) -> None:
    for _ in range(2):
        stepped_engine.submit()
    out = ffi.new("uint64_t *")
    wrong = request(prompt(stepped_engine.model))
    assert lib.binhdan_submit(stepped_engine.engine, stepped_engine.queue, wrong, out) == lib.BINHDAN_BUSY
    run(stepped_engine)
    assert answer(stepped_engine.queue) == answer(stepped_engine.queue) == ANSWER


def test_cancel(shared_engine: Running) -> None:
    id = shared_engine.submit(flags=lib.BINHDAN_USE_MASK)  # pauses before each token until it has a mask
    words = ffi.new("uint32_t[]", [2**32 - 1] * 256)
    check(lib.binhdan_set_mask(shared_engine.engine, id, words, len(words)))
    assert next_event(shared_engine.queue)
    check(lib.binhdan_cancel(shared_engine.engine, id))
    assert list(events_of(shared_engine.queue))[-1].finish == lib.BINHDAN_FINISH_CANCELLED
    check(lib.binhdan_cancel(shared_engine.engine, id))
    for unknown in [0, 2**64 - 1]:
        check(lib.binhdan_cancel(shared_engine.engine, unknown))


def test_a_full_context() -> None:
    running = Running.start(context=40)
    tokens = prompt(running.model)
    running.submit(tokens, flags=lib.BINHDAN_IGNORE_EOS)
    end = list(events_of(running.queue))[-1]
    assert end.finish == lib.BINHDAN_FINISH_CONTEXT
    assert 40 - len(tokens) <= end.answer_tokens <= 41 - len(tokens)
    running.close()


def test_the_descriptor_is_readable_while_the_queue_has_events(shared_engine: Running) -> None:
    fd = ffi.new("int32_t *")
    check(lib.binhdan_queue_fd(shared_engine.queue, fd))

    def readable(seconds: float) -> bool:
        return bool(select.select([fd[0]], [], [], seconds)[0])

    assert not readable(0)
    shared_engine.submit(max_tokens=1)
    assert readable(10)
    answer(shared_engine.queue)
    assert not readable(0)


def mask_of(*tokens: int) -> Any:
    words = ffi.new("uint32_t[]", 256)  # 8,192 tokens
    for token in tokens:
        words[token // 32] |= 1 << token % 32
    return words


def test_masks(own_engine: Running) -> None:
    """Each token consumes one mask; a request that waits for a mask does not delay others."""
    id = own_engine.submit(flags=lib.BINHDAN_USE_MASK)
    assert next_event(own_engine.queue, 100) is None
    other = own_engine.submit(max_tokens=3)
    assert {event.request for event in events_of(own_engine.queue)} == {other}
    for allowed in [[1000], [7, 1001]]:
        words = mask_of(*allowed)
        check(lib.binhdan_set_mask(own_engine.engine, id, words, len(words)))
        event = next_event(own_engine.queue)
        assert event and event.token in allowed
    check(lib.binhdan_set_mask(own_engine.engine, id, NULL, 0))
    end = next_event(own_engine.queue)
    assert end and end.kind == lib.BINHDAN_EVENT_FINISHED and end.finish == lib.BINHDAN_FINISH_STOP


def test_masks_for_requests_without_masks(stepped_engine: Running) -> None:
    plain = stepped_engine.submit()
    words = mask_of(5)
    status = lib.binhdan_set_mask(stepped_engine.engine, plain, words, 256)
    assert status == lib.BINHDAN_INVALID_ARGUMENT and "USE_MASK" in last_error()
    masked = stepped_engine.submit(flags=lib.BINHDAN_USE_MASK)
    check(lib.binhdan_set_mask(stepped_engine.engine, masked, words, 256))
    assert lib.binhdan_set_mask(stepped_engine.engine, masked, words, 256) == lib.BINHDAN_INVALID_ARGUMENT


def test_a_mask_of_the_wrong_size(stepped_engine: Running) -> None:
    masked = stepped_engine.submit(flags=lib.BINHDAN_USE_MASK)
    for size in (1, 255):
        assert (
            lib.binhdan_set_mask(stepped_engine.engine, masked, mask_of(5), size)
            == lib.BINHDAN_INVALID_ARGUMENT
        )
        assert "expected 256 words for the 8192 tokens" in last_error()


def test_scores_and_logits(shared_engine: Running) -> None:
    tokens = prompt(shared_engine.model)
    shared_engine.submit(tokens, kind=lib.BINHDAN_SCORE, score_from=len(tokens) - 3)
    event = next_event(shared_engine.queue)
    assert event and event.kind == lib.BINHDAN_EVENT_SCORES and event.n_values == 3
    end = next_event(shared_engine.queue)
    assert end and end.finish == lib.BINHDAN_FINISH_STOP and end.prompt_tokens == len(tokens)
    shared_engine.submit(tokens, kind=lib.BINHDAN_LOGITS)
    event = next_event(shared_engine.queue)
    assert event and event.kind == lib.BINHDAN_EVENT_LOGITS and event.n_values == 8192
    next_event(shared_engine.queue)


def test_the_most_likely_tokens_of_scored_ones(shared_engine: Running) -> None:
    tokens = prompt(shared_engine.model)
    shared_engine.submit(tokens, kind=lib.BINHDAN_SCORE, score_from=len(tokens) - 3, top_logprobs=2)
    event = next_event(shared_engine.queue)
    assert event and event.n_values == 3 and len(event.top) == 6
    for i, (token, value) in enumerate(zip(list(tokens)[-3:], event.values, strict=True)):
        first, second = event.top[2 * i : 2 * i + 2]
        assert first[1] >= second[1] and first[1] >= value
        assert value == first[1] if token == first[0] else value <= second[1] or token == second[0]
    next_event(shared_engine.queue)


def test_stop_tokens_and_min_tokens(shared_engine: Running) -> None:
    def run(**fields: object) -> tuple[list[int], Any]:
        shared_engine.submit(**fields)
        events = list(events_of(shared_engine.queue))
        return [event.token for event in events[:-1]], events[-1]

    whole, end = run()
    assert end.token not in (-1, *whole) and end.stop_text == -1  # the model's end token
    stops = ffi.new("int32_t[]", [whole[3], 5])
    cut, end = run(stop_tokens=stops, n_stop_tokens=2)
    assert cut == whole[:3] and end.finish == lib.BINHDAN_FINISH_STOP and end.token == whole[3]
    later, end = run(stop_tokens=stops, n_stop_tokens=2, min_tokens=6, max_tokens=40)
    assert later[:3] == whole[:3] and whole[3] not in later[:6] and len(later) >= 6
    longer, end = run(min_tokens=len(whole) + 5, max_tokens=len(whole) + 5)
    assert longer[: len(whole)] == whole and len(longer) == len(whole) + 5
    assert end.finish == lib.BINHDAN_FINISH_LENGTH and end.token == -1
    text = ffi.from_buffer(b"h")
    texts = ffi.new("binhdan_text[]", [(ffi.NULL, 0), (text, 1)])
    none, end = run(stop=texts, n_stop=2)
    assert len(none) == 1 and end.stop_text == 1
    assert len(run(stop=texts, n_stop=2, min_tokens=4)[0]) > 4
    with pytest.raises(AssertionError, match="stop_tokens: expected tokens 0 to 8191, got -1"):
        shared_engine.submit(stop_tokens=ffi.new("int32_t[]", [-1]), n_stop_tokens=1)


def test_the_request_of_an_old_program(shared_engine: Running) -> None:
    """A program of version 0.1 calls binhdan_request_init, which writes the fields of that version only."""
    memory = ffi.new("char[]", b"\x7f" * ffi.sizeof("binhdan_request"))
    old = ffi.cast("binhdan_request *", memory)
    lib.binhdan_request_init(old)
    first = ffi.offsetof("binhdan_request", "loop_guard")
    assert old.struct_size == first and old.max_tokens == -1
    assert bytes(ffi.buffer(memory))[first:-1] == b"\x7f" * (ffi.sizeof("binhdan_request") - first)
    tokens = prompt(shared_engine.model)
    old.tokens, old.n_tokens, old.max_tokens = tokens, len(tokens), 1
    id = ffi.new("binhdan_request_id *")
    check(lib.binhdan_submit(shared_engine.engine, shared_engine.queue, old, id))
    answer(shared_engine.queue)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_the_same_seed_generates_the_same_answer(shared_engine: Running, temperature: float) -> None:
    def sample(seed: int) -> list[int]:
        fields = {"temperature": temperature, "seed": seed, "max_tokens": 24, "flags": lib.BINHDAN_IGNORE_EOS}
        shared_engine.submit(**fields)
        return [event.token for event in events_of(shared_engine.queue)]

    assert sample(7) == sample(7)
    assert (sample(7) == sample(8)) == (temperature == 0)
