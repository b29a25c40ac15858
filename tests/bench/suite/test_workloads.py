"""bench/suite/workloads.py and its texts: shape, sizes, marks, tool calls that fit their schemas."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import binhdan
from binhdan.bench.suite.workloads import NAMES, WORKLOADS, Item, TextWorkload, load_workload

ALL = {name: load_workload(name) for name in NAMES}


def test_every_file_is_known() -> None:
    assert {path.stem for path in WORKLOADS.glob("*.jsonl")} == set(NAMES)


@pytest.mark.parametrize(
    ("name", "items", "turns"),
    [
        ("short", 40, 40),
        ("mixed", 20, 20),
        ("diacritics", 40, 40),
        ("tools", 12, 12),
        ("chats", 12, 36),
        ("documents", 6, 12),
    ],
)
def test_counts(name: str, items: int, turns: int) -> None:
    assert len(ALL[name].items) == items
    assert len(ALL[name].turns) == turns


def test_ids_and_questions_occur_once() -> None:
    ids = [item.id for workload in ALL.values() for item in workload.items]
    questions = [turn.messages[-1]["content"] for workload in ALL.values() for turn in workload.turns]
    assert Counter(ids).most_common(1)[0][1] == 1
    assert Counter(questions).most_common(1)[0][1] == 1


@pytest.mark.parametrize("workload", ALL.values(), ids=NAMES)
def test_text_is_clean_vietnamese(workload: TextWorkload) -> None:
    for item in workload.items:
        for message in item.messages:
            text = message.content
            assert unicodedata.is_normalized("NFC", text)
            assert text == text.strip() and "  " not in text and "\u00d0" not in text and "\u00f0" not in text
            assert all(char.isprintable() or char == "\n" for char in text)
            # Letters of Vietnamese and of code-mixed English; nothing that looks like one but is not.
            assert {unicodedata.name(char).split()[0] for char in text if char.isalpha()} == {"LATIN"}
            if message.role != "user" and workload.name not in ("tools",):
                assert not text.isascii()


def test_documents_have_one_to_two_thousand_tokens(model: binhdan.Model) -> None:
    for turn in ALL["documents"].turns:
        assert 1000 <= len(model.chat_tokens(turn.messages)) <= 2000


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_answers_fit_the_embedded_model(model: binhdan.Model, name: str) -> None:
    for turn in ALL[name].turns:
        sizes = len(model.chat_tokens(turn.cold(1))), len(model.tokenize(turn.answer))
        assert sum(sizes) <= model.context and 8 <= sizes[1] <= 160, turn.item


def _bare(text: str) -> str:
    letters = text.replace("đ", "d").replace("Đ", "D")
    return "".join(c for c in unicodedata.normalize("NFD", letters) if not unicodedata.combining(c))


def test_bare_sentences_are_the_answers_without_their_marks() -> None:
    for turn in ALL["diacritics"].turns:
        sent = str(turn.messages[0]["content"])
        assert sent.isascii() and sent == "them dau: " + _bare(turn.answer).lower().rstrip(".")
        assert not turn.has_prefix


def test_tool_calls_fit_their_schemas() -> None:
    for item in ALL["tools"].items:
        call = json.loads(item.messages[-1].content)
        tool = next(tool for tool in item.tools if tool.name == call["name"])
        properties: dict[str, Any] = tool.parameters["properties"]
        assert set(tool.parameters["required"]) <= call["arguments"].keys() <= properties.keys()
        types = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
        for name, value in call["arguments"].items():
            assert isinstance(value, types[properties[name]["type"]]), (item.id, name)
            assert value in properties[name].get("enum", [value])
        assert len(item.tools) == 2
        (turn,) = [turn for turn in ALL["tools"].turns if turn.item == item.id]
        assert turn.messages[0]["role"] == "system" and tool.name in str(turn.messages[0]["content"])


def test_chats_share_system_prompts() -> None:
    systems = Counter(item.messages[0].content for item in ALL["chats"].items)
    assert sorted(systems.values()) == [3, 3, 3, 3]
    assert all(len(item.messages) == 7 for item in ALL["chats"].items)


def test_a_turn_holds_all_that_stands_before_it() -> None:
    first, second, third = ALL["chats"].turns[:3]
    assert [len(turn.messages) for turn in (first, second, third)] == [2, 4, 6]
    assert second.messages[2] == {"role": "assistant", "content": first.answer}


def test_numbers_make_a_prompt_cold_or_its_question_new() -> None:
    turn = ALL["chats"].turns[1]
    cold, warm = turn.cold(7), turn.warm(7)
    assert cold[0]["content"] == f"(00000007) {turn.messages[0]['content']}"
    assert tuple(cold[1:]) == turn.messages[1:]
    assert tuple(warm[:-1]) == turn.messages[:-1]
    assert warm[-1]["content"] == f"(00000007) {turn.messages[-1]['content']}"
    assert turn.cold(8) != cold


def line(**changes: object) -> str:
    item = {
        "id": "a",
        "messages": [{"role": "user", "content": "Chào"}, {"role": "assistant", "content": "Ừ"}],
    }
    return json.dumps(item | changes)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(line() + "\n" + line(id="b") + "\n")
    own = load_workload(path)
    assert own.name == "own" and [item.id for item in own.items] == ["a", "b"]
    assert own.sha256 != ALL["short"].sha256 and len(own.sha256) == 64


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 1 to 10,000 lines, got 0"),
        (line() + "\nnonsense", "own.jsonl, line 2: Expecting value"),
        (line(messages=[{"role": "user", "content": "Chào"}]), "line 1: messages"),
        (line(messages=[{"role": "assistant", "content": "a"}] * 2), "user and assistant in turns"),
        (line(messages=[{"role": "system", "content": "a"}] * 2), "user and assistant in turns"),
        (line(extra=1), "line 1: extra"),
        (line(id=3), "line 1: id"),
        (
            line(
                messages=[
                    {"role": "user", "content": "Cha\u0300o"},
                    {"role": "assistant", "content": "Ừ"},
                ]
            ),
            "NFC",
        ),
        ("[" * 100_000, "line 1"),
    ],
)
def test_bad_files_are_told_by_their_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(binhdan.BadFormatError) as caught:
        load_workload(path)
    assert message in str(caught.value)


def test_names_that_are_none() -> None:
    with pytest.raises(
        binhdan.InvalidArgumentError, match="no workload 'long': expected one of short, mixed"
    ):
        load_workload("long")
    with pytest.raises(binhdan.FileReadError, match="nowhere"):
        load_workload("nowhere.jsonl")


def test_items_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        ALL["short"].items[0].id = "b"
    assert isinstance(ALL["short"].items[0], Item)
