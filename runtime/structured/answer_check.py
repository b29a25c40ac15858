"""Checks complete answers: whether they fit the parts of their schemas that no grammar enforces."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from binhdan.runtime.structured.tool_format import ToolFormat
from binhdan.runtime.structured.tool_parser import ArgumentsPart, CallPart, ToolCallParser

# The schema of JSON whose grammar enforces all of its schema. Grammars do not prevent repeated member names.
ENFORCED = True


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """What a complete answer must fit. Its calls have the format `format`.

    `form`: the schema of an answer without calls; None: text that is not checked. `calls`: the schema of the
    arguments of each function.
    """

    form: Any = None
    calls: Mapping[str, Any] = field(default_factory=dict)
    format: ToolFormat | None = None

    def fits(self, text: str, valid: Callable[[Any, str], bool]) -> bool:
        """False if a member name of an object is repeated, or if JSON violates its schema. `valid` validates
        a JSON text under a schema."""
        parts = self._parts(text)
        if any(_repeats_a_name(value) for _, value in parts):
            return False
        return all(schema is ENFORCED or valid(schema, value) for schema, value in parts)

    def _parts(self, text: str) -> list[tuple[Any, str]]:
        """The JSON texts of an answer, with their schemas."""
        calls = self._calls_in(text)
        if calls or self.form is None:
            return [(self.calls[name], arguments) for name, arguments in calls]
        return [(self.form, text)]

    def _calls_in(self, text: str) -> list[tuple[str, str]]:
        """Name and arguments of each call."""
        if self.format is None:
            return []
        parser = ToolCallParser(self.format, self.calls)
        calls: list[tuple[str, str]] = []
        for part in [*parser.push(text), *parser.finish()]:
            match part:
                case CallPart(_, _, name):
                    calls.append((name, ""))
                case ArgumentsPart(_, more):
                    name, arguments = calls.pop()
                    calls.append((name, arguments + more))
        return calls


class _RepeatedName(Exception):
    pass


def _members(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _RepeatedName


def _repeats_a_name(text: str) -> bool:
    """True if an object in a JSON text has two members of one name. False also for text that is not JSON,
    such as an answer that a stop text ended."""
    try:
        json.loads(text, object_pairs_hook=_members)
    except _RepeatedName:
        return True
    except (ValueError, RecursionError):
        pass
    return False
