"""Limits per caller: running requests, and tokens per minute. A request over a limit gets 429 and a
Retry-After.

Each caller has a balance with a capacity of one minute. Admission subtracts the maximum use; the end adds
back the unused part. A request above the capacity needs a full balance and may make it negative. So every
request is admitted at some time, and over time no caller exceeds its rate.
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
    """The state of one caller."""

    tokens: float  # the balance at `time`; may be negative
    time: float
    running: int = 0  # requests


class Admission:
    """An admitted request."""

    def __init__(self, account: _Account, charged: float, capacity: float) -> None:
        self._account = account
        self._charged = charged
        self._capacity = capacity  # 0: no limit
        self._settled = False

    def settle(self, used: int) -> None:
        """Replaces the charge by the tokens that the request used. Only the first call counts; a request that
        ends without one pays nothing."""
        if self._settled:
            return
        self._settled = True
        if self._capacity:
            account = self._account
            account.tokens = min(self._capacity, account.tokens + self._charged - used)


class Limiter:
    """Admits requests. Use it from one event loop.

    `max_running`: running requests of all callers together; None: no limit. `clock` returns seconds and never
    decreases.
    """

    def __init__(self, max_running: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_running = max_running
        self._clock = clock
        self._accounts: dict[str, _Account] = {}  # one per API key
        self._running = 0

    @property
    def running(self) -> int:
        """The number of running requests."""
        return self._running

    async def settled(self) -> None:
        """Waits until other servers with the same limits can see the settlements so far."""

    def close(self) -> None:
        """Ends what the limiter has open."""

    @asynccontextmanager
    async def admit(
        self, caller: Caller, prompt_tokens: int, answer_tokens: int = 0
    ) -> AsyncIterator[Admission]:
        """Counts a request as running inside the context. `answer_tokens`: the maximum that it may generate.

        Raises ApiError: 429 over a limit of the caller, 503 over the limit of the server.
        """
        if self._max_running is not None and self._running >= self._max_running:
            raise ApiError(
                503,
                f"the server has {self._running} running requests; its limit is {self._max_running}; "
                "try again later",
                type="server_error",
                code="overloaded",
                headers={"Retry-After": "1"},
            )
        account = self._account(caller)
        check_running(caller, account.running)
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
        check_tokens(capacity, account.tokens, charge, estimate)
        account.tokens -= charge
        return Admission(account, charge, capacity)

    def _account(self, caller: Caller) -> _Account:
        """The account of a caller, with its balance of now."""
        now, capacity = self._clock(), caller.limits.tokens_per_minute or 0
        account = self._accounts.get(caller.name)
        if account is None:
            account = self._accounts[caller.name] = _Account(capacity, now)
        account.tokens = min(capacity, account.tokens + (now - account.time) * capacity / 60)
        account.time = now
        return account


def check_running(caller: Caller, running: int) -> None:
    """Raises ApiError, 429, if a caller with so many running requests may not start another one."""
    limit = caller.limits.max_concurrent
    if limit is not None and running >= limit:
        message = f"this API key has {running} running requests; its limit is {limit}"
        raise _over_limit(message, 1, "requests")


def check_tokens(capacity: int, balance: float, charge: float, estimate: int) -> None:
    """Raises ApiError, 429, if the balance does not hold the charge. `estimate`: what the request may use."""
    if balance < charge:
        wait = max(1, math.ceil((charge - balance) * 60 / capacity))
        raise _over_limit(
            f"the limit of this API key is {capacity:,} tokens a minute: this request may use "
            f"{estimate:,}, and {max(0, math.floor(balance)):,} are left",
            wait,
            "tokens",
        )


def _over_limit(message: str, wait: int, kind: str) -> ApiError:
    """`wait` in seconds. `kind`: OpenAI's error type names the exhausted resource."""
    return ApiError(
        429,
        f"{message}; try again in {wait} s",
        type=kind,
        code="rate_limit_exceeded",
        headers={"Retry-After": str(wait)},
    )
