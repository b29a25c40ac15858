"""str.format and the operator % for chat templates: bounded widths, no access to attributes or items."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from string import Formatter
from typing import Any

from jinja2.exceptions import SecurityError

from binhdan.runtime.prompting.budget import spend, spend_all

_MAX_WIDTH = 1000  # characters of a field, and digits of a number
_CONVERSIONS: dict[str | None, Callable[[Any], Any]] = {
    None: lambda value: value,
    "s": str,
    "r": repr,
    "a": ascii,
}
# %(key)-08.3f; a `%` that starts no such directive matches alone.
_DIRECTIVE = re.compile(r"%(?:\((\w*)\))?([-#0 +]*)(\d*)(\.\d*)?[hlL]?([diouxXeEfFgGcrsa%])|%")


def format_text(template: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """`template.format(*args, **kwargs)`. Raises SecurityError for `{a.b}`, `{a[b]}` and `{a:{b}}`."""
    spend(len(template))
    positions = count()
    parts = []
    for literal, name, spec, conversion in Formatter().parse(template):
        parts.append(literal)
        if name is None:
            continue
        if name.isidentifier():
            value = kwargs[name]
        elif not name or name.isdecimal():
            value = args[int(name) if name else next(positions)]
        else:
            raise SecurityError(f"str.format: {{{name}}} is not allowed; expected a name or a number")
        spec = spec or ""
        if "{" in spec:
            raise SecurityError("str.format: a field within the format of a field is not allowed")
        _spend_widths(spec)
        spend_all(value)
        parts.append(format(_CONVERSIONS[conversion](value), spec))
    return "".join(parts)


def percent_format(template: str, values: Any) -> str:
    """`template % values`. Raises SecurityError for widths from arguments (`%*d`) and unknown directives."""
    spend(len(template))
    positional = iter(values if isinstance(values, tuple) else (values,))

    def convert(match: re.Match[str]) -> str:
        key, flags, width, precision, kind = match.groups()
        if kind is None:
            raise SecurityError("the operator %: expected a directive such as %s or %(name)d after each %")
        if kind == "%":
            return "%"
        _spend_widths(width + (precision or ""))
        try:
            value = next(positional) if key is None else values[key]
        except StopIteration:
            raise TypeError("the operator %: there are fewer values than directives") from None
        spend_all(value)
        return str(f"%{flags}{width}{precision or ''}{kind}" % (value,))

    text = _DIRECTIVE.sub(convert, template)
    if not isinstance(values, Mapping) and next(positional, None) is not None:
        raise TypeError("the operator %: there are more values than directives")
    return text


def _spend_widths(spec: str) -> None:
    for number in re.findall(r"\d+", spec):
        if len(number) > 4 or int(number) > _MAX_WIDTH:
            raise SecurityError(f"a format has a width of {number[:20]}; the maximum is {_MAX_WIDTH}")
        spend(int(number))
