"""Helpers for token masks, and random answers that satisfy a constraint."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache

import binhdan
from binhdan.runtime.structured.constraints import Constraint


@lru_cache(maxsize=2)
def end_tokens(model: binhdan.Model) -> set[int]:
    """Returns the ids of the tokens that end an answer."""
    return {token for token, role in enumerate(model.token_roles()) if role == 1}


def allowed(bits: bytes) -> list[int]:
    """Returns the token ids that a mask allows."""
    return [8 * i + j for i, byte in enumerate(bits) if byte for j in range(8) if byte >> j & 1]


def sample(
    model: binhdan.Model, constraint: Constraint, seed: int, max_tokens: int = 400
) -> tuple[bytes, bool]:
    """Samples allowed tokens uniformly, without a model's probabilities, and stops as soon as it may.

    Returns the bytes of the answer, and whether the constraint ended it before `max_tokens`.
    """
    choose = random.Random(seed).choice
    mask, tokens = constraint.mask(), list[int]()
    bits = mask(tokens)
    while len(tokens) < max_tokens:
        choices = allowed(bits)
        if not choices or not end_tokens(model).isdisjoint(choices):
            return model.detokenize_bytes(tokens), True
        tokens.append(choose(choices))
        bits = mask(tokens)
    return model.detokenize_bytes(tokens), False


def every_token(model: binhdan.Model) -> Callable[[Sequence[int]], bytes]:
    """Returns a mask that allows every token; it makes the engine wait for the client at each token."""
    words = b"\xff" * ((model.info.vocabulary + 31) // 32 * 4)
    return lambda tokens: words
