"""Stress test: several threads call all functions on a few shared handles in random order.

Run `python -m api.stress SECONDS SEED` in tests/. A call may fail because another thread has closed its
handle. A crash, a hang or any other status is a failure. To find data races, use a library built with
-DBINHDAN_SANITIZE=thread, and LD_PRELOAD the sanitizer's runtime.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter

from api.abi import ffi, last_error, lib, open_model, prompt, request, struct

THREADS = 8
REQUIRED = {f"{name} OK" for name in ("engine_create", "submit", "queue_next", "engine_close", "cancel")}
EXPECTED_STATUSES = {lib.BINHDAN_OK, lib.BINHDAN_INVALID_HANDLE, lib.BINHDAN_CLOSED, lib.BINHDAN_BUSY}


class Stress:
    def __init__(self) -> None:
        self.model = open_model()
        self.tokens = prompt(self.model)
        self.engines: list[int] = []
        self.queues: list[tuple[int, int]] = []  # engine, queue
        self.requests: list[tuple[int, int]] = []  # engine, id
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []

    def call(self, name: str, *arguments: object, allowed: frozenset[int] = frozenset()) -> bool:
        status = getattr(lib, f"binhdan_{name}")(*arguments)
        self.counts[f"{name} {ffi.string(lib.binhdan_status_name(status)).decode()}"] += 1
        if status not in EXPECTED_STATUSES | allowed:
            self.failures.append(f"{name}: {status}: {last_error()}")
        return bool(status == lib.BINHDAN_OK)

    def create_engine(self, rng: random.Random) -> None:
        out = ffi.new("uint64_t *")
        options = struct("binhdan_engine_options", threads=rng.choice([1, 2]), max_sequences=2, max_waiting=4)
        if len(self.engines) < 3 and self.call("engine_create", self.model, options, out):
            self.engines.append(out[0])

    def create_queue(self, rng: random.Random) -> None:
        out = ffi.new("uint64_t *")
        engine = rng.choice(self.engines)
        if len(self.queues) < 6 and self.call("queue_create", engine, out):
            self.queues.append((engine, out[0]))

    def submit(self, rng: random.Random) -> None:
        engine, queue = rng.choice(self.queues)
        out = ffi.new("uint64_t *")
        fields = request(
            self.tokens,
            kind=rng.choice([0, 0, 0, 1]),
            max_tokens=rng.choice([-1, 0, 1, 20]),
            flags=rng.choice([0, 1, 2]),
            temperature=rng.choice([0.0, 1.0]),
        )
        # INVALID_ARGUMENT: the engine of the queue is closed.
        if self.call("submit", engine, queue, fields, out, allowed=frozenset({lib.BINHDAN_INVALID_ARGUMENT})):
            self.requests = [*self.requests[-20:], (engine, out[0])]

    def next(self, rng: random.Random) -> None:
        out = ffi.new("binhdan_event **")
        if self.call("queue_next", rng.choice(self.queues)[1], rng.choice([0, 1, 5]), out):
            lib.binhdan_event_free(out[0])

    def fd(self, rng: random.Random) -> None:
        self.call("queue_fd", rng.choice(self.queues)[1], ffi.new("int32_t *"))

    def cancel(self, rng: random.Random) -> None:
        self.call("cancel", *rng.choice(self.requests))

    def mask(self, rng: random.Random) -> None:
        words = ffi.new("uint32_t[]", [rng.getrandbits(32) for _ in range(8)])
        # INVALID_ARGUMENT: the request uses no masks, or its next token already has one.
        allowed = frozenset({lib.BINHDAN_INVALID_ARGUMENT})
        self.call("set_mask", *rng.choice(self.requests), words, 8, allowed=allowed)

    def describe(self, rng: random.Random) -> None:
        self.call("engine_describe", rng.choice(self.engines), struct("binhdan_engine_info"))
        self.call("model_describe", self.model, struct("binhdan_model_info"))

    def close_queue(self, rng: random.Random) -> None:
        pair = rng.choice(self.queues)
        self.call("queue_close", pair[1])
        self.queues = [other for other in self.queues if other != pair]

    def close_engine(self, rng: random.Random) -> None:
        engine = rng.choice(self.engines)
        self.call("engine_close", engine)
        self.engines = [other for other in self.engines if other != engine]

    def reopen_model(self, rng: random.Random) -> None:
        old, self.model = self.model, open_model()
        self.call("model_close", old)

    def call_randomly(self, seed: int, until: float) -> None:
        rng = random.Random(seed)
        often = [self.submit, self.next, self.next, self.next, self.cancel, self.mask, self.fd, self.describe]
        rare = [self.create_engine, self.create_queue, self.close_queue, self.close_engine]
        # On a busy machine, continue until every call in REQUIRED has succeeded once.
        while (now := time.monotonic()) < until or (now < until + 30 and not self.counts.keys() >= REQUIRED):
            kinds = rare if rng.random() < 0.15 else often
            if rng.random() < 0.002:
                kinds = [self.reopen_model]
            try:
                rng.choice(kinds)(rng)
            except IndexError:  # no handle of this kind is open
                self.create_engine(rng)

    def finish(self) -> None:
        for _, queue in self.queues:
            self.call("queue_close", queue)
        for engine in self.engines:
            self.call("engine_close", engine)
        self.call("model_close", self.model)


def main(seconds: float, seed: int) -> int:
    stress = Stress()
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=stress.call_randomly, args=(seed + i, until)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stress.finish()
    for call, count in sorted(stress.counts.items()):
        print(f"{count:7} {call}")
    for failure in stress.failures[:10]:
        print(failure, file=sys.stderr)
    return 1 if stress.failures else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
