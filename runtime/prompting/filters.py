"""Filters and functions for chat templates that spend from the budget of a render."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from pprint import pformat
from typing import Any

from jinja2 import filters
from jinja2.exceptions import SecurityError

from binhdan.runtime.prompting.budget import length, spend, spend_all, spend_each
from binhdan.runtime.prompting.formats import percent_format

_MAX_DIGITS = 32  # of round()


def spending(function: Any) -> Callable[..., Any]:
    """A filter or test of jinja2 that spends the size of its arguments and of its result."""

    @wraps(function)  # jinja2 stores flags in attributes of the function
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        spend(1 + sum(map(length, args)))
        result = function(*args, **kwargs)
        spend(length(result))
        return result

    return wrapped


def spending_all(function: Any) -> Callable[..., Any]:
    """A filter of jinja2 that compares elements: it spends the size of all that the elements contain."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0  # the environment comes before the value

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value = args[first]
        if not isinstance(value, (str, Mapping)):
            value = list(spend_each(value, 1))
        spend_all(value)
        return function(*args[:first], value, *args[first + 1 :], **kwargs)

    return wrapped


# ---- used by the instrumented template ---------------------------------------------------------------------


def spend_length(value: Any) -> Any:
    spend(length(value))
    return value


def concat(values: list[Any]) -> str:
    for value in values:
        spend_all(value)
    return "".join(map(str, values))


# ---- texts -------------------------------------------------------------------------------------------------


def text(value: Any) -> str:
    spend_all(value)
    return str(value)


def replace(value: Any, old: str, new: str, count: int = -1) -> str:
    whole, new = str(value), str(new)
    spend(len(whole) + whole.count(str(old)) * len(new))
    return whole.replace(str(old), new, count)


def join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    items = list(spend_each(values, 1))
    if attribute is not None:
        items = [item[attribute] for item in items]
    spend(len(items) * len(separator))
    return separator.join(text(item) for item in items)


def indent(value: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    margin = width if isinstance(width, str) else " " * min(int(width), 64)
    lines = value.splitlines()
    spend(len(value) + len(lines) * len(margin))
    for i, line in enumerate(lines):
        if (first or i > 0) and (blank or line):
            lines[i] = margin + line
    return "\n".join(lines)


def center(value: Any, width: int = 80) -> str:
    whole = text(value)
    spend(max(0, int(width)))
    return whole.center(int(width))


def wordwrap(
    environment: Any,
    value: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str | None = None,
    break_on_hyphens: bool = True,
) -> str:
    """jinja2's filter. textwrap copies the rest of a long word each time that it cuts a piece off."""
    width = int(width)
    if width < 1:
        raise SecurityError(f"wordwrap has a width of {width}; the minimum is 1")
    whole = text(value)
    spend(sum(1 + len(word) * len(word) // width for word in whole.split()))
    spend((len(whole) + 1) * length(wrapstring))
    return filters.do_wordwrap(environment, whole, width, break_long_words, wrapstring, break_on_hyphens)


wordwrap.jinja_pass_arg = filters.do_wordwrap.jinja_pass_arg  # type: ignore[attr-defined]


def format_filter(value: Any, *args: Any, **kwargs: Any) -> str:
    return percent_format(str(value), kwargs or args)


def urlencode(value: Any) -> str:
    spend(9 * spend_all(value))  # a byte becomes three characters
    return filters.do_urlencode(value)


def pprint(value: Any) -> str:
    spend(spend_all(value) * _depth(value))  # pformat writes a node for each level above it
    return pformat(value)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """tojson as in transformers: no escapes for non-ASCII characters or HTML."""
    cost = spend_all(value)
    if indent is not None:
        indent = min(int(indent), 16)
        spend(cost * indent)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _depth(value: object) -> int:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return 1 + max(map(_depth, value), default=0)
    return 1


# ---- numbers and lists -------------------------------------------------------------------------------------


def round_number(value: float, precision: int = 0, method: str = "common") -> float:
    if abs(precision) > _MAX_DIGITS:
        raise SecurityError(f"round has a precision of {precision}; the maximum is {_MAX_DIGITS}")
    return filters.do_round(value, precision, method)  # type: ignore[arg-type]


def total(values: Iterable[Any], attribute: str | None = None, start: Any = 0) -> Any:
    """The filter sum: of numbers, or of lists with `start=[]`."""
    for value in spend_each(values, 1):
        addend = value if attribute is None else value[attribute]
        spend(length(start) + length(addend))
        start = start + addend
    return start


def batch(values: Iterable[Any], linecount: int, fill_with: Any = None) -> list[list[Any]]:
    spend(max(0, int(linecount)))
    return list(filters.do_batch(spend_each(values, 1), int(linecount), fill_with))


def slices(values: Iterable[Any], count: int, fill_with: Any = None) -> list[list[Any]]:
    """The filter slice."""
    spend(max(0, int(count)))
    return list(filters.sync_do_slice(list(spend_each(values, 1)), int(count), fill_with))


def numbers(*arguments: int) -> range:
    """The function range."""
    result = range(*arguments)
    spend(len(result))
    return result


def now(pattern: str) -> str:
    """The function strftime_now."""
    spend(256 * len(pattern))  # Python's limit for the result
    return datetime.now().strftime(pattern)
