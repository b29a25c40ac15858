"""Prompts in requests: texts, tokens, mixtures of both, or several of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from binhdan.runtime.prompting.tokenizer import Prompt, Tokenizer
from binhdan.runtime.server.api.common import MAX_TEXTS

MAX_TOKENS = 1_000_000  # in one array of token ids

TokenIds = Annotated[list[int], Field(min_length=1, max_length=MAX_TOKENS)]
# llama.cpp's: tokens, and texts that become tokens.
MixedTokens = Annotated[list[int | str], Field(min_length=1, max_length=MAX_TOKENS)]
# One prompt: a text, or tokens that are used as they are, or both.
OnePrompt = str | Sequence[int | str]


def _plain(value: Any) -> Any:
    """A prompt, or a list of prompts, without the objects of llama.cpp: {"prompt_string": text}, and
    {"content": parts}."""
    if isinstance(value, list):
        return [_text_of(one) if isinstance(one, dict) else one for one in value]
    return _text_of(value) if isinstance(value, dict) else value


def _text_of(value: dict[str, Any]) -> Any:
    if value.get("multimodal_data"):
        raise ValueError("images are not supported by this model; send text only")
    parts = value.get("content")
    if not isinstance(parts, list):
        return value.get("prompt_string", value)
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    if any(not isinstance(text, str) for text in texts):
        raise ValueError("content: expected parts of type text; images and sounds are not supported")
    return "".join(text for text in texts if isinstance(text, str))


# One prompt or several.
TextOrTokens = Annotated[
    str
    | TokenIds
    | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_TEXTS)]
    | MixedTokens
    | Annotated[list[str | MixedTokens], Field(min_length=1, max_length=MAX_TEXTS)],
    BeforeValidator(_plain),
]


def texts_of(value: str | Sequence[Any]) -> list[OnePrompt]:
    """The prompts of a field. A list with a number is one prompt, a list of texts and lists is several."""
    if isinstance(value, str) or any(isinstance(one, int) for one in value):
        return [value]
    return list(value)


def to_prompt(tokenizer: Tokenizer, text: OnePrompt) -> Prompt:
    """The tokens of one prompt. In a mixture the first text gets the tokens that the model adds to texts."""
    if isinstance(text, str):
        return tokenizer.text_prompt(text)
    tokens: list[int] = []
    for i, part in enumerate(text):
        if isinstance(part, int):
            tokens.append(part)
        else:
            tokens += tokenizer.text_prompt(part, add_special=i == 0).tokens
    return Prompt(tokens)
