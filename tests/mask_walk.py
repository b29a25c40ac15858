"""Masks, and answers without a model: at each step any token that a mask allows, as wild as can be."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache

import binhdan
from binhdan.runtime.structured.constraints import Constraint


@lru_cache(maxsize=2)
def end_tokens(model: binhdan.Model) -> set[int]:
    return {token for token, role in enumerate(model.token_roles()) if role == 1}


def allowed(bits: bytes) -> list[int]:
    """The tokens of a mask."""
    return [8 * i + j for i, byte in enumerate(bits) if byte for j in range(8) if byte >> j & 1]


def walk(model: binhdan.Model, constraint: Constraint, seed: int, most: int = 400) -> tuple[bytes, bool]:
    """The bytes of an answer, and whether the constraint ended it. It is ended wherever it may be."""
    choose = random.Random(seed).choice
    mask, tokens = constraint.mask(), list[int]()
    bits = mask(tokens)
    while len(tokens) < most:
        choices = allowed(bits)
        if not choices or not end_tokens(model).isdisjoint(choices):
            return model.detokenize_bytes(tokens), True
        tokens.append(choose(choices))
        bits = mask(tokens)
    return model.detokenize_bytes(tokens), False


def every_token(model: binhdan.Model) -> Callable[[Sequence[int]], bytes]:
    """A mask that allows all: the engine waits for it at each token, and so never ends before its reader."""
    words = b"\xff" * ((model.info.vocabulary + 31) // 32 * 4)
    return lambda tokens: words
