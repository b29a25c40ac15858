"""Is a body JSON that is safe to parse? Found out in time that grows with its size alone."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from binhdan.runtime.server.errors import ApiError

_NOT_MARKS = bytes(set(range(256)) - set(b'"[]{},'))
_TO_SQUARE = bytes.maketrans(b"{}", b"[]")
# A string whose end is missing goes to the end: else each of its quotes would be tried as a beginning.
_STRING = re.compile(rb'"[^"]*+"?')


def check_json(body: bytes, *, depth: int, values: int) -> None:
    """Raises ApiError, 400, for what is no JSON in UTF-8 (RFC 8259, with neither NaN nor numbers beyond a
    double's range), for the same name twice in an object, for halves of surrogate pairs, for arrays and
    objects nested deeper than `depth`, for more than `values` values.
    """
    if b"\0" in body:  # parsers take UTF-16 and UTF-32 too, which the search for brackets does not know
        raise _invalid("it is not in UTF-8")
    _check_marks(body, depth, values)
    try:
        value = _DECODER.decode(body.decode())
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise _invalid("it is not in UTF-8") from None
    except UnicodeEncodeError:
        raise _invalid("it has half of a surrogate pair, which is no character") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"{error.msg} at character {error.pos}") from None
    except ValueError:  # Python converts no integer of more than some thousand digits
        raise _invalid("it has a number that is too long") from None


def _check_marks(body: bytes, depth: int, values: int) -> None:
    """Takes away all but the brackets, then the innermost pairs, `depth` times: nothing may be left.

    A value is one more than commas, or stands alone in its brackets, and has one string or two with its name:
    so the count bounds the work, too.
    """
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = marks.translate(_TO_SQUARE, _NOT_MARKS)
    if marks.count(b'"') > 4 * values:
        raise _too_many(values)
    # Without its quotes, an end beside a beginning, a string goes on in the next; what is outside stays so.
    marks = _STRING.sub(b"", marks.replace(b'""', b""))
    opened = marks.count(b"[")
    if opened > values or marks.count(b",") >= values:
        raise _too_many(values)
    if opened <= depth:
        return  # whatever else is wrong with it, the parser says it best
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
    if len(value) != len(pairs):  # readers differ in which one they take
        raise _invalid("an object has the same name twice")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _invalid("it has a number beyond the range of a double")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise _invalid(f"{name} is no value in JSON")


def _too_many(values: int) -> ApiError:
    return _invalid(f"it has more than {values:,} values")


def _invalid(reason: str) -> ApiError:
    return ApiError(400, f"the body cannot be taken as JSON: {reason}", code="invalid_json")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object)
