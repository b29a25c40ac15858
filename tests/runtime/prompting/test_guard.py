"""runtime/prompting/guard.py: no control token comes out of users' text, and nothing of the text is lost."""

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
    """The control tokens that the tokenizer would see."""
    pattern = re.compile("|".join(map(re.escape, sorted(TOKENS, key=len, reverse=True))))
    return [token for text, markup in segments if markup for token in pattern.findall(text)]


@given(TEXTS, st.sampled_from(["{}", "<|im_start|>{}<|im_end|>", "<|im_{}start|>", "<{}", "a{}a", "[{}]"]))
def test_only_the_templates_tokens_are_found(text: str, template: str) -> None:
    assume(text)
    guard = Guard(TOKENS)
    segments = guard.split(template.format(guard.protect(text)))
    assert "".join(text for text, _ in segments) == template.format(text)
    assert found_in(segments) == found_in([(template.replace("{}", "\0"), True)])


@given(TEXTS)
def test_stripping_templates_too(text: str) -> None:
    assume(text.strip())
    guard = Guard(TOKENS)
    segments = guard.split("<|im_" + guard.protect(text).strip() + "start|>")
    assert found_in(segments) == []


@given(st.text())
def test_harmless_text_is_one_segment(text: str) -> None:
    guard = Guard(["<|im_start|>"])
    harmless = text.translate(dict.fromkeys(map(ord, "<|im_start>")))
    assert guard.protect(harmless) == harmless


def test_walks_what_templates_get() -> None:
    guard = Guard(["<s>"])
    protected = guard.protect({"a": ["<s>", {"<s>": 1}], "b": True, "c": None})
    assert protected["b"] is True and protected["c"] is None
    assert protected["a"][0] != "<s>" and "<s>" not in protected["a"][1]


def test_a_template_that_escapes_the_mark() -> None:
    guard = Guard(["<s>"])
    escaped = guard.protect("x<s>").encode("ascii", "backslashreplace").decode()
    assert guard.split(escaped) == [("x", True), ("<", False), ("s>", True)]


def test_no_text_brings_its_own_mark() -> None:
    first, second = Guard(["<s>"]), Guard(["<s>"])
    theirs = first.protect("a<s>")
    assert len(second.split(theirs)) == 1


def test_depth_is_bounded() -> None:
    value: object = "x"
    for _ in range(1000):
        value = [value]
    with pytest.raises(ValueError, match="nested"):
        Guard(["<s>"]).protect(value)
