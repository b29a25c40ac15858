"""runtime/structured/constraints.py: answers satisfy their constraint."""

from __future__ import annotations

import json
import re
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import allowed, sample
from tiny_models import GOLDEN_SHAPES, write_gguf

import binhdan
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.structured.constraints import (
    Constraints,
    Spec,
    grammar,
    json_object,
    json_schema,
    regex,
)

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
        "điểm": {
            "type": "array",
            "items": {"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 10},
            "maxItems": 3,
        },
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


# ---- answers satisfy the constraint ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_model_answers_satisfy_a_schema(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    mask = constraints.compile(json_schema(PERSON)).mask()
    answer = model.ask("Ai ở Huế?", mask=mask, temperature=1.5, seed=seed, max_tokens=400)
    assert answer.finish_reason == "stop", answer.text
    check_person(json.loads(answer.text))


def test_greedy_answers_satisfy_a_schema(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(json_schema(PERSON)).mask()
    check_person(json.loads(model.ask("Ai ở Huế?", mask=mask, max_tokens=400).text))


@pytest.mark.parametrize("seed", range(8))
def test_random_tokens_satisfy_a_schema(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    text, ended = sample(model, constraints.compile(json_schema(PERSON)), seed)
    assert ended
    check_person(json.loads(text.decode()))


@pytest.mark.parametrize("name", ["llama-spm-tied", "llama"])
def test_random_weights_and_other_vocabularies(tmp_path: Path, name: str) -> None:
    """One vocabulary is SentencePiece, whose tokens hold the space before a word."""
    path = write_gguf(tmp_path / "model.gguf", replace(GOLDEN_SHAPES[name], context=2048))
    with binhdan.load(path, threads=1) as random:
        constraints = Constraints(random)
        try:
            constraint = constraints.compile(json_schema(PERSON))
            for seed in range(2):
                text, ended = sample(random, constraint, seed, 2000)
                assert ended
                check_person(json.loads(text))
                mask = constraint.mask()
                answer = random.complete("Ai", mask=mask, temperature=1.0, seed=seed, max_tokens=2000)
                assert answer.finish_reason == "stop"
                check_person(json.loads(answer.text))
        finally:
            constraints.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES, st.integers(0, 1000))
@settings(max_examples=20)
def test_a_const_is_reproduced(model: binhdan.Model, constraints: Constraints, value: Any, seed: int) -> None:
    text, ended = sample(model, constraints.compile(json_schema({"const": value})), seed)
    assert ended and json.loads(text.decode()) == value


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_keys_keep_their_unicode_form(model: binhdan.Model, constraints: Constraints, form: Any) -> None:
    key = unicodedata.normalize(form, "tuổi của người ấy")
    schema = {"type": "object", "properties": {key: {"type": "boolean"}}, "required": [key]}
    text, _ = sample(model, constraints.compile(json_schema(schema | {"additionalProperties": False})), 1)
    assert list(json.loads(text)) == [key]


@pytest.mark.parametrize("seed", range(6))
def test_the_only_whitespace_is_a_space_after_a_comma_or_colon(
    model: binhdan.Model, constraints: Constraints, seed: int
) -> None:
    schema = {"type": "array", "items": {"type": "object", "maxProperties": 3}, "maxItems": 3}
    text, _ = sample(model, constraints.compile(json_schema(schema)), seed, 200)
    outside = re.sub(rb'"(?:[^"\\]|\\.)*("|$)', b"", text)
    assert not re.search(rb"\s", re.sub(rb"(?<=[,:]) ", b"", outside))


def test_integers_without_bounds_are_finite(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(
        json_schema({"type": "array", "items": {"type": "integer"}, "maxItems": 2})
    ).mask()
    answer = model.ask("12345678901234567890", mask=mask, temperature=2.0, seed=3, max_tokens=60)
    assert all(abs(number) < 2**53 for number in json.loads(answer.text))
    for bounds in ({"maximum": 2**63 - 1}, {"minimum": -(2**63), "exclusiveMaximum": 2**64}):
        text, ended = sample(model, constraints.compile(json_schema({"type": "integer"} | bounds)), 1)
        assert ended and abs(int(text)) < 2**53
    # Data that looks like a schema is not changed.
    data = {"enum": [{"type": "integer"}]}
    text, _ = sample(model, constraints.compile(json_schema(data)), 0)
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
        text, ended = sample(model, constraint, seed)
        assert ended and re.fullmatch(pattern, text.decode())
        answer = model.ask(
            "Số điện thoại?", mask=constraint.mask(), temperature=1.0, seed=seed, max_tokens=60
        )
        assert answer.finish_reason == "stop" and re.fullmatch(pattern, answer.text)


def test_digit_class_is_ascii(model: binhdan.Model, constraints: Constraints) -> None:
    text, _ = sample(model, constraints.compile(regex(r"\d{20}\W")), 0)
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
    assert re.fullmatch(want, sample(model, constraints.compile(grammar(LARK)), seed)[0].decode())


@pytest.mark.parametrize("seed", range(4))
def test_a_grammar_in_gbnf(model: binhdan.Model, constraints: Constraints, seed: int) -> None:
    want = r"Hà Nội(, (Huế|[A-Z][a-zà-ỹ]{1,4})){1,3}\."
    mask = constraints.compile(grammar(GBNF)).mask()
    assert re.fullmatch(want, model.ask("Huế?", mask=mask, temperature=1.0, seed=seed).text)
    assert re.fullmatch(want, sample(model, constraints.compile(grammar(GBNF)), seed)[0].decode())


def test_ignore_rule_of_a_grammar(model: binhdan.Model, constraints: Constraints) -> None:
    constraint = constraints.compile(grammar('start: "một" "hai"\n%ignore / {1,2}/'))
    assert re.fullmatch(rb"(?s)m\xe1\xbb\x99t *hai *", sample(model, constraint, 1)[0])


# ---- ends of answers ---------------------------------------------------------------------------------------


def test_max_tokens_may_cut_at_any_token(model: binhdan.Model, constraints: Constraints) -> None:
    constraint = constraints.compile(json_schema(PERSON))
    whole = model.ask("Ai?", mask=constraint.mask(), max_tokens=400).text
    for limit in (1, 2, 7, 20):
        answer = model.ask("Ai?", mask=constraint.mask(), max_tokens=limit)
        assert answer.finish_reason == "length" and answer.answer_tokens == limit
        assert whole.startswith(answer.text.rstrip("�"))


def test_end_tokens_are_allowed_where_the_answer_may_end(
    model: binhdan.Model, constraints: Constraints
) -> None:
    mask = constraints.compile(regex("[a-z]+")).mask()
    assert model.info.eos not in allowed(mask(()))
    assert model.info.eos in allowed(mask(model.tokenize("abc")))


def test_an_answer_that_must_end_needs_no_end_token(model: binhdan.Model, constraints: Constraints) -> None:
    mask = constraints.compile(regex("abc")).mask()
    mask(())
    assert not any(mask(model.tokenize("abc")))
    assert not any(mask(model.tokenize("abc")))
    forced = constraints.compile(regex("abc|đúng")).mask()
    assert model.complete("Hà Nội", mask=forced, ignore_eos=True).text in ("abc", "đúng")


def test_ignore_eos(model: binhdan.Model, constraints: Constraints) -> None:
    """ignore_eos does not keep an end token from ending a constrained answer."""
    mask = constraints.compile(regex("[a-z ]+")).mask()
    answer = model.complete("Hà Nội", mask=mask, ignore_eos=True, max_tokens=50)
    assert re.fullmatch("[a-z ]+", answer.text)


def test_masks_of_one_constraint_are_independent(model: binhdan.Model, constraints: Constraints) -> None:
    constraint = constraints.compile(regex("a[bc]d"))
    first, second = constraint.mask(), constraint.mask()
    first(())
    first(model.tokenize("ab"))
    texts = {model.detokenize((token,)) for token in allowed(second(()))}
    assert "a" in texts and not any(text.startswith("d") for text in texts)


# ---- reasoning ---------------------------------------------------------------------------------------------


def accepts(model: binhdan.Model, constraints: Constraints, spec: Spec, thinking: Any, text: str) -> bool:
    """Returns whether an answer may begin with `text`."""
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
def test_reasoning_before_the_answer(
    model: binhdan.Model, constraints: Constraints, thinking: Any, text: str, valid: bool
) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": False}
    assert accepts(model, constraints, json_schema(schema), thinking, text) == valid


# ---- control tokens ----------------------------------------------------------------------------------------


def test_a_grammar_cannot_allow_control_tokens(model: binhdan.Model, constraints: Constraints) -> None:
    roles = model.token_roles()
    control = roles.index(2)
    with pytest.raises(InvalidArgumentError, match=re.escape("<|im_start|>")):
        constraints.compile(grammar('start: <|im_start|> "a"'))
    mask = constraints.compile(grammar(f'start: <[{control}]> "a"')).mask()
    with pytest.raises(InvalidArgumentError, match="control token"):
        mask(())
    anything = allowed(constraints.compile(grammar("start: <[*]>")).mask()(()))
    assert anything and all(roles[token] != 2 for token in anything)


def test_text_that_spells_a_control_token_stays_text(model: binhdan.Model, constraints: Constraints) -> None:
    text = "<|im_start|>"
    control = model.tokenize(text, parse_special=True)[0]
    assert model.token_roles()[control]
    mask = constraints.compile(json_schema({"const": text})).mask()
    tokens = model.tokenize(json.dumps(text))
    for i, token in enumerate(tokens):
        permitted = allowed(mask(tokens[:i]))
        assert token in permitted and control not in permitted


# ---- concurrency -------------------------------------------------------------------------------------------


def test_concurrent_requests_with_and_without_constraints(
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
