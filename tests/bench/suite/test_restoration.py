"""bench/suite/restoration.py: shares of words and lines, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import binhdan
from binhdan.bench.cli import app
from binhdan.bench.suite.restoration import Record, lines_of, measure, read_records, score, table, write_page

LINES = ["Hôm nay trời đẹp quá!", "Tôi đi học ở trường.", "2024"]


def test_shares() -> None:
    one = score(["một hai ba", "Bốn 5"], ["một hài ba", "bốn 6"])
    assert one.value == 75 and one.sentences == 50 and one.low < 75 < one.high
    two = score(["Một hai. Ba bốn! Năm 2.5 sáu"], ["Một hai. Bà bốn! Năm 2.5 sáu"])
    assert round(two.sentences) == 67
    other = score(["a b"], ["a"])  # another number of words
    assert other.value == other.syllables == 0
    places = score(["Hoà-bình 5 òa"], ["hòa-binh 5 òa"])
    assert places.value == 50 and round(places.syllables) == 67
    with pytest.raises(ValueError, match="at least 1 word"):
        score(["1"], ["1"])


def test_sets(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"input": "a", "target": "á"}) + "\n")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"register": "news", "text": "à\n\nả"}) + "\n")
    records = read_records([tmp_path / "pairs.jsonl", tmp_path / "texts.jsonl"])
    assert records == [Record("pairs", "á", "a"), Record("news", "à\n\nả", None)]
    assert lines_of(records) == {"pairs": ["á"], "news": ["à", "ả"]}
    for bad in ("[]", '{"target": 1}', '{"target": "a", "input": 1}', '{"text": "a"}'):
        (tmp_path / "bad.jsonl").write_text(bad + "\n")
        with pytest.raises(binhdan.BadFormatError, match=r"bad.jsonl, line 1: expected"):
            read_records([tmp_path / "bad.jsonl"])
    with pytest.raises(binhdan.FileReadError, match="nowhere"):
        read_records([tmp_path / "nowhere"])


def test_the_table_is_written_into_the_page(tmp_path: Path) -> None:
    def failing(text: str) -> str:
        raise KeyError(text)

    result = measure("mine", LINES, {"same": lambda text: text, "failing": failing})
    assert result.peers["failing"] == result.peers["same"]
    assert (result.lines, result.words, result.changed, result.share.value) == (2, 10, 0, 100)
    assert result.lower.value == result.upper.value == 100 and result.peers["same"].value < 50
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- results of binhdan bench restore -->\nold\n<!-- end results -->\nb\n")
    write_page(page, [result])
    assert page.read_text() == (
        "a\n<!-- results of binhdan bench restore -->\n" + table([result]) + "<!-- end results -->\nb\n"
    )
    assert "| mine | 2 | 10 | **100.0 %** (100.0–100.0) |" in page.read_text()
    page.write_text("a")
    with pytest.raises(binhdan.BadFormatError, match="expected one block"):
        write_page(page, [result])


def test_a_set_without_words() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="mine: expected at least 1 line"):
        measure("mine", ["1"], {})


def test_the_command_prints_json(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text(
        "".join(json.dumps({"target": line}) + "\n" for line in LINES * 5), encoding="utf-8"
    )
    shown = CliRunner().invoke(app, ["restore", str(tmp_path / "mine.jsonl"), "--no-peers", "--json"])
    assert shown.exit_code == 0, shown.output
    both = json.loads(shown.stdout)
    assert both["restore"][0]["share"]["value"] == 100 and both["spell"][0]["words"] == 55
