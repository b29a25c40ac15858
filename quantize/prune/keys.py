"""The keys of a GGUF file for a vocabulary of fewer tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from binhdan.quantize.prune.vocabulary import (
    KINDS,
    MERGES,
    SCORES,
    TOKENS,
    PruneError,
    VocabularyView,
)

PRUNED: Final = "binhdan.pruned_vocabulary"  # the lists and texts whose tokens are kept
ROWS_BEFORE: Final = "binhdan.pruned_vocabulary.rows_before"

# Values that are a token, and values that are an array of tokens.
_TOKEN: Final = re.compile(r"tokenizer\.ggml\.\w+_token_id|\w+\.decoder_start_token_id")
_TOKEN_SET: Final = re.compile(
    r"tokenizer\.ggml\.(\w+_token_ids|suppress_tokens)|binhdan\.tokenizer\.strip_(left|right)"
)
_SIZE: Final = re.compile(r"\w+\.vocab_size")
# Copies of a tokenizer in other formats, with the old ids. No reader of GGUF needs them.
_OTHER_FORMATS: Final = ("tokenizer.huggingface.json", "tokenizer.rwkv.world")

# Tensors with a row for each token.
_TENSORS: Final = re.compile(
    r"(token_embd|per_layer_token_embd|output)\.weight|output\.bias|blk\.\d+\.nextn\.(embed_tokens|shared_head_head)\.weight"
)


def prune_keys(
    keys: Mapping[str, Any], vocabulary: VocabularyView, kept: Sequence[int], label: str
) -> tuple[dict[str, Any], list[str]]:
    """Returns all keys of the file for the tokens ``kept`` (ascending), and remarks for the user.

    A merge is kept if its parts and its result are. Ids that readers assume without a key become keys, as the
    tokens have other ids now.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    notes: list[str] = []
    pruned: dict[str, Any] = {}
    for key, value in keys.items():
        if key == MERGES:
            pruned[key] = _prune_merges(value, vocabulary, new_ids)
        elif key in _OTHER_FORMATS:
            notes.append(f"{key} is dropped, because it has the tokens before pruning")
        elif _SIZE.fullmatch(key):
            pruned[key] = len(kept)
        elif _TOKEN.fullmatch(key):
            if int(value) in new_ids:
                pruned[key] = new_ids[int(value)]
            else:
                notes.append(f"{key} is dropped: the vocabulary has no token {value}")
        elif _TOKEN_SET.fullmatch(key):
            if tokens := [new_ids[int(token)] for token in value if int(token) in new_ids]:
                pruned[key] = tokens
        elif key in (TOKENS, KINDS, SCORES):
            pruned[key] = [value[token] for token in kept]
        else:
            pruned[key] = value
    for role, token in vocabulary.ids.items():
        pruned.setdefault(f"tokenizer.ggml.{role}_token_id", new_ids[token])
    pruned[PRUNED] = label
    pruned[ROWS_BEFORE] = vocabulary.size
    return pruned, notes


def _prune_merges(merges: list[str], vocabulary: VocabularyView, kept: Mapping[int, int]) -> list[str]:
    def is_kept(text: str) -> bool:
        return vocabulary.index.get(text, -1) in kept

    return [
        merge
        for merge, (left, right) in zip(merges, vocabulary.merges, strict=True)
        if is_kept(left) and is_kept(right) and is_kept(left + right)
    ]


def has_token_rows(tensor: str, rows: int, vocabulary: VocabularyView) -> bool:
    """Whether a tensor has a row for each token. Raises PruneError if it should, but has another number of
    rows."""
    if not _TENSORS.fullmatch(tensor):
        return False
    if rows != vocabulary.size:
        raise PruneError(
            f"tensor {tensor}: expected {vocabulary.size} rows, as {TOKENS} has entries, got {rows}; "
            "such a vocabulary cannot be pruned"
        )
    return True
