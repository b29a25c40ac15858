"""examples/train_tiny_vi/tasks/: labels follow from the text by the documented rules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from random import Random

import pytest
from train_tiny_vi.corpus import Document
from train_tiny_vi.tasks.about import UNKNOWN, about, about_given, about_unknown
from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.tasks.extract import extract, extract_json
from train_tiny_vi.tasks.restore import PHRASINGS, damage_marks, restore
from train_tiny_vi.tasks.rewrite import rewrite
from train_tiny_vi.tasks.spelling import (
    confuse_sound,
    fix_spelling,
    misplace_tone,
    misspell,
    slip,
    telex,
    vni,
)
from train_tiny_vi.tasks.talk import TALK, talk
from train_tiny_vi.tasks.teencode import SHORT, expand_teencode
from train_tiny_vi.tasks.titles import title_paragraphs
from train_tiny_vi.tasks.words import Lexicon, restore_spaces, segment_words
from train_tiny_vi.text import place_tones, strip_marks

SEEDS = range(200)


def first_line(text: str) -> str:
    return text.split("\n")[0]


# ---- restore -----------------------------------------------------------------------------------------------


def test_restoring_changes_marks_only(text: str) -> None:
    """Question and answer are the same text without marks, for every kind of damage."""
    line = place_tones(first_line(text))
    seen = set()
    for seed in SEEDS:
        example = restore(Random(seed), line)
        assert example is not None
        bare = strip_marks(example.answer)
        assert bare in strip_marks(example.question)
        assert strip_marks(line).lower().startswith(bare.lower()[:12])
        seen.add(example.answer)
    # Unchanged, in lower case, without punctuation, in capitals.
    assert len(seen) == 4 and line in seen and line.lower() in seen and line.upper() in seen


def test_all_kinds_of_damage(text: str) -> None:
    damaged = {damage_marks(Random(seed), first_line(text)) for seed in SEEDS}
    assert strip_marks(first_line(text)) in damaged and first_line(text) in damaged and len(damaged) > 40
    assert all(strip_marks(d) == strip_marks(first_line(text)) for d in damaged)


def test_text_without_marks_has_no_example() -> None:
    assert restore(Random(1), "The cat sat on the mat.") is None


def test_the_phrasings_include_the_question_of_the_readme() -> None:
    asked = {ask(Random(seed), PHRASINGS, "X") for seed in SEEDS}
    assert {"them dau: X", "Thêm dấu: X", "thêm dấu: X", "Thêm dấu:\nX"} <= asked
    assert all(question.count("X") == 1 for question in asked)


# ---- spelling ----------------------------------------------------------------------------------------------


def test_telex_and_vni_keys() -> None:
    assert [telex(s) for s in ("Việt", "đường", "ĐI", "ha")] == ["Vieetj", "dduwowngf", "DdI", "ha"]
    assert [vni(s) for s in ("việt", "đường")] == ["vie6t5", "d9u7o7ng2"]


@pytest.mark.parametrize(
    ("make", "syllable", "wrong"),
    [
        (confuse_sound, "sửa", {"xửa", "sữa"}),
        (confuse_sound, "trăng", {"chăng", "trăn"}),
        (confuse_sound, "Nghĩa", {"Ngĩa", "Nghỉa"}),
        (confuse_sound, "lan", {"nan", "lang"}),
        (misplace_tone, "toàn", {"tòan"}),
        (misplace_tone, "hòa", {"hoà"}),
        (misplace_tone, "ba", {"ba"}),
        (slip, "đi", {"đii"}),
    ],
)
def test_common_spelling_errors(make: Callable[[Random, str], str], syllable: str, wrong: set[str]) -> None:
    assert {make(Random(seed), syllable) for seed in SEEDS} == wrong


def test_any_syllable_can_be_misspelt(text: str) -> None:
    for word in [
        *text.replace(".", " ").replace(",", " ").split(),
        "a",
        "Ở",
        "ĐƯỜNG",
        "quý",
        "gì",
        "x",
        "ng",
    ]:
        made = {misspell(Random(seed), word) for seed in SEEDS}
        assert all(made) and (len(made) > 1 or word.isdigit() or len(word) < 3)


def test_the_answer_is_the_original_text(text: str) -> None:
    line = first_line(text)
    made = [fix_spelling(Random(seed), line) for seed in SEEDS]
    assert {e.answer for e in made if e} == {line, line.lower()}
    same = sum(e.answer in e.question for e in made if e)
    assert 0.03 < same / len(made) < 0.25  # the share without an error


# ---- teencode ----------------------------------------------------------------------------------------------


def test_teencode(text: str) -> None:
    assert all(form and " " not in form for forms in SHORT.values() for form in forms.split())
    line = "Hôm nay mình không đi học được, bạn biết rồi mà!"
    made = [expand_teencode(Random(seed), line) for seed in SEEDS]
    assert {e.answer for e in made if e} == {
        "hôm nay mình không đi học được, bạn biết rồi mà!", "hôm nay mình không đi học được bạn biết rồi mà"
    }  # fmt: skip
    assert any(" ko " in e.question for e in made if e) and any(" dc" in e.question for e in made if e)
    assert expand_teencode(Random(1), "Kursk nằm trên một đồi cát") is None


# ---- JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sentence", "facts"),
    [
        ("Ngày 2 tháng 9 năm 1945 ở Ba Đình.", {"ngày": ["1945-09-02"], "số": [], "tên": ["Ba Đình"]}),
        ("Từ tháng 7 năm 1010 đến năm 1225.", {"ngày": ["1010-07", "1225"], "số": [], "tên": []}),
        ("Luật ban hành 15/6/2004, sửa 3 lần.", {"ngày": ["2004-06-15"], "số": ["3"], "tên": []}),
        (
            "Dân số 8.053.663 người, tăng 2,5% từ 2009.",
            {"ngày": [], "số": ["8.053.663", "2,5%", "2009"], "tên": []},
        ),
        (
            "Trần Hưng Đạo và Lý Thường Kiệt.",
            {"ngày": [], "số": [], "tên": ["Trần Hưng Đạo", "Lý Thường Kiệt"]},
        ),
        (
            "Ngày 40 tháng 13 năm 2001, năm 300 TCN, A4.",
            {"ngày": [], "số": ["40", "13", "2001", "300"], "tên": []},
        ),
        (
            "Vua Minh Mạng. Ông Đỗ Ước ở Ðà Lạt-Ấn",
            {"ngày": [], "số": [], "tên": ["Minh Mạng", "Đỗ Ước", "Ðà Lạt-Ấn"]},
        ),
        ("không có gì", {"ngày": [], "số": [], "tên": []}),
    ],
)
def test_facts(sentence: str, facts: dict[str, list[str]]) -> None:
    assert extract(sentence) == facts


def test_answers_are_json(text: str) -> None:
    made = [extract_json(Random(seed), first_line(text)) for seed in SEEDS]
    assert {json.dumps(json.loads(e.answer)["ngày"]) for e in made if e} == {'["1010-07", "1945-09-02"]'}


# ---- words -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    fill = [
        "trời",
        "xanh",
        "mây",
        "trắng",
        "gió",
        "nhẹ",
        "nước",
        "trong",
        "cây",
        "cao",
        "hoa",
        "thơm",
        "chim",
        "bay",
        "cá",
        "bơi",
    ]
    texts = []
    for seed in range(60):
        rng = Random(seed)
        rng.shuffle(fill)
        texts.append(" ".join(fill) + " các học sinh " + " ".join(rng.sample(fill, 5)) + " ở thành phố này")
    return Lexicon.mine(texts)


def test_words_are_mined_and_joined(lexicon: Lexicon) -> None:
    assert {"học sinh", "thành phố"} <= lexicon.strength.keys() and "xanh mây" not in lexicon.strength
    words = lexicon.words("Học sinh đến Hà Nội, thành phố 1.000 năm của Lê Lợi.")
    assert " ".join(words) == "Học_sinh đến Hà_Nội , thành_phố 1.000 năm của Lê_Lợi ."


def test_segmentation_keeps_all_characters(lexicon: Lexicon, text: str) -> None:
    for line in text.split("\n"):
        assert "".join(lexicon.words(line)).replace("_", "") == line.replace(" ", "")
    example = segment_words(Random(1), "Các học sinh.", lexicon)
    assert example is not None and example.answer == "Các học_sinh ."
    assert segment_words(Random(1), "Tôi ăn.", lexicon) is None


def test_spaces_are_restored() -> None:
    line = "Hôm nay trời đẹp."
    made = [restore_spaces(Random(seed), line) for seed in SEEDS]
    assert {e.answer for e in made if e} == {line, line.lower()}
    assert any("Hômnaytrờiđẹp." in e.question for e in made if e)
    assert restore_spaces(Random(1), "dài " * 50) is None


# ---- articles ----------------------------------------------------------------------------------------------


@pytest.fixture
def article(text: str) -> Document:
    return Document("viwiki", "hà nội", text)


def test_definitions_of_articles(article: Document) -> None:
    lead = "Hà Nội là thủ đô của nước Việt Nam, nằm bên bờ sông Hồng."
    made = [about(Random(seed), article) for seed in SEEDS]
    assert {e.answer for e in made if e} == {lead}
    assert {"Hà Nội là gì?", "hà nội là gì?"} <= {e.question for e in made if e}
    assert not any("là ai" in e.question for e in made if e)
    given = about_given(Random(1), article)
    assert given is not None and given.answer == lead and lead in given.question
    assert about(Random(1), Document("law", "luật", article.text)) is None


def test_questions_about_people_use_who() -> None:
    text = "Trần Văn A (sinh ngày 1 tháng 2 năm 1930) là một nhà thơ."
    asked = {e.question for s in SEEDS if (e := about(Random(s), Document("viwiki", "trần văn a", text)))}
    assert "Trần Văn A là ai?" in asked and "Trần Văn A là gì?" not in asked


def test_names_without_an_article(article: Document) -> None:
    made = [about_unknown(Random(seed), article, {"hà nội", "lý thái tổ"}) for seed in SEEDS]
    answers = {e.answer for e in made if e}
    assert UNKNOWN.format("Lý Thái Tổ") not in answers
    assert {UNKNOWN.format("Minh Mạng"), UNKNOWN.format("Ba Đình")} <= answers


def test_titles(article: Document) -> None:
    made = list(title_paragraphs(Random(1), article))
    assert [e.answer for e in made] == ["Hà Nội", "Lịch sử"]
    assert "Năm 1831" in made[1].question and "Năm 1831" not in made[0].question


# ---- talk --------------------------------------------------------------------------------------------------


def test_talk() -> None:
    made = [talk(Random(seed)) for seed in range(2000)]
    assert {e.answer for e in made} == set(TALK)
    by_question: dict[str, set[str]] = {}
    for e in made:
        by_question.setdefault(e.question.lower().rstrip("?!. :"), set()).add(e.answer)
    assert all(len(answers) == 1 for answers in by_question.values())  # no question has two answers


# ---- all ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [restore, fix_spelling, expand_teencode, extract_json, restore_spaces])
def test_examples_depend_on_the_seed_only(make: Callable[[Random, str], Example | None], text: str) -> None:
    for line in text.split("\n"):
        assert [make(Random(s), line) for s in range(20)] == [make(Random(s), line) for s in range(20)]


@pytest.mark.parametrize("make", [restore, fix_spelling, expand_teencode, extract_json, restore_spaces])
@pytest.mark.parametrize("line", ["", " ", ".", "a", "Ở", "二里頭", "12.5% — ½", "\u0301", "à" * 3000])
def test_unusual_texts_do_not_fail(make: Callable[[Random, str], Example | None], line: str) -> None:
    for seed in range(20):
        make(Random(seed), line)


# ---- rewrite -----------------------------------------------------------------------------------------------


def test_rewriting_brings_capitals_and_punctuation_back() -> None:
    text = "Hôm nay, mình không đi học được. Bạn đi nhé!"
    seen = set()
    for seed in SEEDS:
        example = rewrite(Random(seed), text)
        assert example is not None and example.answer == text
        question = example.question.lower()
        assert "," not in question and "nhé!" not in question
        seen.add(example.question.split(":")[-1].strip())
    assert "hôm nay mình không đi học được bạn đi nhé" in seen
    assert "hom nay minh khong di hoc duoc ban di nhe" in seen and len(seen) > 30


@pytest.mark.parametrize(
    "text", ["tên của tệp", "Hello, world.", "Một dòng không có dấu chấm", "ơn trời, mưa rồi."]
)
def test_only_sentences_are_rewritten(text: str) -> None:
    assert rewrite(Random(1), text) is None


def test_commands_of_the_talk_exist() -> None:
    commands = set(re.findall(r"binhdan (\w+)", " ".join(TALK)))
    assert {"ask", "chat", "serve", "restore", "quantize", "bench"} <= commands
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "binhdan", command, "--help"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
