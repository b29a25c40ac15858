"""A JSON schema without the keywords that a grammar cannot enforce: it allows all that the schema allows, and
more.

Tools of other programs are full of such keywords. A request with a tool that is not `strict` uses the relaxed
schema, and its response names the keywords that were dropped.
"""

from __future__ import annotations

import re
from typing import Any

# Keywords that llguidance cannot enforce. It drops them itself when it is lenient.
_DROPPED = frozenset(
    (
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxContains",
        "minContains",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    )
)
_FORMATS = frozenset(
    ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "unknown", "uri", "uuid")
)
_MAPS = ("$defs", "definitions", "patternProperties", "properties")  # name -> schema
_DATA = ("const", "default", "enum", "examples", "required")
# With one of these, an object may have members that `properties` does not list.
_OPEN = frozenset(("additionalProperties", "anyOf", "oneOf", "patternProperties"))
# Look-around, and back-references: what Rust's regular expressions lack.
_UNSUPPORTED_PATTERN = re.compile(r"\(\?<?[=!]|\(\?P=|\\[1-9k]|\(\?>|[*+?}]\+")


def relaxed(schema: Any, place: str) -> tuple[Any, list[str]]:
    """The relaxed schema, and the paths of what it lacks, such as `place`.uniqueItems. The schema may not be
    nested deeper than constraints.MAX_SCHEMA_DEPTH."""
    dropped: list[str] = []
    return _relax(schema, place, dropped), dropped


def _relax(schema: Any, place: str, dropped: list[str]) -> Any:
    if isinstance(schema, list):
        return [_relax(one, f"{place}[{i}]", dropped) for i, one in enumerate(schema)]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        path = f"{place}.{key}"
        if _cannot_enforce(key, value):
            if value is not False:  # uniqueItems: false demands nothing
                dropped.append(path)
        elif key in _MAPS and isinstance(value, dict):
            result[key] = {}
            for name, one in value.items():
                if key == "patternProperties" and _UNSUPPORTED_PATTERN.search(name):
                    dropped.append(path)
                    # The names that the pattern matched are additional properties now.
                    result["additionalProperties"] = True
                else:
                    result[key][name] = _relax(one, f"{path}.{name}", dropped)
        elif key not in result:
            result[key] = value if key in _DATA else _relax(value, path, dropped)
    return result


def _cannot_enforce(key: str, value: Any) -> bool:
    if key == "pattern":
        return isinstance(value, str) and _UNSUPPORTED_PATTERN.search(value) is not None
    if key == "format":
        return isinstance(value, str) and value not in _FORMATS
    return key in _DROPPED


def closed(schema: Any) -> Any:
    """The schema without additional properties in objects that list their properties and say nothing about
    others: a small model may add members without end. JSON that the result allows is valid under `schema`.

    Schemas that combine objects (allOf, or $ref with other keywords) stay as they are: a member that one part
    lists is an additional one for another part.
    """
    return schema if _combines(schema) else _close(schema)


def _combines(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(map(_combines, schema))
    if not isinstance(schema, dict):
        return False
    if "allOf" in schema or ("$ref" in schema and schema.keys() & {"properties", "anyOf", "oneOf"}):
        return True
    return any(_combines(value) for key, value in schema.items() if key not in _DATA)


def _close(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_close(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            result[key] = {name: _close(one) for name, one in value.items()}
        else:
            result[key] = value if key in _DATA else _close(value)
    if isinstance(schema.get("properties"), dict) and not schema.keys() & _OPEN:
        result["additionalProperties"] = False
    return result
