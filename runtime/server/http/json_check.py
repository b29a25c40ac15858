"""A strict JSON parser for request bodies. Its time grows linearly with the size of the body."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from binhdan.runtime.server.errors import ApiError

_NOT_MARKS = bytes(set(range(256)) - set(b'"[]{},'))
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
# The closing quote is optional: without it, the search would retry from each quote of an unterminated string.
_STRING = re.compile(rb'"[^"]*+"?')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(body: bytes, *, depth: int, values: int) -> Any:
    """The value of a JSON body (RFC 8259) in UTF-8.

    Raises ApiError, 400, for a body that is not JSON or not UTF-8, for NaN and numbers outside the range of a
    double, for an object with the same name twice, for a lone surrogate, for arrays and objects that are
    nested deeper than `depth`, and for more than `values` values.
    """
    if b"\0" in body:  # UTF-16 or UTF-32: Python decodes them too, but _check_marks does not
        raise _invalid("expected UTF-8")
    _check_marks(body, depth, values)
    try:
        value = _DECODER.decode(body.decode())
        if _SURROGATE.search(body):  # a pair is valid, half of a pair cannot be encoded
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise _invalid("expected UTF-8") from None
    except UnicodeEncodeError:
        raise _invalid("a string has a lone surrogate, which is not a character") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at character {error.pos}") from None
    except ValueError:  # Python refuses integers of more than 4,300 digits
        raise _invalid("a number is too long") from None
    return value


def _check_marks(body: bytes, depth: int, values: int) -> None:
    """Bounds the depth and the number of values before the parser runs, with a few passes in C.

    Deletes everything except quotes, brackets and commas, then strings. Deleting the innermost pairs `depth`
    times must leave nothing. There is at most one value per comma and per opening bracket, plus one, and at
    most two strings (four quotes) per value, so the counts bound the parser's work.
    """
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = marks.translate(_TO_SQUARE, _NOT_MARKS)
    if marks.count(b'"') > 4 * values:
        raise _too_many(values)
    # Deleting adjacent quotes first joins neighbouring strings; what is outside of strings stays outside.
    marks = _STRING.sub(b"", marks.replace(b'""', b""))
    opened = marks.count(b"[")
    if opened > values or marks.count(b",") >= values:
        raise _too_many(values)
    if opened <= depth:
        return  # not too deep; the parser has better messages for other errors
    if opened != marks.count(b"]"):
        raise _invalid("its brackets do not match")
    marks = marks.replace(b",", b"")
    for _ in range(depth):
        if not marks:
            return
        marks = marks.replace(b"[]", b"")
    if marks:
        raise _invalid(f"its brackets do not match, or are nested deeper than {depth} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):  # parsers disagree on which of the two values counts
        raise _invalid("an object has the same name twice")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _invalid("a number is outside the range of a double")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not a JSON value")


def _too_many(values: int) -> ApiError:
    return _invalid(f"it has more than {values:,} values")


def _invalid(reason: str) -> ApiError:
    return ApiError(400, f"the body is not valid JSON: {reason}", code="invalid_json")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object)
