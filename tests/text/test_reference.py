"""The embedded model's tokenizer, compared with the Hugging Face tokenizer of its checkpoint."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import pytest
import tokenizers

import binhdan

_HOSTILE = [
    *"'sStTmMdDlLrRvVeEſK \t\r\n\x0b\x1c\x85\u00a0\u2028\u3000\u200b0123٣½²Ⅷ!?.,<|>_",
    *"\u0301\u0323\ufe0f\u200d😶🦙đĐÐðơưệạấ漢字かな한국어កាន\ufffd\0\x7f",
    *("'re", "'LL", "<|im_start|>", "<|im_end|>"),
]


def random_texts(count: int) -> list[str]:
    rng = random.Random(1)
    # Without private and unassigned characters, in which versions of Unicode differ.
    known = [chr(c) for c in range(0x11000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    texts = []
    for _ in range(count):
        text = "".join(rng.choice(rng.choice((_HOSTILE, known))) for _ in range(rng.randint(1, 14)))
        texts.append(unicodedata.normalize("NFC", text))
    return texts


@pytest.fixture(scope="module")
def reference() -> tokenizers.Tokenizer:
    checkpoint = Path(__file__).parents[2] / "examples/train_tiny_vi/checkpoint"
    return tokenizers.Tokenizer.from_file(str(checkpoint / "tokenizer.json"))


def test_random_texts(model: binhdan.Model, reference: tokenizers.Tokenizer) -> None:
    for text in random_texts(5000):
        assert model.tokenize(text, parse_special=True) == reference.encode(text).ids


def test_articles(model: binhdan.Model, reference: tokenizers.Tokenizer, shared: Path) -> None:
    with (shared / "data" / "vi" / "valid.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            text = json.loads(line)["text"]
            assert model.tokenize(text, parse_special=True) == reference.encode(text).ids
