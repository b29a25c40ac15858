"""runtime/server/http/json_check.py: valid bodies, invalid bodies, hostile bodies."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http.json_check import parse_json

DEPTH, VALUES = 8, 60
MIB = 1 << 20


def complaint(body: bytes, depth: int = DEPTH, values: int = VALUES) -> str | None:
    """The error message for a body; None if it is valid, and its value then is that of Python's parser."""
    try:
        value = parse_json(body, max_depth=depth, max_values=values)
    except ApiError as error:
        assert error.status == 400
        return str(error)
    assert value == json.loads(body)
    return None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": "Ti\xe1\xba\xbfng Vi\xe1\xbb\x87t", "b": [1, -2.5e3, true, null, {}]}', None),
        (b"[" * 8 + b"]" * 8, None),
        (b"[" * 9 + b"]" * 9, "deeper than 8"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "deeper than 8"),
        (b'"' + b"[" * 100 + b'"', None),
        (b'"\\"' + b"[" * 100 + b'"', None),
        (b'"\\\\"' + b"[" * 100, "values"),
        (b'{"a": "\\u005b\\\\", "b": "]\\\\\\""}', None),
        (b"[1" + b",1" * 59 + b"]", None),
        (b"[1" + b",1" * 60 + b"]", "more than 60 values"),
        (b"[" + b"[]," * 60 + b"1]", "more than 60 values"),
        (b'{"a": NaN}', "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"[1e999]", "range of a double"),
        (b'["1e999", 1e999]', "number at character 10 is outside the range of a double"),
        (b'{"a": 1, "b": {"a": 2}}', None),
        (b'{"a": 1, "a": 2}', "same name twice"),
        (b'{"a": 1, "\\u0061": 2}', "same name twice, for its members 1 and 2"),
        (b'["\\ud83d\\ude00"]', None),
        (b'["\\ud83d"]', "lone surrogate U+D83D"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b"[" + b"9" * 5000 + b"]", "number at character 1 is too long: expected at most 4,300 digits"),
        (b'["\xff"]', "UTF-8, got another byte at byte 2"),
        ("[1]".encode("utf-16"), "UTF-8"),
        ("[1]".encode("utf-32-le"), "UTF-8"),
        (b"\xef\xbb\xbf[1", "Expecting"),
        (b"", "Expecting value at character 0"),
        (b"[1] 2", "Extra data"),
        (b"[}", "Expecting"),
        (b"[", "Expecting value at character 1"),
        (b"]", "Expecting value at character 0"),
        (b"[" * 9, "brackets do not match"),
        (b"[" * 9 + b"[]" * 3 + b"]" * 3 + b"[" * 3 + b"]" * 9, "deeper than 8"),
        (b'{"a', "Unterminated"),
    ],
)
def test_bodies(body: bytes, expected: str | None) -> None:
    message = complaint(body)
    assert message == expected or (expected is not None and message is not None and expected in message)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


texts = st.text(st.sampled_from('[]{}",\\:a嬢\n'), max_size=8)
trees = st.recursive(
    texts | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=40,
)


@given(trees, st.booleans(), st.integers(1, 12))
def test_any_json_is_valid_unless_too_deep(tree: Any, ascii_only: bool, depth: int) -> None:
    message = complaint(json.dumps(tree, ensure_ascii=ascii_only).encode(), depth, 10_000)
    if depth_of(tree) <= depth:
        assert message is None
    else:
        assert message is not None and "deeper" in message


@given(st.text(st.sampled_from('[]{}",\\: 1a'), max_size=40) | st.text(max_size=40))
@example('"\\')
@example('[["[\\"]"]]')
def test_valid_bodies_are_valid_for_json_loads_and_not_too_deep(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    if complaint(body, depth=3) is None:
        assert depth_of(json.loads(body)) <= 3


@pytest.mark.parametrize(
    "body",
    [
        b"[" * MIB,
        b"]" * MIB,
        b"[]" * (MIB // 2),
        (b"[" * 65 + b"]" * 65) * (MIB // 130),
        b'"' * MIB,
        b'"' + b'\\"' * (MIB // 2),
        b'"["[' * (MIB // 4),
        b"\\" * MIB,
        b"[" + b"," * MIB,
        b"9" * MIB,
        b'{"a":' * (MIB // 5),
    ],
    ids=lambda body: body[:6].decode(),
)
def test_hostile_bodies_are_refused_in_linear_time(body: bytes) -> None:
    start = time.process_time()
    assert complaint(body, 64, 100_000)
    assert time.process_time() - start < 2


def test_the_message_repeats_no_input() -> None:
    assert not re.search("mật", complaint('{"mật": 1, "mật": 2}'.encode()) or "")
