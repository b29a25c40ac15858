"""Fields that give an answer a form: `response_format`, and the names of vLLM and llama.cpp for the same."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from binhdan.runtime.server.answers.response_format import FormatType, constraint_spec
from binhdan.runtime.server.api.body import Body, RequestBody
from binhdan.runtime.server.api.common import JsonObject
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.structured import constraints
from binhdan.runtime.structured.constraints import Spec

MAX_CHOICES = 1024

Schema = JsonObject | str  # vLLM also accepts the JSON text of a schema
Choices = Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICES)]


class JsonSchemaFormat(Body):
    model_config = ConfigDict(protected_namespaces=())
    name: Annotated[str, Field(max_length=256)] = ""
    description: str | None = None
    schema_: Annotated[JsonObject, Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(Body):
    """The form of the answer. `regex` and `grammar` (Lark's syntax, or GBNF: `root ::= …`) extend OpenAI's
    API; llama.cpp has `schema` at this level."""

    model_config = ConfigDict(protected_namespaces=())
    type: FormatType
    json_schema: JsonSchemaFormat | None = None
    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    pattern: str | None = None
    grammar: str | None = None

    def spec(self) -> Spec | None:
        """The constraint of an answer; None for free text. Raises InvalidArgumentError."""
        schema = self.schema_ if self.json_schema is None else self.json_schema.schema_
        type: FormatType = "json_schema" if self.type == "json_object" and schema is not None else self.type
        strict = self.json_schema is not None and bool(self.json_schema.strict)
        return constraint_spec(type, schema=schema, strict=strict, pattern=self.pattern, grammar=self.grammar)


class StructuredOutputs(Body):
    """vLLM's object with one of these."""

    model_config = ConfigDict(protected_namespaces=())
    json_: Annotated[Schema | None, Field(alias="json")] = None
    regex: str | None = None
    choice: Choices | None = None
    grammar: str | None = None
    json_object: bool | None = None


class Formed(RequestBody):
    """A request whose answer may have a form. At most one of these fields."""

    model_config = ConfigDict(protected_namespaces=())
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None  # vLLM's name, and its older ones:
    guided_json: Schema | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    json_schema: JsonObject | None = None  # llama.cpp's names
    grammar: str | None = None

    def spec(self) -> Spec | None:
        """The constraint of an answer; None for free text. Raises ApiError for two of them, and
        InvalidArgumentError."""
        given = dict(self._specs())
        if len(given) > 1:
            names = " and ".join(given)
            raise ApiError(400, f"{names}: expected one form of the answer; remove the others", param=names)
        return next(iter(given.values()), None)

    def _specs(self) -> list[tuple[str, Spec]]:
        """The field and the constraint of each form in the request."""
        outputs = self.structured_outputs or StructuredOutputs()
        specs = [
            ("response_format", None if self.response_format is None else self.response_format.spec()),
            ("structured_outputs.json", _of_schema(outputs.json_, "structured_outputs.json")),
            ("structured_outputs.json_object", constraints.json_object() if outputs.json_object else None),
            ("guided_json", _of_schema(self.guided_json, "guided_json")),
            ("json_schema", _of_schema(self.json_schema, "json_schema")),
        ]
        for name, pattern in (
            ("structured_outputs.regex", outputs.regex),
            ("guided_regex", self.guided_regex),
        ):
            specs.append((name, None if pattern is None else constraints.regex(pattern, name)))
        for name, choices in (
            ("structured_outputs.choice", outputs.choice),
            ("guided_choice", self.guided_choice),
        ):
            specs.append((name, None if choices is None else constraints.choice(choices, name)))
        for name, text in (
            ("structured_outputs.grammar", outputs.grammar),
            ("guided_grammar", self.guided_grammar),
            ("grammar", self.grammar or None),  # llama.cpp's clients write "" for none
        ):
            specs.append((name, None if text is None else constraints.grammar(text, name)))
        return [(name, spec) for name, spec in specs if spec is not None]


def _of_schema(schema: Any, param: str) -> Spec | None:
    if schema is None:
        return None
    return constraints.json_schema(constraints.parse_schema(schema, param), param)
