"""Parts of tokenizer.json, checked. All functions raise CheckpointError."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.vocabulary import TokenKind

Part = dict[str, Any]


def object_of(parent: Part, key: str) -> Part:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise CheckpointError(f"tokenizer.json: {key}: expected an object, got {type(value).__name__}")
    return value


def parts_of(spec: Part, key: str, list_key: str) -> list[Part]:
    """Returns the steps of a pipeline: none, one, or those of a Sequence, in any depth."""
    if spec.get(key) is None:
        return []
    out: list[Part] = []
    queue = [object_of(spec, key)]
    while queue:
        part = queue.pop(0)
        if not isinstance(part.get("type"), str):
            raise CheckpointError(
                f"tokenizer.json: {key}: type: expected a string, got {str(part.get('type'))[:80]!r}"
            )
        if part["type"] != "Sequence":
            out.append(part)
            continue
        steps = part.get(list_key)
        if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
            raise CheckpointError(
                f"tokenizer.json: {key}.{list_key}: expected a list of objects, got {str(steps)[:80]!r}"
            )
        queue = [*steps, *queue]
    return out


def normalizers(spec: Part) -> list[Part]:
    return parts_of(spec, "normalizer", "normalizers")


def pre_tokenizers(spec: Part) -> list[Part]:
    return parts_of(spec, "pre_tokenizer", "pretokenizers")


def decoders(spec: Part) -> list[Part]:
    return parts_of(spec, "decoder", "decoders")


def added_tokens(spec: Part) -> list[Part]:
    added = spec.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(entry, dict) for entry in added):
        raise CheckpointError(
            f"tokenizer.json: added_tokens: expected a list of objects, got {str(added)[:80]!r}"
        )
    return added


def tokens_of(
    spec: Part, vocabulary: Iterable[tuple[Any, Any]], size: int
) -> tuple[list[str], list[TokenKind]]:
    """Returns the text and the kind of every id; unassigned ids become unused padding tokens.

    ``vocabulary``: the (text, id) pairs of the model.
    """
    slots: list[str | None] = [None] * size
    kinds = [TokenKind.NORMAL] * size

    def assign(text: Any, token: Any, where: str) -> int:
        if not isinstance(text, str) or type(token) is not int or not 0 <= token < size:
            raise CheckpointError(
                f"tokenizer.json: {where} {text!r}: expected an id below {size:,}, got {token!r}"
            )
        if slots[token] not in (None, text):
            raise CheckpointError(f"tokenizer.json: {slots[token]!r} and {text!r} have the same id {token}")
        slots[token] = text
        return token

    for text, token in vocabulary:
        assign(text, token, "vocab:")
    for entry in added_tokens(spec):
        token = assign(entry.get("content"), entry.get("id"), "added token")
        kinds[token] = TokenKind.CONTROL if entry.get("special") is True else TokenKind.USER_DEFINED
    for token, slot in enumerate(slots):
        if slot is None:
            slots[token], kinds[token] = f"[PAD{token}]", TokenKind.UNUSED
    tokens = [text for text in slots if text is not None]
    check_unique(tokens)
    return tokens, kinds


def check_unique(tokens: list[str]) -> None:
    if len(set(tokens)) != len(tokens):
        counts = Counter(tokens)
        text = max(counts, key=counts.__getitem__)
        raise CheckpointError(f"tokenizer.json: token {text!r} has two ids")


def mark_byte_tokens(tokens: list[str], kinds: list[TokenKind]) -> None:
    """Sets the kind of the 256 byte tokens. Raises CheckpointError if one is missing."""
    index = {text: token for token, text in enumerate(tokens)}
    for byte in range(256):
        token = index.get(f"<0x{byte:02X}>")
        if token is None:
            raise CheckpointError(f"tokenizer.json: byte_fallback requires the token <0x{byte:02X}>")
        kinds[token] = TokenKind.BYTE


def names(tokens: list[str], limit: int = 5) -> str:
    """Returns the tokens for a message: the first ones, and how many more there are."""
    more = f" and {len(tokens) - limit} more" if len(tokens) > limit else ""
    return ", ".join(tokens[:limit]) + more
