"""A strict JSON parser for request bodies. Its time grows linearly with the size of the body."""

from __future__ import annotations

import codecs
import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from binhdan.runtime.server.errors import ApiError

_NOT_MARKS = bytes(set(range(256)) - set(b'"[]{},'))
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
# The closing quote is optional: without it, the search would retry from each quote of an unterminated string.
_STRING = re.compile(rb'"[^"]*+"?')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_STRING_OR_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*+"|-?\d[\d.eE+-]*')


def parse_json(body: bytes, *, max_depth: int, max_values: int) -> Any:
    """The value of a JSON body (RFC 8259) in UTF-8.

    Raises ApiError, 400, for a body that is not JSON or not UTF-8, for NaN and numbers outside the range of a
    double, for an object with the same name twice, for a lone surrogate, for arrays and objects that are
    nested deeper than `max_depth`, and for more than `max_values` values. The message repeats no part of
    the body.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if b"\0" in body:  # UTF-16 or UTF-32: Python decodes them too, but _check_marks does not
        raise _invalid(f"expected UTF-8, got a zero at byte {body.index(0)}")
    _check_marks(body, max_depth, max_values)
    try:
        text = body.decode()
        value = _DECODER.decode(text)
        if _SURROGATE.search(body):  # a pair is valid, half of a pair cannot be encoded
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise _invalid(f"expected UTF-8, got another byte at byte {error.start}") from None
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise _invalid(f"a string has the lone surrogate U+{code:04X}, which is not a character") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at character {error.pos}") from None
    except _TooLarge as error:
        too_large = error.number
        position = _position(text, lambda number: number == too_large)
        raise _invalid(f"the number at character {position} is outside the range of a double") from None
    except ValueError:
        digits = sys.get_int_max_str_digits()
        position = _position(text, lambda number: len(number) > digits)
        raise _invalid(
            f"the number at character {position} is too long: expected at most {digits:,} digits"
        ) from None
    return value


def _check_marks(body: bytes, max_depth: int, max_values: int) -> None:
    """Bounds the depth and the number of values before the parser runs, with a few passes in C.

    It keeps only quotes, brackets and commas, then removes strings. Removing all innermost pairs of brackets
    `max_depth` times must leave nothing. A body has at most one value per comma and per opening bracket, plus
    one, and at most two strings (four quotes) per value, so these counts bound the parser's work.
    """
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = marks.translate(_TO_SQUARE, _NOT_MARKS)
    if marks.count(b'"') > 4 * max_values:
        raise _too_many(max_values)
    # Empty strings first: that joins adjacent strings, and moves nothing between inside and outside.
    marks = _STRING.sub(b"", marks.replace(b'""', b""))
    opened = marks.count(b"[")
    if opened > max_values or marks.count(b",") >= max_values:
        raise _too_many(max_values)
    if opened <= max_depth:
        return  # not too deep; the parser has better messages for other errors
    if opened != marks.count(b"]"):
        raise _invalid("its brackets do not match")
    marks = marks.replace(b",", b"")
    for _ in range(max_depth):
        if not marks:
            return
        marks = marks.replace(b"[]", b"")
    if marks:
        raise _invalid(f"its brackets do not match, or are nested deeper than {max_depth} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):  # parsers disagree on which of the two values counts
        numbers: dict[str, int] = {}
        for number, (name, _) in enumerate(pairs, 1):
            first = numbers.setdefault(name, number)
            if first != number:
                raise _invalid(f"an object has the same name twice, for its members {first} and {number}")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _TooLarge(text)
    return value


class _TooLarge(ValueError):
    """A number is outside the range of a double."""

    def __init__(self, number: str) -> None:
        super().__init__()
        self.number = number


def _position(text: str, matches: Callable[[str], bool]) -> int:
    """The position of the first matching number in JSON that is valid up to there."""
    return next((found.start() for found in _STRING_OR_NUMBER.finditer(text) if matches(found[0])), 0)


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is not a JSON value")


def _too_many(max_values: int) -> ApiError:
    return _invalid(f"it has more than {max_values:,} values")


def _invalid(reason: str) -> ApiError:
    return ApiError(400, f"the body is not valid JSON: {reason}", code="invalid_json")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object)
