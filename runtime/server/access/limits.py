"""What a caller may take: requests at a time and tokens per minute. Over that: 429 and when to come again.

Tokens are a bucket that fills steadily and holds a minute's worth. A request is charged on entry for the most
that it may take, and gets back at its end what it left. One that may take more than a minute's worth needs a
full bucket, and what it really takes beyond that is owed: the bucket is below zero until it has flowed in. So
no request is too large for ever, and over time nobody gets more than their rate.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from binhdan.runtime.server.access.keys import Caller
from binhdan.runtime.server.errors import ApiError


@dataclass(slots=True)
class _Account:
    """Of one key."""

    tokens: float  # in the bucket at `time`; owed when below zero
    time: float
    running: int = 0


class Admission:
    """A request that was let in."""

    def __init__(self, account: _Account, charged: float, capacity: float) -> None:
        self._account = account
        self._charged = charged
        self._capacity = capacity
        self._settled = False

    def settle(self, used: int) -> None:
        """Says how many tokens it took in the end. The first call counts; without one it was none."""
        if self._settled:
            return
        self._settled = True
        if self._capacity:
            account = self._account
            account.tokens = min(self._capacity, account.tokens + self._charged - used)


class Limiter:
    """Belongs to one event loop. `most`: requests at a time, of all callers together; None: any.

    `clock` gives seconds and never goes back.
    """

    def __init__(self, max_running: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_running = max_running
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._running = 0

    @property
    def running(self) -> int:
        """Requests that are in."""
        return self._running

    @asynccontextmanager
    async def admit(
        self, caller: Caller, prompt_tokens: int, answer_tokens: int = 0
    ) -> AsyncIterator[Admission]:
        """Holds a caller's place for as long as the context lasts. `answer_tokens`: the most there can be.

        Raises ApiError: 429 when the caller's limits are reached, 503 when the server's is.
        """
        if self._max_running is not None and self._running >= self._max_running:
            raise ApiError(
                503,
                f"the server works on {self._max_running} requests, the most it takes; try again later",
                type="server_error",
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        account = self._account(caller)
        most = caller.limits.concurrent
        if most is not None and account.running >= most:
            raise _refusal(
                f"this API key has {account.running} requests running, and may have {most}", 1, "requests"
            )
        admission = self._charge(caller, account, prompt_tokens + answer_tokens)
        account.running += 1
        self._running += 1
        try:
            yield admission
        finally:
            account.running -= 1
            self._running -= 1
            admission.settle(0)

    def _charge(self, caller: Caller, account: _Account, estimate: int) -> Admission:
        capacity = caller.limits.tokens_per_minute
        if capacity is None:
            return Admission(account, 0, 0)
        charge = min(estimate, capacity)
        if account.tokens < charge:
            wait = max(1, math.ceil((charge - account.tokens) * 60 / capacity))
            raise _refusal(
                f"this API key may take {capacity:,} tokens a minute; this request may take {estimate:,}, "
                f"prompt and answer together, and {max(0, math.floor(account.tokens)):,} are left",
                wait,
                "tokens",
            )
        account.tokens -= charge
        return Admission(account, charge, capacity)

    def _account(self, caller: Caller) -> _Account:
        """With what has flowed in since the last look. There are as many as keys."""
        now, capacity = self._clock(), caller.limits.tokens_per_minute or 0
        account = self._accounts.get(caller.name)
        if account is None:
            account = self._accounts[caller.name] = _Account(capacity, now)
        account.tokens = min(capacity, account.tokens + (now - account.time) * capacity / 60)
        account.time = now
        return account


def _refusal(message: str, wait: int, kind: str) -> ApiError:
    """`wait` in seconds, `kind` as OpenAI's type of this error names what is used up."""
    return ApiError(
        429,
        f"{message}; try again in {wait} s",
        type=kind,
        code="rate_limit_exceeded",
        headers={"Retry-After": str(wait)},
    )
