"""Threads that do everything to the same few handles at once: `python -m api.hammer SECONDS SEED` in tests/.

Statuses say whether a call was too late; only a crash, a hang or a status that cannot be is a failure. With a
library built by -DBINHDAN_SANITIZE=thread (LD_PRELOAD the sanitizer's runtime) it looks for races.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import Counter

from api.abi import ffi, last_error, lib, open_model, prompt, request, struct

THREADS = 8
WANTED = {f"{name} OK" for name in ("engine_create", "submit", "queue_next", "engine_close", "cancel")}
LATE = {lib.BINHDAN_OK, lib.BINHDAN_INVALID_HANDLE, lib.BINHDAN_CLOSED, lib.BINHDAN_BUSY}


class Hammer:
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
        if status not in LATE | allowed:
            self.failures.append(f"{name}: {status}: {last_error()}")
        return bool(status == lib.BINHDAN_OK)

    def create_engine(self, chance: random.Random) -> None:
        out = ffi.new("uint64_t *")
        options = struct(
            "binhdan_engine_options", threads=chance.choice([1, 2]), max_sequences=2, max_waiting=4
        )
        if len(self.engines) < 3 and self.call("engine_create", self.model, options, out):
            self.engines.append(out[0])

    def create_queue(self, chance: random.Random) -> None:
        out = ffi.new("uint64_t *")
        engine = chance.choice(self.engines)
        if len(self.queues) < 6 and self.call("queue_create", engine, out):
            self.queues.append((engine, out[0]))

    def submit(self, chance: random.Random) -> None:
        engine, queue = chance.choice(self.queues)
        out = ffi.new("uint64_t *")
        wanted = request(
            self.tokens,
            kind=chance.choice([0, 0, 0, 1]),
            max_tokens=chance.choice([-1, 0, 1, 20]),
            flags=chance.choice([0, 1, 2]),
            temperature=chance.choice([0.0, 1.0]),
        )
        # A queue whose engine is gone belongs to no engine.
        if self.call("submit", engine, queue, wanted, out, allowed=frozenset({lib.BINHDAN_INVALID_ARGUMENT})):
            self.requests = [*self.requests[-20:], (engine, out[0])]

    def next(self, chance: random.Random) -> None:
        out = ffi.new("binhdan_event **")
        if self.call("queue_next", chance.choice(self.queues)[1], chance.choice([0, 1, 5]), out):
            lib.binhdan_event_free(out[0])

    def fd(self, chance: random.Random) -> None:
        self.call("queue_fd", chance.choice(self.queues)[1], ffi.new("int32_t *"))

    def cancel(self, chance: random.Random) -> None:
        self.call("cancel", *chance.choice(self.requests))

    def mask(self, chance: random.Random) -> None:
        words = ffi.new("uint32_t[]", [chance.getrandbits(32) for _ in range(8)])
        # Not every request wants one, and some have theirs.
        allowed = frozenset({lib.BINHDAN_INVALID_ARGUMENT})
        self.call("set_mask", *chance.choice(self.requests), words, 8, allowed=allowed)

    def describe(self, chance: random.Random) -> None:
        self.call("engine_describe", chance.choice(self.engines), struct("binhdan_engine_info"))
        self.call("model_describe", self.model, struct("binhdan_model_info"))

    def close_queue(self, chance: random.Random) -> None:
        pair = chance.choice(self.queues)
        self.call("queue_close", pair[1])
        self.queues = [other for other in self.queues if other != pair]

    def close_engine(self, chance: random.Random) -> None:
        engine = chance.choice(self.engines)
        self.call("engine_close", engine)
        self.engines = [other for other in self.engines if other != engine]

    def reopen_model(self, chance: random.Random) -> None:
        old, self.model = self.model, open_model()
        self.call("model_close", old)

    def strike(self, seed: int, until: float) -> None:
        chance = random.Random(seed)
        often = [self.submit, self.next, self.next, self.next, self.cancel, self.mask, self.fd, self.describe]
        rare = [self.create_engine, self.create_queue, self.close_queue, self.close_engine]
        # A process that stood still goes on until each of WANTED has come.
        while (now := time.monotonic()) < until or (now < until + 30 and not self.counts.keys() >= WANTED):
            kinds = rare if chance.random() < 0.15 else often
            if chance.random() < 0.002:
                kinds = [self.reopen_model]
            try:
                chance.choice(kinds)(chance)
            except IndexError:  # nothing of the kind is open
                self.create_engine(chance)

    def finish(self) -> None:
        for _, queue in self.queues:
            self.call("queue_close", queue)
        for engine in self.engines:
            self.call("engine_close", engine)
        self.call("model_close", self.model)


def main(seconds: float, seed: int) -> int:
    hammer = Hammer()
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=hammer.strike, args=(seed + i, until)) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hammer.finish()
    for what, count in sorted(hammer.counts.items()):
        print(f"{count:7} {what}")
    for failure in hammer.failures[:10]:
        print(failure, file=sys.stderr)
    return 1 if hammer.failures else 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2])))
