"""runtime/structured/constraints.py: invalid and hostile specs are rejected."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import sample

import binhdan
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.structured.constraints import (
    MAX_GRAMMAR,
    MAX_REGEX,
    Constraints,
    Spec,
    grammar,
    json_schema,
    regex,
)

PHONE = r"(?:\+84|0)(?:3|5|7|8|9)\d{8}"


def refusal(constraints: Constraints, spec: Spec) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        constraints.compile(spec)
    assert caught.value.param == spec.param
    return str(caught.value)


# ---- invalid specs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"not": {"type": "string"}}, 'unsupported keywords: "not"'),
        ({"type": "array", "uniqueItems": True}, 'unsupported keywords: "uniqueItems"'),
        (
            {"type": "object", "properties": {"a": {"if": {}, "then": {}}}},
            'unsupported keywords: "if", "then"',
        ),
        ({"type": "string", "format": "int32"}, "Unknown format: int32"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "strin"}, "Invalid type: strin"),
        ({"type": "Việt Nam" * 100}, "Invalid type: Việt Nam"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum (3)"),
        ({"$ref": "#/$defs/không"}, "không"),
        ({"$ref": "https://example.com/a.json"}, "example.com"),
        ({"enum": []}, "anyOf is empty"),
        ({"oneOf": [{"type": "string"}, {"pattern": "a"}]}, "oneOf"),
        ({"$ref": "#"}, "no token can follow"),
    ],
)
def test_unsupported_schemas(constraints: Constraints, schema: dict[str, Any], why: str) -> None:
    message = refusal(constraints, json_schema(schema))
    assert why in message and len(message) < 500


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("a", "an object, got a string"),
        (None, "an object, got null"),
        (False, "an object, got a boolean"),
        ([{}], "an object, got a list"),
        ({"const": 2**53}, "integers within ± (2^53 - 1), got a larger one at 'const'"),
        ({"properties": {"a": {"enum": [1, [-(2**63)]]}}}, "at 'enum'"),
        ({"type": "integer", "minimum": 2**60}, "at 'minimum'"),
        ({"exclusiveMaximum": -(2**60)}, "at 'exclusiveMaximum'"),
        ({"multipleOf": 2**60 + 1}, "at 'multipleOf'"),
        ({"const": "\ud800"}, "lone surrogate"),
        ({"const": float("nan")}, "JSON values only"),
        ({"enum": list(range(30_000))}, "up to 20,000 values"),
        ({"enum": ["a" * 200_000]}, "up to 131,072 bytes"),
        ({"properties": {str(i): {} for i in range(2_000)}}, "up to 1,000 members"),
        (json.loads('{"items": ' * 200 + "{}" + "}" * 200), "depth of up to 64"),
    ],
)
def test_invalid_or_too_large_schemas(schema: Any, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(why)) as caught:
        json_schema(schema, "here")
    assert caught.value.param == "here"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a(?=b)", "look-around"),
        (r"(a)\1", "backreferences"),
        (r"\bmột\b", "lookarounds not supported"),
        ("(a", "unclosed group"),
        ("a**{", "repetition"),
        (r"[^\s\S]", "no token can follow"),
    ],
)
def test_unsupported_regular_expressions(constraints: Constraints, pattern: str, why: str) -> None:
    assert why in refusal(constraints, regex(pattern))


@pytest.mark.parametrize(
    ("make", "text", "why"),
    [
        (regex, "a\\", "backslash"),
        (regex, "", "empty"),
        (regex, 5, "a string, got a number"),
        (regex, "a" * (MAX_REGEX + 1), "characters, got 4,097"),
        (regex, "\udc00", "surrogate"),
        (grammar, " \n", "empty"),
        (grammar, {}, "a string, got an object"),
        (grammar, "a" * (MAX_GRAMMAR + 1), "up to 32,768"),
    ],
)
def test_invalid_texts(make: Any, text: Any, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=re.escape(why)):
        make(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('begin: "a"', "start"),
        ('start: "a', ""),
        ("start: missing", "missing"),
        ('root ::= "a" missing', "missing"),
        ('begin ::= "a"', "root"),
        ('root ::= ("a"', "Expected ')'"),
        ('start: "a"\nstart: "b"', "start"),
    ],
)
def test_invalid_grammars(constraints: Constraints, text: str, why: str) -> None:
    assert why in refusal(constraints, grammar(text))


# ---- hostile specs -----------------------------------------------------------------------------------------


def chain(name: str, start: str = "start:", colon: str = ":") -> str:
    """Returns a grammar of the maximum size, in which each rule contains the previous one."""
    rules, i = [f'{name}0{colon} "a"'], 0
    while sum(map(len, rules)) + len(rules) < MAX_GRAMMAR - 100:
        i += 1
        rules.append(f'{name}{i}{colon} {name}{i - 1} "b"')
    return "\n".join([f"{start} {name}{i}", *rules])


HOSTILE: dict[str, Any] = {
    "product of choices": lambda: json_schema(
        {"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(6)]} for i in range(12)]}
    ),
    "intersection of patterns": lambda: json_schema(
        {"type": "string", "allOf": [{"pattern": f".*{letter}.{{8}}.*"} for letter in "abcdefgh"]}
    ),
    "lengths of patterns": lambda: json_schema(
        {"type": "string", "pattern": "(.*a.{16}){3}", "minLength": 90}
    ),
    "multiples": lambda: json_schema({"type": "integer", "multipleOf": 1_000_000_007}),
    "nested counts": lambda: regex("(((((((((a{1,9}){1,9}){1,9}){1,9}){1,9}){1,9}){1,9}){1,9}){1,9}){1,9}"),
    "nested groups": lambda: regex("(" * 2000 + "a" + ")*" * 1000),
    "all of these": lambda: grammar("start: A\nA: /(.*a){10}/ & /(.*b){10}/ & /(.*c){10}/ & /(.*d){10}/"),
    "doubled terminals": lambda: grammar(
        "start: A30\nA0: /[a-z]+x/\n" + "\n".join(f"A{i}: A{i - 1} /q/ A{i - 1}" for i in range(1, 31))
    ),
    "empty rules": lambda: grammar(
        'start: a900\na0: "ab"?\n' + "\n".join(f"a{i}: a{i - 1} a{i - 1}" for i in range(1, 901))
    ),
    "deep brackets": lambda: grammar("start: " + "(" * 15_000 + '"a"' + ")" * 15_000),
    "deep brackets in gbnf": lambda: grammar("root ::= " + "(" * 15_000 + '"a"' + ")" * 15_000),
    "deep json": lambda: grammar("start: %json " + "[" * 15_000 + "]" * 15_000),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_specs_that_cost_too_much_are_rejected(constraints: Constraints, name: str) -> None:
    begin = time.monotonic()
    refusal(constraints, HOSTILE[name]())
    assert time.monotonic() - begin < 30  # the limit is 2 s of processor time; the machine may be shared
    constraints.compile(regex(PHONE))  # valid specs still compile


def backwards() -> str:
    """Returns a grammar for which the GBNF converter takes quadratic time.

    The converter rescans all rules for each rule that it identifies as a terminal.
    """
    rules = [f"r{i} ::= r{i + 1}" for i in range(1600)]
    return "\n".join(["root ::= r0", *rules, 'r1600 ::= "a"'])


# These may be rejected. A spec that is not rejected must work.
@pytest.mark.parametrize(
    "spec",
    [
        grammar(chain("r")),
        grammar(chain("R")),
        grammar(chain("r", "root ::=", " ::=")),
        grammar(backwards()),
        regex("(a{1000}){1000}"),
        regex("(.*a){200}"),
        regex(r"(\w|\d){1,1000}x\w{1,1000}"),
        regex("(x+x+)+y"),
        regex("|".join(f"w{i}" for i in range(600))),
        json_schema({"type": "string", "maxLength": 10**9}),
        json_schema({"type": "array", "items": {"type": "integer"}, "minItems": 10**6, "maxItems": 10**9}),
        json_schema({"type": "string", "pattern": ".*a.{16}", "maxLength": 400}),
        json_schema({"properties": {f"k{i}": {"type": "string"} for i in range(900)}}),
        json_schema({"allOf": [{"type": "integer", "multipleOf": p} for p in (10007, 10009, 10037, 10039)]}),
    ],
    ids=range(14),
)
def test_large_specs_are_rejected_or_work(model: binhdan.Model, constraints: Constraints, spec: Spec) -> None:
    begin = time.monotonic()
    try:
        sample(model, constraints.compile(spec), 0, 30)
    except InvalidArgumentError as error:  # from compile, or from a mask that costs too much
        assert error.param == spec.param or "too" in str(error)
    assert time.monotonic() - begin < 30
    constraints.compile(regex(PHONE))


# At least twenty parts, so that no answer ends before its masks become expensive.
AMBIGUOUS = grammar(f'start: {"s " * 20}\ns: s s s s | s s s | s s | "x" | "y" | /[a-z]/')


def test_a_mask_that_costs_too_much_ends_its_request(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(AMBIGUOUS).mask()
    with pytest.raises(InvalidArgumentError, match=r"constraint (is too complex|takes too much time)"):
        model.complete("Hà Nội", mask=mask, max_tokens=400, ignore_eos=True, temperature=1.0, seed=1)
    good = constraints.compile(regex(PHONE)).mask()
    assert re.fullmatch(PHONE, model.ask("Số?", mask=good).text)
    deadline = time.monotonic() + 10
    while model.engine_info()["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert model.engine_info()["running"] == 0


KEYWORDS = """
    type properties items enum const anyOf allOf oneOf $ref $defs required pattern minLength maxItems format
    additionalProperties minimum multipleOf prefixItems patternProperties x-guidance
"""
WORDS = ["object", "string", "integer", "array", "#", "#/$defs/a", "^a+$"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.sampled_from(WORDS),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(KEYWORDS.split()) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "anyOf", "x-guidance", "$ref", "ế"]), JSON))
@settings(max_examples=20)
def test_arbitrary_schemas_work_or_are_rejected(
    model: binhdan.Model, constraints: Constraints, schema: Any
) -> None:
    try:
        text, ended = sample(model, constraints.compile(json_schema(schema)), 0, 50)
    except InvalidArgumentError as error:
        assert str(error) and "backtrace" not in str(error)
        return
    if ended:
        json.loads(text.decode())


@given(st.text(max_size=30) | st.text("()[]{}|*+?.^$\\/abđ0,-:<>!", max_size=30))
@settings(max_examples=20)
def test_arbitrary_regular_expressions_and_grammars_work_or_are_rejected(
    constraints: Constraints, text: str
) -> None:
    for make in (
        regex,
        grammar,
        lambda text: grammar(f"start: {text}"),
        lambda text: grammar(f"root ::= {text}"),
    ):
        try:
            constraints.compile(make(text)).mask()(())
        except InvalidArgumentError as error:
            assert str(error) and "backtrace" not in str(error)
