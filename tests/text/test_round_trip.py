"""detokenize(tokenize(x)) == x, for any text and any bytes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

import binhdan

# Pieces that pre-tokenizers and special tokens treat specially; mixed with arbitrary text.
_PIECES = [
    *(
        "'s",
        "'LL",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "1",
        "½",
        "Việt",
        "e\u0302\u0323",
        "🦙",
        "\u00a0",
        "\u200d",
    ),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "<0x41>"),
]
_TEXTS = st.lists(st.sampled_from(_PIECES) | st.text(max_size=8), max_size=12).map("".join)


def control_tokens(model: binhdan.Model, tokens: list[int]) -> list[int]:
    """The tokens that detokenize to text only with special=True."""
    return [token for token in tokens if not model.detokenize_bytes([token])]


@settings(deadline=None)
@given(text=_TEXTS)
def test_text(model: binhdan.Model, text: str) -> None:
    tokens = model.tokenize(text)
    assert model.detokenize(tokens) == text
    assert control_tokens(model, tokens) == []


@settings(deadline=None)
@given(data=st.binary(max_size=64))
def test_bytes(model: binhdan.Model, data: bytes) -> None:
    assert model.detokenize_bytes(model.tokenize(data)) == data


@settings(deadline=None)
@given(text=_TEXTS)
def test_tiny_vocabularies(tiny_model: binhdan.Model, text: str) -> None:
    text = text.replace("\u2581", "_")  # SentencePiece writes a space as U+2581
    assert tiny_model.detokenize(tiny_model.tokenize(text)) == text


@settings(deadline=None)
@given(text=_TEXTS)
def test_control_tokens_parsed_on_demand(model: binhdan.Model, text: str) -> None:
    tokens = model.tokenize(text, parse_special=True)
    assert model.detokenize(tokens, special=True) == text
    assert len(control_tokens(model, tokens)) == sum(
        text.count(marker) for marker in ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    )


@settings(deadline=None)
@given(content=_TEXTS)
def test_content_never_becomes_control(model: binhdan.Model, content: str) -> None:
    """A conversation has the control tokens of its turns, and no others for any content."""
    tokens = model.chat_tokens([{"role": "user", "content": content}])
    assert len(control_tokens(model, tokens)) == 3  # <|im_start|>user … <|im_end|>, <|im_start|>assistant
