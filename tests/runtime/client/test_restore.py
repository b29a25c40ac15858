"""runtime/client/restore.py: diacritics are restored, nothing that was right changes."""

from __future__ import annotations

import asyncio
import os
import threading
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binhdan
from binhdan.runtime.client.restore import card, format_of, restore_bytes
from binhdan.runtime.ffi import TextFormat

# Sentences with all their marks, which the model restores without an error.
SENTENCES = [
    "Hà Nội là thủ đô của Việt Nam.",
    "Hôm nay trời đẹp quá, chúng ta đi chơi nhé!",
    "Tôi không biết anh ấy đã đi đâu.",
    "Cảm ơn bạn đã giúp đỡ tôi trong thời gian qua.",
    "Mẹ tôi đang nấu cơm ở trong bếp.",
    "Các em học sinh chuẩn bị đi học.",
    "Mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi.",
]
KEPT = [
    "https://vi.example.vn/duong-dan?toi=di",
    "www.truong.vn",
    "toi@truong.edu.vn",
    "@nguoidung",
    "#dulich",
    "/home/toi/tai_lieu.txt",
    "C:\\Nguoi\\toi",
    "ten_bien",
    "getDuongDan()",
    "{ten}",
    "--dinh-dang",
    "iPhone",
    "12.500.000",
    "`duong`",
    "bao_cao.pdf",
]
MARKS = "\u0300\u0301\u0303\u0309\u0323\u0302\u0306\u031b"


def strip_marks(text: str) -> str:
    """Without Vietnamese marks, in NFD."""
    letters = (letter for letter in unicodedata.normalize("NFD", text) if letter not in MARKS)
    return "".join(letters).replace("đ", "d").replace("Đ", "D")


WORDS = [word for sentence in SENTENCES for word in sentence.split()]
typed = st.lists(
    st.one_of(
        st.sampled_from(WORDS),
        st.sampled_from(WORDS).map(strip_marks),
        st.sampled_from(WORDS).map(lambda word: unicodedata.normalize("NFD", word)),
        st.sampled_from(KEPT),
        st.sampled_from(
            [
                "\n",
                "\r\n",
                ".",
                "...",
                ",",
                "😀",
                "ñ",
                "\u212b",
                "1.5",
                "\ud800",
                "VIET",
                "d",
                "o",
                "Thuý",
                "hoá",
            ]
        ),
    )
).map(" ".join)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentences(sentence: str) -> None:
    bare = strip_marks(sentence)
    assert binhdan.restore(bare) == sentence
    assert binhdan.restore(bare.upper()) == sentence.upper()
    assert binhdan.restore(bare.title()) == sentence.title()
    assert binhdan.restore(bare.lower().rstrip(".!")) == sentence.lower().rstrip(".!")


@given(
    st.lists(st.sampled_from(SENTENCES), min_size=1),
    st.sampled_from(["NFC", "NFD"]),
    st.sampled_from([" ", "\n", "\r\n"]),
)
def test_marked_text_stays(sentences: list[str], form: str, space: str) -> None:
    text = unicodedata.normalize(form, space.join(sentences))
    assert binhdan.restore(text) == text


@given(typed | st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_only_marks_change_and_the_result_stays(text: str) -> None:
    restored = binhdan.restore(text)
    assert strip_marks(restored) == strip_marks(text)
    assert binhdan.restore(restored) == restored
    # Marks are added, never removed.
    before, after = (unicodedata.normalize("NFD", one) for one in (text, restored))
    assert all(after.count(mark) >= before.count(mark) for mark in MARKS)


@given(st.lists(st.sampled_from(SENTENCES), min_size=1), st.randoms())
def test_half_marked_words_keep_their_marks(sentences: list[str], random: object) -> None:
    words = [word if random.random() < 0.5 else strip_marks(word) for word in " ".join(sentences).split()]  # type: ignore[attr-defined]
    restored = binhdan.restore(" ".join(words)).split()
    assert all(
        new == old
        for new, old in zip(restored, words, strict=True)
        if strip_marks(old) != old and _has_tone(old)
    )


def _has_tone(word: str) -> bool:
    return any(mark in unicodedata.normalize("NFD", word) for mark in "\u0300\u0301\u0303\u0309\u0323")


@pytest.mark.parametrize("kept", KEPT)
def test_no_natural_language(kept: str) -> None:
    assert binhdan.restore(f"toi di hoc {kept} o truong") == f"tôi đi học {kept} ở trường"


def test_qualities_get_tones_and_impossible_words_are_completed() -> None:
    assert binhdan.restore("toi đa di hoc tiêng viêt") == "tôi đã đi học tiếng việt"
    # In a text with tones, a word without a tone has the level tone.
    assert binhdan.restore("Vân sớm đa se dây. Chim lồng khôn lẽ") == "Vân sớm đa se dây. Chim lồng khôn lẽ"


def test_places_of_tones() -> None:
    assert binhdan.restore("suc khoe va hoa binh") == "sức khỏe và hòa bình"
    assert binhdan.restore("suc khoe va hoa binh", style="new") == "sức khoẻ và hoà bình"
    assert binhdan.restore("Thuý khoẻ. chuc suc khoe") == "Thuý khoẻ. chúc sức khoẻ"  # follows the text
    assert binhdan.restore("Thuý hoá, hòa, quý", style="old") == "Thúy hóa, hòa, quý"
    assert binhdan.restore("Thúy hóa, hòa, quý", style="new") == "Thuý hoá, hoà, quý"


def test_decomposed_text_stays_decomposed() -> None:
    text = unicodedata.normalize("NFD", "Tôi đi học ở") + " truong dai hoc"
    assert binhdan.restore(text) == unicodedata.normalize("NFD", "Tôi đi học ở trường đại học")


# Format, and text in which T marks natural language and K the same words where they stay.
FORMATS = [
    ("html", "<a title='K'>T</a><code>K</code> &nbsp;"),
    ("html", "<!-- K --><script>K</script><style>K</style>T<br/>"),
    ("markdown", "T `K` [T](K)\n```\nK\n```\nT\n~~~\nK\n~~~\n"),
    ("srt", "1\n00:00:01,000 --> 00:00:02,000 K\n<i>T</i> {\\K}\n"),
    ("csv", "K,K\nT,1\n"),
    ("json", '{"K": ["T\\nT", 1, "T\\u0041"], "K" : "T"}'),
    ("po", 'msgid ""\nmsgstr "K"\n\n# K\nmsgid "K"\nmsgstr ""\n"T %s\\n"\n'),
    ("code", 'K = "K" # T\n// T\n/* T */ K'),
]


@pytest.mark.parametrize(("format", "text"), FORMATS)
def test_formats(format: TextFormat, text: str) -> None:
    given, wanted = (
        text.replace("T", words).replace("K", "toi di hoc") for words in ("toi di hoc", "tôi đi học")
    )
    assert binhdan.restore(given, format=format) == wanted


@given(
    st.text(st.sampled_from('<>/!-"\\\'{}[]():;&#`~\n toi&amp;mgsrd*"=ệ')),
    st.sampled_from(["html", "markdown", "srt", "csv", "json", "po", "code"]),
)
def test_any_bytes_in_any_format(text: str, format: str) -> None:
    assert strip_marks(binhdan.restore(text, format=format)) == strip_marks(text)  # type: ignore[arg-type]


def test_lines_that_are_not_utf8_stay() -> None:
    assert restore_bytes(b"toi di\xff hoc\ntoi di hoc") == b"toi di\xff hoc\n" + "tôi đi học".encode()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "a\0b"}, "found a NUL byte at 1"),
        ({"text": "a", "style": "x"}, "style: expected one of keep, new, old, got 'x'"),
        ({"text": "a", "format": "x"}, "format: expected one of"),
        ({"text": "a", "min_confidence": 2.0}, "min_confidence: expected 0 to 1, got 2"),
        ({"text": "a", "min_confidence": float("nan")}, "min_confidence: expected 0 to 1"),
    ],
)
def test_errors(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=message):
        binhdan.restore(**arguments)  # type: ignore[arg-type]


def test_odd_utf16_is_an_error() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="expected utf-16-le"):
        restore_bytes(b"\xff\xfea")


def test_explain() -> None:
    found = binhdan.explain("Toi di hoc, 1 con ga")
    assert found.text == "Tôi đi học, 1 con gà"
    data = b"Toi di hoc, 1 con ga"
    assert [data[choice.begin : choice.end].decode() for choice in found.choices] == [
        "Toi",
        "di",
        "hoc",
        "con",
        "ga",
    ]
    for choice in found.choices:
        probabilities = [p for _, p in choice.alternatives]
        assert probabilities == sorted(probabilities, reverse=True) and 0 < sum(probabilities) <= 1.001
        assert len({strip_marks(text) for text, _ in choice.alternatives}) == 1


async def test_async_and_threads_give_the_same() -> None:
    bare = [strip_marks(sentence) for sentence in SENTENCES]
    assert await asyncio.gather(*map(binhdan.arestore, bare)) == SENTENCES
    wrong: list[str] = []

    def work() -> None:
        for _ in range(20):
            wrong.extend(
                one for one, sentence in zip(bare, SENTENCES, strict=True) if binhdan.restore(one) != sentence
            )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_opens_its_own_file() -> None:
    binhdan.restore("a")
    if (child := os.fork()) == 0:
        os._exit(0 if binhdan.restore("viet nam") == "việt nam" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_formats_of_files() -> None:
    names = ["a.txt", "a", "a.HTML", "b/a.md", "a.srt", "a.csv", "a.json", "a.po", "a.py"]
    assert [format_of(name) for name in names] == [
        "text",
        "text",
        *["html", "markdown", "srt", "csv", "json", "po", "code"],
    ]


def test_the_card_names_sources_and_licence() -> None:
    assert card()["licence"] == "CC BY-SA 4.0" and card()["tokens"]["viwiki"] > 1_000_000


TELEX = {
    "Tooi yeeu Vieejt Nam vaf ddaats nuwowcs nayf tuyeejt": "Tôi yêu Việt Nam và đất nước này tuyệt",
    "Tooi mua booj bafn ghees cho phongf khachs": "Tôi mua bộ bàn ghế cho phòng khách",
    "Toio yeue Vietej Nam vaf ddaast nwocws nayf": "Tôi yêu Việt Nam và đất nước này",
    "TRWOWNGF DDAIJ HOCJ Hà Nội": "TRƯỜNG ĐẠI HỌC Hà Nội",
    "Cais computer nayf is the best, xem www.vn/toio": "Cái computer này is the best, xem www.vn/toio",
}
VNI = {
    "To6i ye6u Vie65t Nam va2 d9a61t nu7o71c na2y": "Tôi yêu Việt Nam và đất nước này",
    "D9o65i U23 gia2nh chie61n tha81ng na8m 2018": "Đội U23 giành chiến thắng năm 2018",
}


@pytest.mark.parametrize(("keys", "text"), TELEX.items())
def test_telex(keys: str, text: str) -> None:
    assert binhdan.restore(keys, typing="telex") == text
    assert binhdan.restore(text, typing="telex") == text


@pytest.mark.parametrize(("keys", "text"), VNI.items())
def test_vni(keys: str, text: str) -> None:
    assert binhdan.restore(keys, typing="vni") == text
    assert binhdan.restore(text, typing="vni") == text


def test_words_without_keys_are_restored_too() -> None:
    assert binhdan.restore("Hooms qua chungs toi ddax ddi xem phim", typing="telex").endswith(
        "chúng tôi đã đi xem phim"
    )


def test_keys_are_text_without_typing() -> None:
    assert binhdan.restore("Tooi yeeu") == "Tooi yeeu"


def test_teencode() -> None:
    assert (
        binhdan.restore("vk oi, hn ko di hoc dc r", teencode=True) == "vợ ơi, hôm nay không đi học được rồi"
    )
    assert binhdan.restore("Ko được đâu, giá 5k, 3 k", teencode=True) == "Không được đâu, giá 5k, 3 k"
    assert binhdan.restore("ko dc", teencode=False) != "không được"
