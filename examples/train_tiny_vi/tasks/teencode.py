"""Expand teencode, the shorthand of messages: "hom nay ko di hoc dc" → "hôm nay không đi học được"."""

from __future__ import annotations

import re
from random import Random

from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.text import WORD, place_tones, strip_marks

PHRASINGS = (
    "Viết lại đầy đủ: {}",
    "Dịch teencode: {}",
    "Sửa teencode: {}",
    "Thêm dấu và viết đầy đủ: {}",
    "Viết tin nhắn này cho đầy đủ và có dấu: {}",
    "Tin nhắn này nghĩa là gì? {}",
    "Viết lại cho chuẩn tiếng Việt: {}",
)
SHORT = {
    "không": "k ko kh kg hông hok khong", "được": "dc đc đk duoc", "gì": "j gi", "rồi": "r roi rùi",
    "với": "vs w zoi", "mình": "mk mik m mjnh", "biết": "bit bjt biet", "vậy": "z v zậy zay",
    "như": "nhu n", "thế": "the tke", "nào": "nao nèo", "người": "ng ngừi nguoi", "bây": "bi",
    "giờ": "h gio", "chồng": "ck", "vợ": "vk", "yêu": "iu", "quá": "wá wa qá", "qua": "wa",
    "quên": "wên", "trước": "trc truoc", "sau": "s", "cũng": "cx cug cung", "những": "nhữg nhug",
    "nhiều": "nhìu nhiu", "thích": "thik thix", "tình": "tìh", "anh": "a", "em": "e", "chị": "c",
    "bạn": "b bn pạn", "tôi": "t tui", "làm": "lm lam", "đi": "di dj", "nhưng": "nhg nhug",
    "mới": "ms moi", "việc": "vc viec", "học": "hok hoc", "trong": "trog tr", "ngày": "ngày ngay",
    "hôm": "hum hom", "nay": "ny nay", "luôn": "lun luon", "muốn": "mún mun", "chứ": "chu",
    "phải": "fải fai", "gia": "ja", "đình": "dih", "của": "củ cua", "còn": "cn", "vẫn": "vx",
    "xin": "xjn", "vui": "vuj", "điện": "đt", "tiền": "xiền", "nhắn": "nt", "tin": "tin", "bình": "bìh",
    "thường": "thg", "tháng": "thág", "năm": "nam", "ở": "o", "và": "và & va", "là": "là la",
    "có": "có co", "một": "1 mot", "hai": "2", "chưa": "chưa chua", "đang": "đag dag", "sẽ": "sẽ se",
    "khi": "khi", "này": "nì nay", "đó": "đó do", "đây": "đây day", "lắm": "lém lam", "đẹp": "đep dep",
    "ơi": "ui oi", "nhé": "nha nhé nhe", "nhà": "nhà nha", "thôi": "thui thoi", "chết": "chít",
    "buồn": "bùn bun", "cười": "cừi", "sợ": "sợ so", "trời": "chời", "chuyện": "chiện",
    "giúp": "júp giup", "cho": "cho",
}  # fmt: skip
_PUNCTUATION = re.compile(r"(?<!\d)[.,;:!?]+|[\"“”()]|[.,;:!?]+(?!\d)")


def shorten(rng: Random, text: str, bare: float) -> str:
    """Shortens three in four words of SHORT; removes marks of the others with probability `bare`."""

    def change(m: re.Match[str]) -> str:
        word: str = m.group()
        if word in SHORT and rng.random() < 0.75:
            return rng.choice(SHORT[word].split())
        return strip_marks(word) if rng.random() < bare else word

    return WORD.sub(change, text)


def expand_teencode(rng: Random, text: str) -> Example | None:
    """Returns None for text with fewer than two words of SHORT. The answer is in lower case."""
    answer = place_tones(text).lower()
    if rng.random() < 0.6:
        answer = " ".join(_PUNCTUATION.sub(" ", answer).split())
    if len(SHORT.keys() & set(WORD.findall(answer))) < 2:
        return None
    return Example(ask(rng, PHRASINGS, shorten(rng, answer, rng.choice((0.0, 0.5, 1.0, 1.0)))), answer)
