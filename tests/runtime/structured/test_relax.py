"""runtime/structured/relax.py: keywords that are dropped, objects that are closed."""

from __future__ import annotations

from typing import Any

import pytest

from binhdan.runtime.structured.relax import closed, relaxed


@pytest.mark.parametrize(
    ("schema", "want", "dropped"),
    [
        ({"type": "string", "pattern": "^a+$"}, {"type": "string", "pattern": "^a+$"}, []),
        ({"type": "string", "pattern": "^(?!a)"}, {"type": "string"}, ["s.pattern"]),
        ({"pattern": r"(a)\\1"}, {}, ["s.pattern"]),
        ({"format": "email"}, {"format": "email"}, []),
        ({"format": "phone"}, {}, ["s.format"]),
        ({"uniqueItems": False}, {}, []),
        ({"items": {"not": {}, "type": "null"}}, {"items": {"type": "null"}}, ["s.items.not"]),
        # Names of properties are no keywords, and values are no schemas.
        ({"properties": {"if": {"then": 1}}}, {"properties": {"if": {}}}, ["s.properties.if.then"]),
        ({"enum": [{"not": 1}], "const": {"if": 1}}, {"enum": [{"not": 1}], "const": {"if": 1}}, []),
        (
            {"patternProperties": {"(?=a)": {}, "b": {}}, "additionalProperties": False},
            {"patternProperties": {"b": {}}, "additionalProperties": True},
            ["s.patternProperties"],
        ),
    ],
)
def test_relaxed(schema: Any, want: Any, dropped: list[str]) -> None:
    assert relaxed(schema, "s") == (want, dropped)


@pytest.mark.parametrize(
    ("schema", "want"),
    [
        ({"properties": {"a": {}}}, {"properties": {"a": {}}, "additionalProperties": False}),
        ({"type": "object"}, {"type": "object"}),
        (
            {"items": {"properties": {"a": {"properties": {}}}}},
            {
                "items": {
                    "properties": {"a": {"properties": {}, "additionalProperties": False}},
                    "additionalProperties": False,
                }
            },
        ),
        ({"properties": {}, "additionalProperties": {}}, {"properties": {}, "additionalProperties": {}}),
        ({"allOf": [{"properties": {"a": {}}}]}, {"allOf": [{"properties": {"a": {}}}]}),
        ({"default": {"properties": {}}}, {"default": {"properties": {}}}),
    ],
)
def test_closed(schema: Any, want: Any) -> None:
    assert closed(schema) == want
