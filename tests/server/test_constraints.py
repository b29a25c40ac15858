"""runtime/server/constraints.py and the process in which grammars are tried."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.server.constraints import (
    MOST_GRAMMAR,
    MOST_REGEX,
    Constraints,
    Spec,
    grammar,
    json_object,
    json_schema,
    regex,
)
from binhdan.runtime.server.errors import ApiError
from binhdan.runtime.server.grammar_trial import TOO_MUCH, GrammarTrial
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_walk import allowed, walk
from tiny_models import GOLDEN_SHAPES, write_gguf

import binhdan

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "tên": {"type": "string", "minLength": 1, "maxLength": 30},
        "tuổi": {"type": "integer", "minimum": 0, "maximum": 150},
        "giới tính": {"enum": ["nam", "nữ", None]},
        "địa chỉ": {
            "type": "object",
            "properties": {
                "tỉnh": {"enum": ["Hà Nội", "Huế", 'TP. "Hồ Chí Minh"']},
                "số": {"type": "integer"},
            },
            "required": ["tỉnh"],
            "additionalProperties": False,
        },
        "điểm": {"type": "array", "items": {"type": "number", "multipleOf": 0.5}, "maxItems": 3},
        "bạn": {"type": "array", "items": {"$ref": "#/$defs/bạn"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["tên", "tuổi", "giới tính", "địa chỉ", "bạn"],
    "additionalProperties": False,
    "$defs": {"bạn": {"anyOf": [{"type": "string", "pattern": "^[A-ZĐ][a-zà-ỹ]{1,6}$"}, {"type": "null"}]}},
}
PHONE = r"(?:\+84|0)(?:3|5|7|8|9)\d{8}"


def check_person(person: Any) -> None:
    assert set(person) <= set(PERSON["properties"]) and set(PERSON["required"]) <= set(person)
    assert list(person) == [key for key in PERSON["properties"] if key in person]  # in the schema's order
    assert isinstance(person["tên"], str) and 1 <= len(person["tên"]) <= 30
    assert isinstance(person["tuổi"], int) and 0 <= person["tuổi"] <= 150
    assert person["giới tính"] in ("nam", "nữ", None)
    assert person["địa chỉ"]["tỉnh"] in ("Hà Nội", "Huế", 'TP. "Hồ Chí Minh"')
    assert set(person["địa chỉ"]) <= {"tỉnh", "số"}
    assert abs(person["địa chỉ"].get("số", 0)) < 2**53
    assert len(person.get("điểm", [])) <= 3 and all(mark * 2 % 1 == 0 for mark in person.get("điểm", []))
    assert 1 <= len(person["bạn"]) <= 2
    assert all(friend is None or re.fullmatch("[A-ZĐ][a-zà-ỹ]{1,6}", friend) for friend in person["bạn"])


@pytest.fixture(scope="module")
def constraints(model: binhdan.Model) -> Iterator[Constraints]:
    made = Constraints(model)
    made.prepare()
    yield made
    made.close()


def refusal(constraints: Constraints, spec: Spec) -> str:
    with pytest.raises(ApiError) as caught:
        constraints.compile(spec)
    assert caught.value.status == 400
    assert caught.value.body["error"]["param"] == spec.param
    return str(caught.value)


# ---- what comes is valid -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_json_of_a_schema(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    mask = constraints.compile(json_schema(PERSON)).mask()
    answer = model.ask("Ai ở Huế?", mask=mask, temperature=1.5, seed=seed, max_tokens=400)
    assert answer.finish_reason == "stop", answer.text
    check_person(json.loads(answer.text))


def test_greedy_answers_too(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(json_schema(PERSON)).mask()
    check_person(json.loads(model.ask("Ai ở Huế?", mask=mask, max_tokens=400).text))


@pytest.mark.parametrize("seed", range(8))
def test_any_walk_through_the_masks(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    text, ended = walk(model, constraints.compile(json_schema(PERSON)), seed)
    assert ended
    check_person(json.loads(text.decode()))


@pytest.mark.parametrize("name", ["llama-spm-tied", "llama"])
def test_random_weights_and_other_vocabularies(tmp_path: Path, name: str) -> None:
    """A SentencePiece vocabulary too, in which a blank stands at the beginning of words."""
    path = write_gguf(tmp_path / "model.gguf", replace(GOLDEN_SHAPES[name], context=2048))
    with binhdan.load(path, threads=1) as random:
        constraints = Constraints(random)
        try:
            constraint = constraints.compile(json_schema(PERSON))
            for seed in range(2):
                text, ended = walk(random, constraint, seed, 2000)
                assert ended
                check_person(json.loads(text))
                mask = constraint.mask()
                answer = random.complete("Ai", mask=mask, temperature=1.0, seed=seed, max_tokens=2000)
                assert answer.finish_reason == "stop"
                check_person(json.loads(answer.text))
        finally:
            constraints.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.integers(0, 1000))
@settings(max_examples=20)
def test_a_constant_comes_out_as_it_is(
    model: binhdan.Model, constraints: Constraints, value: Any, seed: int
) -> None:
    text, ended = walk(model, constraints.compile(json_schema({"const": value})), seed)
    assert ended and json.loads(text.decode()) == value


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_keys_keep_their_unicode_form(model: binhdan.Model, constraints: Constraints, form: Any) -> None:
    key = unicodedata.normalize(form, "tuổi của người ấy")
    schema = {"type": "object", "properties": {key: {"type": "boolean"}}, "required": [key]}
    text, _ = walk(model, constraints.compile(json_schema(schema | {"additionalProperties": False})), 1)
    assert list(json.loads(text)) == [key]


@pytest.mark.parametrize("seed", range(6))
def test_no_blanks_but_one_after_a_comma_or_colon(
    model: binhdan.Model, constraints: Constraints, seed: int
) -> None:
    schema = {"type": "array", "items": {"type": "object", "maxProperties": 3}, "maxItems": 3}
    text, _ = walk(model, constraints.compile(json_schema(schema)), seed, 200)
    outside = re.sub(rb'"(?:[^"\\]|\\.)*("|$)', b"", text)
    assert not re.search(rb"\s", re.sub(rb"(?<=[,:]) ", b"", outside))


def test_integers_without_bounds_do_not_go_on_for_ever(
    model: binhdan.Model, constraints: Constraints
) -> None:
    mask = constraints.compile(
        json_schema({"type": "array", "items": {"type": "integer"}, "maxItems": 2})
    ).mask()
    answer = model.ask("12345678901234567890", mask=mask, temperature=2.0, seed=3, max_tokens=60)
    assert all(abs(number) < 2**53 for number in json.loads(answer.text))
    # Data that looks like a schema is left alone, and wider bounds are the user's.
    data = {"enum": [{"type": "integer"}]}
    text, _ = walk(model, constraints.compile(json_schema(data)), 0)
    assert json.loads(text) == {"type": "integer"}


@pytest.mark.parametrize("seed", range(3))
def test_any_object(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    mask = constraints.compile(json_object()).mask()
    answer = model.ask("Hà Nội", mask=mask, temperature=0.8, seed=seed, max_tokens=100)
    assert answer.text.startswith("{")
    if answer.finish_reason == "stop":
        assert isinstance(json.loads(answer.text), dict)


@pytest.mark.parametrize(
    "pattern",
    [
        PHONE,
        "^" + PHONE + "$",
        r"(?:Nguyễn|Trần|Lê) (?:Văn|Thị) [A-ZĐ][a-zà-ỹ]{1,6}",
        r"\d{1,2}/\d{1,2}/20\d\d",
        r'["\\/]{3}',
        r"dòng một\ndòng hai|dòng ba\tbốn",
        "một\nhai",
        r"(?i:việt nam){1,3}",
        r"[^a-zA-Z\s]{2,5}",
    ],
)
def test_a_regular_expression(model: binhdan.Model, constraints: Constraints, pattern: str) -> None:
    constraint = constraints.compile(regex(pattern))
    for seed in range(3):
        text, ended = walk(model, constraint, seed)
        assert ended and re.fullmatch(pattern, text.decode())
        answer = model.ask(
            "Số điện thoại?", mask=constraint.mask(), temperature=1.0, seed=seed, max_tokens=60
        )
        assert answer.finish_reason == "stop" and re.fullmatch(pattern, answer.text)


def test_digits_are_ascii(model: binhdan.Model, constraints: Constraints) -> None:
    text, _ = walk(model, constraints.compile(regex(r"\d{20}\W")), 0)
    assert re.match(rb"[0-9]{20}", text)


LARK = """
start: subject " là " (adjective | place)
subject: "Hà Nội" | "Huế" | /[A-ZĐ][a-zà-ỹ]{1,5}/
adjective: "đẹp" | "xa"
place: "thành phố" (" lớn")?
"""
GBNF = """
root   ::= "Hà Nội" list "." # một danh sách
list   ::= (", " city){1,3}
city   ::= "Huế" | [A-Z] [a-zà-ỹ]{1,4}
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_grammar(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    want = r"(Hà Nội|Huế|[A-ZĐ][a-zà-ỹ]{1,5}) là (đẹp|xa|thành phố( lớn)?)"
    mask = constraints.compile(grammar(LARK)).mask()
    assert re.fullmatch(want, model.ask("Huế?", mask=mask, temperature=1.0, seed=seed).text)
    assert re.fullmatch(want, walk(model, constraints.compile(grammar(LARK)), seed)[0].decode())


@pytest.mark.parametrize("seed", range(4))
def test_a_grammar_in_gbnf(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    want = r"Hà Nội(, (Huế|[A-Z][a-zà-ỹ]{1,4})){1,3}\."
    mask = constraints.compile(grammar(GBNF)).mask()
    assert re.fullmatch(want, model.ask("Huế?", mask=mask, temperature=1.0, seed=seed).text)
    assert re.fullmatch(want, walk(model, constraints.compile(grammar(GBNF)), seed)[0].decode())


def test_ignored_blanks_of_a_grammar(model: binhdan.Model, constraints: Constraints) -> None:
    constraint = constraints.compile(grammar('start: "một" "hai"\n%ignore / {1,2}/'))
    assert re.fullmatch(rb"(?s)m\xe1\xbb\x99t *hai *", walk(model, constraint, 1)[0])


# ---- how an answer ends ------------------------------------------------------------------------------------


def test_max_tokens_cuts_wherever_it_is(model: binhdan.Model, constraints: Constraints) -> None:
    constraint = constraints.compile(json_schema(PERSON))
    whole = model.ask("Ai?", mask=constraint.mask(), max_tokens=400).text
    for most in (1, 2, 7, 20):
        answer = model.ask("Ai?", mask=constraint.mask(), max_tokens=most)
        assert answer.finish_reason == "length" and answer.answer_tokens == most
        assert whole.startswith(answer.text.rstrip("�"))


def test_what_may_end_ends_by_an_end_token(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(regex("[a-z]+")).mask()
    assert model.info.eos not in allowed(mask(()))
    assert model.info.eos in allowed(mask(model.tokenize("abc")))


def test_what_must_end_ends_by_itself(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(regex("abc")).mask()
    mask(())
    assert not any(mask(model.tokenize("abc")))
    assert not any(mask(model.tokenize("abc")))
    forced = constraints.compile(regex("abc|đúng")).mask()
    assert model.complete("Hà Nội", mask=forced, ignore_eos=True).text in ("abc", "đúng")


def test_ignored_end_tokens(model: binhdan.Model, constraints: Constraints) -> None:
    """With ignore_eos an end token is an answer's token like others: what may end, ends there."""
    mask = constraints.compile(regex("[a-z ]+")).mask()
    answer = model.complete("Hà Nội", mask=mask, ignore_eos=True, max_tokens=50)
    assert re.fullmatch("[a-z ]+", answer.text)


def test_masks_of_one_constraint_are_apart(model: binhdan.Model, constraints: Constraints) -> None:
    constraint = constraints.compile(regex("a[bc]d"))
    first, second = constraint.mask(), constraint.mask()
    first(())
    first(model.tokenize("ab"))
    texts = {model.detokenize((token,)) for token in allowed(second(()))}
    assert "a" in texts and not any(text.startswith("d") for text in texts)


# ---- thoughts ----------------------------------------------------------------------------------------------


def accepts(model: binhdan.Model, constraints: Constraints, spec: Spec, thinking: Any, text: str) -> bool:
    """May an answer begin like this?"""
    mask, tokens = constraints.compile(spec, thinking).mask(), model.tokenize(text)
    return all(token in allowed(mask(tokens[:i])) for i, token in enumerate(tokens))


@pytest.mark.parametrize(
    ("thinking", "text", "valid"),
    [
        ("no", '{"a": 1}', True),
        ("no", "<think>", False),
        ("may", '{"a": 1}', True),
        ("may", '<think>ờ… {"a"</think>\n\n{"a": 1}', True),
        ("may", "<think>ờ</think>Được", False),
        ("may", "Được", False),
        ("must", 'ờ…</think>{"a": 1}', True),
        ("must", '{"a": 1}, hay là 2?', True),
        ("must", '</think>\n\n{"a": 1}!', False),
    ],
)
def test_a_thought_before_the_answer(
    model: binhdan.Model, constraints: Constraints, thinking: Any, text: str, valid: bool
) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": False}
    assert accepts(model, constraints, json_schema(schema), thinking, text) == valid


# ---- control tokens ----------------------------------------------------------------------------------------


def test_users_cannot_ask_for_control_tokens(model: binhdan.Model, constraints: Constraints) -> None:
    roles = model.token_roles()
    control = roles.index(2)
    assert "<|im_start|>" in refusal(constraints, grammar('start: <|im_start|> "a"'))
    mask = constraints.compile(grammar(f'start: <[{control}]> "a"')).mask()
    with pytest.raises(InvalidArgumentError, match="control tokens"):
        mask(())
    anything = allowed(constraints.compile(grammar("start: <[*]>")).mask()(()))
    assert anything and all(roles[token] != 2 for token in anything)


def test_the_text_of_control_tokens_is_text(model: binhdan.Model, constraints: Constraints) -> None:
    text = "<|im_start|>"
    control = model.tokenize(text, parse_special=True)[0]
    assert model.token_roles()[control]
    mask = constraints.compile(json_schema({"const": text})).mask()
    tokens = model.tokenize(json.dumps(text))
    for i, token in enumerate(tokens):
        may = allowed(mask(tokens[:i]))
        assert token in may and control not in may


# ---- what is refused ---------------------------------------------------------------------------------------


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
        ({"$ref": "#"}, "nothing can follow"),
    ],
)
def test_schemas_that_cannot_be_ensured(constraints: Constraints, schema: dict[str, Any], why: str) -> None:
    message = refusal(constraints, json_schema(schema))
    assert why in message and len(message) < 500


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("a", "an object, not a string"),
        (None, "an object, not null"),
        (False, "an object, not a boolean"),
        ([{}], "an object, not a list"),
        ({"const": 2**63}, "more than 64 bits"),
        ({"const": "\ud800"}, "lone surrogate"),
        ({"const": float("nan")}, "not JSON"),
        ({"enum": list(range(30_000))}, "more than 20,000 values"),
        ({"enum": ["a" * 200_000]}, "more than 131,072 bytes"),
        ({"properties": {str(i): {} for i in range(2_000)}}, "more than 1,000 members"),
        (json.loads('{"items": ' * 200 + "{}" + "}" * 200), "more than 64 deep"),
    ],
)
def test_schemas_that_are_no_schemas_or_too_large(schema: Any, why: str) -> None:
    with pytest.raises(ApiError, match=re.escape(why)) as caught:
        json_schema(schema, "here")
    assert caught.value.status == 400 and caught.value.body["error"]["param"] == "here"


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("a(?=b)", "look-around"),
        (r"(a)\1", "backreferences"),
        (r"\bmột\b", "lookarounds not supported"),
        ("(a", "unclosed group"),
        ("a**{", "repetition"),
        (r"[^\s\S]", "nothing can follow"),
    ],
)
def test_regular_expressions_that_are_not_supported(constraints: Constraints, pattern: str, why: str) -> None:
    assert why in refusal(constraints, regex(pattern))


@pytest.mark.parametrize(
    ("make", "what", "why"),
    [
        (regex, "a\\", "backslash"),
        (regex, "", "empty"),
        (regex, 5, "a string, not a number"),
        (regex, "a" * (MOST_REGEX + 1), "4,097 characters"),
        (regex, "\udc00", "surrogate"),
        (grammar, " \n", "empty"),
        (grammar, {}, "a string, not an object"),
        (grammar, "a" * (MOST_GRAMMAR + 1), "at most 32,768"),
    ],
)
def test_texts_that_are_no_specs(make: Any, what: Any, why: str) -> None:
    with pytest.raises(ApiError, match=re.escape(why)):
        make(what)


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
def test_grammars_that_are_wrong(constraints: Constraints, text: str, why: str) -> None:
    assert why in refusal(constraints, grammar(text))


# ---- what is hostile ---------------------------------------------------------------------------------------


def nested(n: int) -> dict[str, Any]:
    """Each definition has the one before twice in an allOf: 2^n in all."""
    definitions: dict[str, Any] = {"d0": {"type": "string", "pattern": "a.*"}}
    for i in range(1, n):
        definitions[f"d{i}"] = {"allOf": [{"$ref": f"#/$defs/d{i - 1}"}, {"$ref": f"#/$defs/d{i - 1}"}]}
    return {"$defs": definitions, "$ref": f"#/$defs/d{n - 1}"}


def chain(name: str, start: str = "start:", colon: str = ":") -> str:
    """As many rules as are allowed, each made of the one before."""
    rules, i = [f'{name}0{colon} "a"'], 0
    while sum(map(len, rules)) + len(rules) < MOST_GRAMMAR - 100:
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
def test_what_would_cost_too_much_is_refused(constraints: Constraints, name: str) -> None:
    begin = time.monotonic()
    refusal(constraints, HOSTILE[name]())
    assert time.monotonic() - begin < 30  # 2 s of processor time at most; machines are shared
    constraints.compile(regex(PHONE))  # and what is good goes on


def backwards() -> str:
    """The converter from GBNF looks at all rules again for each rule that it finds to be a terminal."""
    rules = [f"r{i} ::= r{i + 1}" for i in range(1600)]
    return "\n".join(["root ::= r0", *rules, 'r1600 ::= "a"'])


# Not all of these must be refused; but whatever is not must work.
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
def test_what_is_large_is_refused_or_works(
    model: binhdan.Model, constraints: Constraints, spec: Spec
) -> None:
    begin = time.monotonic()
    try:
        walk(model, constraints.compile(spec), 0, 30)
    except ApiError as error:
        assert error.status == 400
    except InvalidArgumentError as error:
        assert "too" in str(error)
    assert time.monotonic() - begin < 30
    constraints.compile(regex(PHONE))


AMBIGUOUS = grammar('start: s\ns: s s s s | s s s | s s | "x" | "y" | /[a-z]/')


def test_a_mask_that_costs_too_much_ends_its_request(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(AMBIGUOUS).mask()
    with pytest.raises(InvalidArgumentError, match=r"constraint (is too complex|takes too much time)"):
        model.complete("Hà Nội", mask=mask, max_tokens=400, ignore_eos=True, temperature=1.0, seed=1)
    good = constraints.compile(regex(PHONE)).mask()
    assert re.fullmatch(PHONE, model.ask("Số?", mask=good).text)
    deadline = time.monotonic() + 10
    while model.load_report()["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert model.load_report()["running"] == 0


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
@settings(max_examples=40)
def test_whatever_is_sent_as_a_schema(model: binhdan.Model, constraints: Constraints, schema: Any) -> None:
    try:
        text, ended = walk(model, constraints.compile(json_schema(schema)), 0, 50)
    except (ApiError, InvalidArgumentError) as error:
        assert str(error) and "backtrace" not in str(error)
        return
    if ended:
        json.loads(text.decode())


@given(st.text(max_size=30) | st.text("()[]{}|*+?.^$\\/abđ0,-:<>!", max_size=30))
@settings(max_examples=40)
def test_whatever_is_sent_as_a_regular_expression_or_grammar(constraints: Constraints, text: str) -> None:
    for make in (
        regex,
        grammar,
        lambda text: grammar(f"start: {text}"),
        lambda text: grammar(f"root ::= {text}"),
    ):
        try:
            constraints.compile(make(text)).mask()(())
        except (ApiError, InvalidArgumentError) as error:
            assert str(error) and "backtrace" not in str(error)


# ---- the process for trials --------------------------------------------------------------------------------


def simple(text: str) -> list[dict[str, Any]]:
    return [{"name": "a", "lark_grammar": f'start: "{text}"'}]


def test_a_trial() -> None:
    trial = GrammarTrial()
    try:
        assert trial.check(simple("a")) == simple("a")
        gbnf = trial.check([{"name": "a", "gbnf": 'root ::= "a"'}])
        assert isinstance(gbnf, list) and "start" in gbnf[0]["lark_grammar"]
        assert "start" in str(trial.check([{"name": "a", "lark_grammar": "x: y"}]))
    finally:
        trial.close()


def test_what_was_tried_is_remembered() -> None:
    trial = GrammarTrial()
    bad = [{"name": "a", "lark_grammar": "x: y"}]
    first = trial.check(simple("a")), trial.check(bad)
    process = trial._process
    trial.close()
    assert (trial.check(simple("a")), trial.check(bad)) == first
    assert trial._process is None and process is not None and process.poll() is not None


def test_what_kills_the_process_is_too_much() -> None:
    trial = GrammarTrial()
    try:
        assert trial.check([{"name": "a", "json_schema": nested(40)}]) == TOO_MUCH
        assert trial.check(simple("b")) == simple("b")
    finally:
        trial.close()


def test_the_process_may_die_at_any_time() -> None:
    trial = GrammarTrial()
    try:
        trial.start()
        for _ in range(3):
            process = trial._process
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert isinstance(trial.check(simple(os.urandom(4).hex())), list)
        assert trial._process is not process
    finally:
        trial.close()
        trial.close()
    assert process.poll() is not None


def test_many_threads_share_one(model: binhdan.Model) -> None:
    constraints = Constraints(model)
    try:
        with ThreadPoolExecutor(8) as pool:
            compiled = list(pool.map(lambda i: constraints.compile(regex(f"số {i % 5}")), range(40)))
        texts = [walk(model, constraint, 0)[0].decode() for constraint in compiled]
        assert texts == [f"số {i % 5}" for i in range(40)]
    finally:
        constraints.close()


def test_requests_with_and_without_constraints_at_once(
    model: binhdan.Model, constraints: Constraints
) -> None:
    constraint = constraints.compile(json_schema(PERSON))
    alone = model.ask("Việt Nam là gì?", max_tokens=20).text
    answers: list[str] = []

    def ask() -> None:
        answers.append(model.ask("Ai?", mask=constraint.mask(), max_tokens=400).text)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    free = model.ask("Việt Nam là gì?", max_tokens=20).text
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and free == alone
    for answer in answers:
        check_person(json.loads(answer))
