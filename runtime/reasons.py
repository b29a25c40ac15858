"""Words for the errors of the operating system and of pydantic: what was expected, what came, what to do."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MAX_SHOWN = 60  # characters of a value
_DENIED = "no permission; change the owner or the mode of the file, or use another one"
_SYSTEM = {
    errno.EISDIR: "expected a file, got a folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder; check the path",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.ENOSPC: "no space is left on this disk; delete files, or use another folder",
    errno.EROFS: "this file system is read-only; use another folder",
    errno.ENAMETOOLONG: "this name is too long; check the path",
}
_DATE = "expected a date such as 2026-11-30"
# pydantic's types of errors, with the values of its context.
_VALUES = {
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_type": "expected a whole number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "string_type": "expected a text",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "missing": "expected this field, got none",
    "extra_forbidden": "expected no field of this name; correct or remove it",
    "greater_than": "expected a number above {gt}",
    "greater_than_equal": "expected a number of at least {ge}",
    "less_than": "expected a number below {lt}",
    "less_than_equal": "expected a number of at most {le}",
    "too_short": "expected at least {min_length} {parts}, got {actual_length}",
    "too_long": "expected at most {max_length} {parts}, got {actual_length}",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
}
_WITHOUT_INPUT = ("missing", "extra_forbidden", "too_short", "too_long")


def file_reason(error: OSError, path: str | os.PathLike[str] | None = None) -> str:
    """The file and what is wrong with it. `path` None: the file that the error names, if it names one."""
    name = error.filename if path is None else os.fspath(path)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    reason = _SYSTEM.get(error.errno or 0) or error.strerror or str(error)
    if not isinstance(name, str):
        return reason
    if error.errno == errno.ENOENT:
        reason = _missing(Path(name))
    return f"{name}: {reason}"


def _missing(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent}; create it, or check the path"
    place = "" if path.is_absolute() else f" (the current folder is {Path.cwd()})"
    return f"no such file; check the name{place}"


def value_reason(error: Mapping[str, Any], *, show: bool = True) -> str:
    """The words for one of pydantic's ErrorDetails. `show`: with the value, if the error has it."""
    words = _VALUES.get(error["type"])
    if words is None:
        return str(error["msg"]).removeprefix("Value error, ")
    limits = {
        name: int(limit) if isinstance(limit, float) and limit.is_integer() else limit
        for name, limit in error.get("ctx", {}).items()
    }
    # pydantic's name for a secret text is Value.
    part = "character" if limits.get("field_type") == "Value" else "item"
    one = 1 in (limits.get("min_length"), limits.get("max_length"))
    reason = words.format_map(limits | {"parts": part if one else f"{part}s"})
    if show and "input" in error and error["type"] not in _WITHOUT_INPUT:
        shown = str(error["input"])
        reason += f", got {shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + '…'}"
    return reason
