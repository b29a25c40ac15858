"""runtime/prompting/reasoning.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binhdan.runtime.prompting.reasoning import ReasoningSplitter


def split(pieces: list[str], **how: bool) -> tuple[str, str]:
    splitter = ReasoningSplitter(**how)
    parts = [part for piece in pieces for part in splitter.push(piece)] + splitter.finish()
    assert all(text for _, text in parts)
    return tuple("".join(text for kind, text in parts if kind == want) for want in ("reasoning", "text"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Chào bạn.", "", "Chào bạn."),
        ("<think>nghĩ</think>\n\nChào", "nghĩ", "Chào"),
        ("\n<think>\na < b</think>Chào <think>", "a < b", "Chào <think>"),
        ("<think>\n\n</think>\n\nChào", "", "Chào"),
        ("<think>không hết", "không hết", ""),
        ("<thin", "", "<thin"),
        (" <b>", "", " <b>"),
        ("<think>a</think", "a</think", ""),
    ],
)
def test_the_result_does_not_depend_on_the_pieces(text: str, reasoning: str, answer: str) -> None:
    assert split([text]) == (reasoning, answer)
    assert split(list(text)) == (reasoning, answer)


def test_a_prompt_that_ends_inside_the_reasoning() -> None:
    assert split(["nghĩ</think>", "Chào"], inside=True) == ("nghĩ", "Chào")


def test_disabled() -> None:
    assert split(["<think>a</think>b"], enabled=False) == ("", "<think>a</think>b")


@given(st.lists(st.sampled_from(["<think>", "</think>", "<", "</thi", "nk>", "a", " ", "\n"]), max_size=12))
def test_random_pieces(pieces: list[str]) -> None:
    assert split(pieces) == split(["".join(pieces)])
