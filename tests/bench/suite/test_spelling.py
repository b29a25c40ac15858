"""bench/suite/spelling.py: errors are made, counted and shown."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import binhdan
from binhdan.bench.suite.restoration import Record
from binhdan.bench.suite.spelling import (
    KINDS,
    measure,
    measure_pairs,
    misspell,
    misspelled_pairs,
    table,
    with_errors,
    write_page,
)


@pytest.mark.parametrize(
    ("word", "kind", "wanted"),
    [
        ("nghĩ", "hỏi, ngã", {"nghỉ"}),
        ("xử", "s, x", {"sử"}),
        ("trường", "ch, tr", {"chường"}),
        ("giết", "d, gi, r", {"dết"}),
        ("ra", "d, gi, r", {"gia", "da"}),
        ("luôn", "n, ng", {"luông"}),
        ("khác", "c, t", {"khát"}),
        ("được", "no tone", {"đươc"}),
        ("được", "no marks", {"duoc"}),
        ("ba", "doubled letter", {"bba", "baa"}),
        ("học", "missing letter", {"hc", "ọc", "họ"}),
        ("học", "swapped letters", {"ọhc", "hcọ", "học"}),
        ("đi", "s, x", {"đi"}),
    ],
)
def test_kinds_of_errors(word: str, kind: str, wanted: set[str]) -> None:
    assert {misspell(word, kind, random.Random(seed)) for seed in range(20)} == wanted


def test_a_part_of_the_words_gets_errors() -> None:
    lines = ["Ngày mai tôi nghĩ rằng chúng ta sẽ đi chơi ở Hà Nội, được không?"] * 200
    made = with_errors(lines)
    assert made == with_errors(lines)
    errors = sum(
        a != b for given, wanted, _ in made for a, b in zip(given.split(), wanted.split(), strict=True)
    )
    assert 50 < errors < 200 and {kind for _, _, kinds in made for kind in kinds} <= {"", *KINDS}
    assert all(given.split()[11:13] == ["Hà", "Nội,"] for given, _, _ in made)


def test_results_and_the_page(tmp_path: Path) -> None:
    made = measure("mine", ["Tôi đã đi học ở trường đại học, và tôi nghĩ rằng điều đó rất tốt."] * 20)
    assert made.alarms == 0 and made.words == 320 and made.errors == sum(made.kinds.values()) > 5
    assert made.errors >= made.found >= made.corrected > 0
    wrong = "Tôi đả đi học ở trường đại học."
    pairs = measure_pairs("pairs", [(wrong, wrong.replace("đả", "đã"))])
    assert (pairs.errors, pairs.reported, pairs.found, pairs.corrected, pairs.alarms) == (1, 1, 1, 1, None)
    shown = table([made, pairs])
    assert (
        "| pairs | 8 | 1 | 100.0 % | 100.0 % | 100.0 % | – |" in shown
        and "Recall by kind of error: " in shown
    )
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- spelling results of binhdan bench restore -->\nold\n<!-- end spelling results -->\n"
    )
    write_page(page, [made, pairs])
    assert shown in page.read_text()
    page.write_text("a")
    with pytest.raises(binhdan.BadFormatError, match="expected one block"):
        write_page(page, [made])


def test_pairs_with_other_errors_than_missing_marks() -> None:
    pairs = [("Toi di", "Tôi đi"), ("Tôi đả đi", "Tôi đã đi"), ("Tôi đả", "Tôi đã đi")]
    records = [Record("a", wanted, given) for given, wanted in pairs] + [Record("b", "à", None)]
    assert misspelled_pairs(records) == {"a": [pairs[1]]}
