"""Converts a request's `response_format` into the token masks of its answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from binhdan.runtime.client.request import TokenMask
from binhdan.runtime.prompting.tokenizer import Prompt
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.http import fields
from binhdan.runtime.server.models.pool import LoadedModel
from binhdan.runtime.structured import constraints
from binhdan.runtime.structured.constraints import Spec, thinking_of

FormatType = Literal["text", "json_object", "json_schema", "regex", "grammar"]


def constraint_spec(
    type: FormatType,
    *,
    schema: Any = None,
    strict: bool | None = None,
    pattern: str | None = None,
    grammar: str | None = None,
) -> Spec | None:
    """The constraint of a format; None for free text. Unless a schema is `strict`, keywords that cannot be
    enforced are dropped and reported.

    A json_schema format needs `schema`, a regex needs `pattern`, a grammar needs `grammar`. Raises ApiError
    for a missing schema, and InvalidArgumentError for a value that is missing, invalid or too large.
    """
    match type:
        case "text":
            return None
        case "json_object":
            return constraints.json_object()
        case "json_schema":
            if schema is None:
                raise ApiError(
                    400, "response_format: type json_schema requires json_schema", param="response_format"
                )
            return constraints.json_schema(schema, strict=bool(strict))
        case "regex":
            return constraints.regex(pattern, "response_format.pattern")
        case "grammar":
            return constraints.grammar(grammar, "response_format.grammar")


def mask_factory(loaded: LoadedModel, spec: Spec | None, prompt: Prompt) -> Callable[[], TokenMask] | None:
    """A function that makes the mask of one answer to `prompt`; None without a constraint.

    It compiles the constraint: call it in a worker thread. What the constraint does not enforce is reported
    like an unknown field. Raises InvalidArgumentError for a constraint that is invalid or too complex.
    """
    if spec is None:
        return None
    compiled = loaded.constraints.compile(spec, thinking_of(prompt))
    for path in compiled.relaxed:
        fields.ignore(path, "this schema cannot be enforced")
    return compiled.mask
