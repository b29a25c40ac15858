"""Log probabilities in the two formats of OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from binhdan.runtime.prompting.tokenizer import Tokenizer
from binhdan.runtime.results import TokenLogprob


def chat_logprobs(tokenizer: Tokenizer, tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    """The format of /v1/chat/completions. `bytes` is exact when a token is only part of a character."""
    return {
        "content": [
            _token(tokenizer, token) | {"top_logprobs": [_token(tokenizer, other) for other in token.top]}
            for token in tokens
        ],
        "refusal": None,
    }


def echoed_logprobs(
    tokenizer: Tokenizer, tokens: Sequence[int], logprobs: Sequence[float | None]
) -> dict[str, Any]:
    """The format of /v1/completions for the tokens of a prompt. `top_logprobs` has only the token itself: the
    engine computes no others for prompts."""
    texts = [tokenizer.token_text(token) for token in tokens]
    offsets, offset = [], 0
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": list(logprobs),
        "top_logprobs": [
            None if value is None else {text: value} for text, value in zip(texts, logprobs, strict=True)
        ],
        "text_offset": offsets,
    }


def joined_logprobs(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The two in one object."""
    return {name: [*values, *second[name]] for name, values in first.items()}


def completion_logprobs(tokens: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    """The format of /v1/completions. `offset`: characters of the text before the first token."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{other.text: other.logprob for other in token.top} for token in tokens],
        "text_offset": offsets,
    }


def _token(tokenizer: Tokenizer, token: TokenLogprob) -> dict[str, Any]:
    return {
        "token": token.text,
        "logprob": token.logprob,
        "bytes": list(tokenizer.decode((token.token,), special=True)),
    }
