"""runtime/prompting/guard.py: text of users contains no control tokens, and no text is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from binhdan.runtime.prompting.guard import Guard, Segment

TOKENS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "[INST]", "[/INST]", "<s>", "</s>", "aXa", "§"]
PIECES = st.sampled_from(
    [
        "<|im_start|>",
        "<|im_",
        "start|>",
        "<",
        "|",
        ">",
        "<|",
        "|>",
        "[INST",
        "]",
        "a",
        "X",
        "aXaXa",
        "§",
        " ",
        "\n",
        "chào",
    ]
)
TEXTS = st.lists(PIECES, max_size=8).map("".join)


def found_in(segments: list[Segment]) -> list[str]:
    """The control tokens that the tokenizer recognises."""
    pattern = re.compile("|".join(map(re.escape, sorted(TOKENS, key=len, reverse=True))))
    return [token for text, markup in segments if markup for token in pattern.findall(text)]


@given(TEXTS, st.sampled_from(["{}", "<|im_start|>{}<|im_end|>", "<|im_{}start|>", "<{}", "a{}a", "[{}]"]))
def test_only_tokens_of_the_template_are_found(text: str, template: str) -> None:
    assume(text)
    guard = Guard(TOKENS)
    segments = guard.split(template.format(guard.protect(text)))
    assert "".join(text for text, _ in segments) == template.format(text)
    assert found_in(segments) == found_in([(template.replace("{}", "\0"), True)])


@given(TEXTS)
def test_templates_that_strip(text: str) -> None:
    assume(text.strip())
    guard = Guard(TOKENS)
    segments = guard.split("<|im_" + guard.protect(text).strip() + "start|>")
    assert found_in(segments) == []


@given(st.text())
def test_harmless_text_is_one_segment(text: str) -> None:
    guard = Guard(["<|im_start|>"])
    harmless = text.translate(dict.fromkeys(map(ord, "<|im_start>")))
    assert guard.protect(harmless) == harmless


def test_nested_values() -> None:
    guard = Guard(["<s>"])
    protected = guard.protect({"a": ["<s>", {"<s>": 1}], "b": True, "c": None})
    assert protected["b"] is True and protected["c"] is None
    assert protected["a"][0] != "<s>" and "<s>" not in protected["a"][1]


def test_an_escaped_mark() -> None:
    guard = Guard(["<s>"])
    escaped = guard.protect("x<s>").encode("ascii", "backslashreplace").decode()
    assert guard.split(escaped) == [("x", True), ("<", False), ("s>", True)]


def test_marks_of_another_guard_are_text() -> None:
    first, second = Guard(["<s>"]), Guard(["<s>"])
    foreign = first.protect("a<s>")
    assert len(second.split(foreign)) == 1


def test_depth_is_bounded() -> None:
    value: object = "x"
    for _ in range(1000):
        value = [value]
    with pytest.raises(ValueError, match="nested"):
        Guard(["<s>"]).protect(value)
