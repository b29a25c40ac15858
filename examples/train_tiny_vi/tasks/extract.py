"""Dates, numbers and names of a text as JSON: {"ngày": [...], "số": [...], "tên": [...]}.

Dates are written YYYY-MM-DD, YYYY-MM or YYYY; numbers as the text has them; a name is a run of two and more
capitalised words that does not begin a sentence. Numbers within dates are not listed again.
"""

from __future__ import annotations

import json
import re
from random import Random

from train_tiny_vi.tasks.example import Example, ask

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
_NAME = re.compile(r"[^\W\da-zà-ỹđ_][^\W\d_]*(?:[ -][^\W\da-zà-ỹđ_][^\W\d_]*)+")
_OPENS = re.compile(r"(?:^|[.!?:;…\"“(\n]\s*)$")


def extract(text: str) -> dict[str, list[str]]:
    """The facts in their order in the text, each once."""
    dates, spans = [], []
    for m in _DATE.finditer(text):
        day, month = m["d"] or m["d2"], m["m"] or m["m2"] or m["m3"]
        year = m["y"] or m["y2"] or m["y3"] or m["y4"]
        if (month and not 1 <= int(month) <= 12) or (day and not 1 <= int(day) <= 31):
            continue
        dates.append("-".join([year, *(f"{int(part):02}" for part in (month, day) if part)]))
        spans.append(m.span())
    numbers = [
        m.group() for m in _NUMBER.finditer(text) if not any(a <= m.start() < b for a, b in spans)
    ]
    names = []
    for m in _NAME.finditer(text):
        words = m.group()
        if _OPENS.search(text[: m.start()]):  # its first capital may be the sentence's
            rest = words.split(" ", 1)[1:]
            words = rest[0] if rest else ""
        if " " in words or "-" in words:
            names.append(words)
    return {"ngày": _once(dates), "số": _once(numbers), "tên": _once(names)}


def _once(items: list[str]) -> list[str]:
    return list(dict.fromkeys(items))


def extract_json(rng: Random, text: str) -> Example | None:
    """None where there are fewer than two facts; one text in twenty may have none at all."""
    facts = extract(text)
    count = sum(map(len, facts.values()))
    if (count < 2 and rng.random() < 0.9) or count > 14:
        return None
    return Example(ask(rng, PHRASINGS, text), json.dumps(facts, ensure_ascii=False))
