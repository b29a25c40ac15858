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
    tokenizer: Tokenizer, tokens: Sequence[int], logprobs: Sequence[TokenLogprob | None], top: int
) -> dict[str, Any]:
    """The format of /v1/completions for the tokens of a prompt. `top_logprobs` has the `top` most likely
    ones, and the token itself."""
    texts = [tokenizer.token_text(token) for token in tokens]
    offsets, offset = [], 0
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [None if value is None else value.logprob for value in logprobs],
        "top_logprobs": [
            None if value is None else {one.text: one.logprob for one in (value, *value.top[:top])}
            for value in logprobs
        ],
        "text_offset": offsets,
    }


def vllm_prompt_logprobs(logprobs: Sequence[TokenLogprob | None], top: int) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each token of the prompt an object by token ids, in which the token
    itself comes first, then the `top` most likely ones. `rank` is null for a token that is none of these."""
    return [None if value is None else _ranked(value, top) for value in logprobs]


def _ranked(value: TokenLogprob, top: int) -> dict[str, Any]:
    ranks = {one.token: rank for rank, one in enumerate(value.top, 1)}
    return {
        str(one.token): {
            "logprob": one.logprob,
            "rank": ranks.get(one.token),
            "decoded_token": one.text,
        }
        for one in (value, *value.top[:top])
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
