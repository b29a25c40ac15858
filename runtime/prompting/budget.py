"""The budget of one render of a chat template: a number of steps, which stands for time and memory.

Every operation that repeats or grows (loops, calls, filters, concatenation, output) spends from it. A render
that exceeds its budget fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2.exceptions import SecurityError

_steps: ContextVar[list[int]] = ContextVar("_steps")  # the steps that are left


@contextmanager
def budget(steps: int) -> Iterator[None]:
    """The block has `steps` steps."""
    token = _steps.set([steps])
    try:
        yield
    finally:
        _steps.reset(token)


def spend(amount: int) -> None:
    """Raises SecurityError when less than `amount` steps are left."""
    left = _steps.get()
    left[0] -= amount
    if left[0] < 0:
        raise SecurityError("it needs too much time or memory")


def length(value: object) -> int:
    """The size of a text or a container, without the sizes of its elements."""
    return len(value) if isinstance(value, (str, list, tuple, dict)) else 0


def spend_all(value: object) -> int:
    """Spends the size of `value` when it is written out, and returns it. A shared node counts each time."""
    cost = 1 + (len(value) if isinstance(value, str) else 0)
    spend(cost)
    if isinstance(value, Mapping):
        cost += sum(spend_all(key) + spend_all(item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        cost += sum(spend_all(item) for item in value)
    return cost


def spend_each(values: Iterable[Any], cost: int) -> Iterator[Any]:
    """The values. Each spends `cost`."""
    for value in values:
        spend(cost)
        yield value
