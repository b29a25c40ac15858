"""Whether the predictions of two models can be compared token by token."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from binhdan.quantize.gguf_source import read_part
from binhdan.runtime.errors import InvalidArgumentError

_TOKENS: Final = "tokenizer.ggml.tokens"


def match_vocabularies(file: Path, reference: Path) -> npt.NDArray[np.int32] | None:
    """The reference's number of each token of ``file``; None if both have the same tokens.

    The tokens of ``file`` may be a part of the reference's (a pruned vocabulary). Raises InvalidArgumentError
    if they are not.
    """
    ours, theirs = _tokens(file), _tokens(reference)
    if ours == theirs:
        return None
    numbers = {token: number for number, token in reversed(list(enumerate(theirs)))}
    missing = [token for token in ours if token not in numbers]
    if missing:
        raise InvalidArgumentError(
            f"{file} and {reference} have different vocabularies ({len(ours):,} and {len(theirs):,} tokens;"
            f" {len(missing):,} of the first are not in the second, such as {missing[0]!r}), so their"
            " predictions cannot be compared token by token; compare their bits per byte"
        )
    return np.array([numbers[token] for token in ours], np.int32)


def _tokens(file: Path) -> list[str]:
    keys, _ = read_part(file)
    value = keys[_TOKENS].value if _TOKENS in keys else []
    if not isinstance(value, list) or not value:
        raise InvalidArgumentError(f"{file}: expected a model with the key {_TOKENS}")
    return [str(token) for token in value]
