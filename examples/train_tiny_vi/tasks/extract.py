"""Extract dates, numbers and names as JSON: {"ngày": [...], "số": [...], "tên": [...]}.

Dates have the form YYYY-MM-DD, YYYY-MM or YYYY. Numbers are copied from the text, without those within dates.
A name is a sequence of two or more capitalized words, without a first word of a sentence in `_OPENERS`.
"""

from __future__ import annotations

import json
import re
from random import Random

from train_tiny_vi.tasks.example import Example, ask
from train_tiny_vi.text import CAPITAL

PHRASINGS = (
    "Trích ngày, số và tên riêng dưới dạng JSON: {}",
    "Trích xuất JSON: {}",
    "Trích xuất ngày tháng, số và tên từ câu sau thành JSON: {}",
    "Tìm ngày, số, tên trong câu sau, trả lời bằng JSON: {}",
    "trich ngay, so va ten rieng thanh json: {}",
    "Đổi câu sau thành JSON gồm ngày, số, tên: {}",
)
_DATE = re.compile(
    r"(?:ngày )?\b(?P<d>\d{1,2}) tháng (?P<m>\d{1,2})(?:,? năm| năm|,)? (?P<y>\d{4})\b"
    r"|\b(?P<d2>\d{1,2})[/-](?P<m2>\d{1,2})[/-](?P<y2>\d{4})\b"
    r"|\btháng (?P<m3>\d{1,2})(?: năm|,|/)? ?(?P<y3>\d{4})\b"
    r"|\bnăm (?P<y4>[12]\d{3})\b(?! ?(?:TCN|trước))",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"(?<![\w.,/:-])\d+(?:[.,]\d+)*(?![\w/:]|-\d)%?")
_NAME = re.compile(rf"(?<!\w){CAPITAL}[^\W\d_]*(?:[ -]{CAPITAL}[^\W\d_]*)+")
_OPENING_WORDS = """
    ai anh ba ban bà bên bị bộ bởi bức các cả chị cho chùa chúa chức cô con có cơ cùng cuốn cuộc của do
    dù dân dãy dưới dòng đài đại đảng đảo đất đây đền đến đều để đó đội đối đồi đời đường được em gần
    giáo giữa hai hãng hạt hiện hình họ hoàng hôm hồ hội hơn huyện hệ khi khu không khoảng kinh kể là
    làng lâu loài lúc luật lễ mà mặc miền một mỗi mới mẹ nay năm nên nếu nghệ ngày ngoài người nguyên
    nhà nhân nhiều nhóm như những nhưng nơi núi nước nữ nó ông ở phía phim phong phố phường phần quan
    quân quận quần rồi sau sao sân sông số sự tác tại tàu tất tên tháng thành theo thế thị thì thời
    thuộc thủ tiếng tiểu tổ tổng toàn tỉnh tòa tôi trang trên trong trường trận trước triều từ tuy tướng
    vai vào vì việc viện và vua vùng về với vợ xã đồng
"""
_OPENERS = frozenset(_OPENING_WORDS.split())
_SENTENCE_START = re.compile(r"(?:^|[.!?:;…\"“(\n]\s*)$")


def extract(text: str) -> dict[str, list[str]]:
    """Returns the facts in the order of the text, without duplicates."""
    dates, spans = [], []
    for m in _DATE.finditer(text):
        day, month = m["d"] or m["d2"], m["m"] or m["m2"] or m["m3"]
        year = m["y"] or m["y2"] or m["y3"] or m["y4"]
        if (month and not 1 <= int(month) <= 12) or (day and not 1 <= int(day) <= 31):
            continue
        dates.append("-".join([year, *(f"{int(part):02}" for part in (month, day) if part)]))
        spans.append(m.span())
    numbers = [m.group() for m in _NUMBER.finditer(text) if not any(a <= m.start() < b for a, b in spans)]
    names = []
    for m in _NAME.finditer(text):
        words = m.group()
        first, _, rest = words.partition(" ")
        if first.lower() in _OPENERS and _SENTENCE_START.search(text[: m.start()]):
            words = rest  # the capital belongs to the sentence
        if " " in words or "-" in words:
            names.append(words)
    return {"ngày": _unique(dates), "số": _unique(numbers), "tên": _unique(names)}


def _unique(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))


def extract_json(rng: Random, text: str) -> Example | None:
    """Returns None for most texts with fewer than two facts, and for more than 14."""
    facts = extract(text)
    count = sum(map(len, facts.values()))
    if (count < 2 and rng.random() < 0.9) or count > 14:
        return None
    return Example(ask(rng, PHRASINGS, text), json.dumps(facts, ensure_ascii=False))
