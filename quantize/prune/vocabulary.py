"""A view of the tokenizer.ggml.* keys of a GGUF file, and the tokens that pruning never drops."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from binhdan.quantize.vocabulary import TokenKind
from binhdan.runtime.errors import BadFormatError

TOKENS: Final = "tokenizer.ggml.tokens"
KINDS: Final = "tokenizer.ggml.token_type"
SCORES: Final = "tokenizer.ggml.scores"
MERGES: Final = "tokenizer.ggml.merges"
MODEL: Final = "tokenizer.ggml.model"

MODELS: Final = ("gpt2", "gemma4", "whitespace", "llama", "t5", "bert")

# Ids that readers assume if the key is missing (llama.cpp's and ours). Pruning moves the tokens, so it writes
# the keys.
DEFAULT_IDS: Final[dict[str, dict[str, int]]] = {
    "llama": {"unknown": 0, "bos": 1, "eos": 2},
    "t5": {"unknown": 2, "eos": 1, "padding": 0},
    "bert": {"unknown": 100, "bos": 101, "seperator": 102, "padding": 0, "mask": 103},
}
_BERT_NAMES: Final = {
    "unknown": "[UNK]",
    "bos": "[CLS]",
    "seperator": "[SEP]",
    "padding": "[PAD]",
    "mask": "[MASK]",
}

# GPT-2's alphabet of bytes: printable Latin-1 maps to itself, the other bytes to U+0100 and up, in order.
_PRINTABLE: Final = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
BYTE_LETTERS: Final = [*map(chr, _PRINTABLE), *(chr(0x100 + i) for i in range(256 - len(_PRINTABLE)))]
BYTE_NAMES: Final = [f"<0x{byte:02X}>" for byte in range(256)]

# Runtimes recognise markers such as <end_of_turn> by their text, whatever their type.
_MARKER: Final = re.compile(r"<[^<>\s]{1,60}>|\[[A-Z_]{2,20}\]")
# Rows without a meaning, which models reserve. They are dropped unless a chat template or a text of the
# caller names them.
_FILLER: Final = re.compile(r"<unused\d+>|\[unused\d+\]|\[PAD\d+\]")
_KEPT_KINDS: Final = (TokenKind.UNKNOWN, TokenKind.CONTROL, TokenKind.USER_DEFINED, TokenKind.BYTE)
_SPACE: Final = "▁"


class PruneError(BadFormatError):
    """A vocabulary that cannot be pruned."""


@dataclass(frozen=True)
class VocabularyView:
    """``index``: text → token; of equal texts the last token, as in the readers."""

    model: str
    tokens: list[str]
    kinds: list[int]
    scores: list[float]
    merges: list[tuple[str, str]]
    ids: dict[str, int]  # "bos" → tokenizer.ggml.bos_token_id, defaults included
    index: dict[str, int] = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.tokens)

    def is_text(self, token: int) -> bool:
        """Whether merging may produce the token."""
        return self.kinds[token] in (TokenKind.NORMAL, TokenKind.USER_DEFINED, 0)


def view_of(keys: Mapping[str, Any]) -> VocabularyView:
    """Raises PruneError that names the key."""
    model = str(keys.get(MODEL, ""))
    if model not in MODELS:
        raise PruneError(f"{MODEL}: expected one of {', '.join(MODELS)}, got {model!r}")
    tokens = list(_need(keys, TOKENS))
    if not tokens:
        raise PruneError(f"{TOKENS}: expected at least one token")
    kinds = [int(kind) for kind in keys.get(KINDS, [TokenKind.NORMAL] * len(tokens))]
    scored = model in ("llama", "t5")
    scores = [float(score) for score in (_need(keys, SCORES) if scored else [])]
    for key, count in ((KINDS, len(kinds)), *([(SCORES, len(scores))] if scored else [])):
        if count != len(tokens):
            raise PruneError(f"{key}: expected {len(tokens)} entries, one per token, got {count}")
    ranked = model in ("gpt2", "gemma4", "whitespace")
    merges = [split_merge(merge, rank) for rank, merge in enumerate(_need(keys, MERGES) if ranked else [])]
    index = {text: token for token, text in enumerate(tokens) if text}
    return VocabularyView(
        model, tokens, kinds, scores, merges, _special_ids(keys, model, index, kinds), index
    )


def _need(keys: Mapping[str, Any], key: str) -> Any:
    if key not in keys:
        raise PruneError(f"{key}: the key is missing; without it the vocabulary cannot be pruned")
    return keys[key]


def split_merge(merge: str, rank: int) -> tuple[str, str]:
    """The two parts of an entry of tokenizer.ggml.merges; the first may start with a space."""
    space = merge.find(" ", 1)
    if space < 0:
        raise PruneError(f"{MERGES}: entry {rank}: expected two tokens with a space between, got {merge!r}")
    return merge[:space], merge[space + 1 :]


_ID_KEY: Final = re.compile(r"tokenizer\.ggml\.(\w+)_token_id")


def _special_ids(
    keys: Mapping[str, Any], model: str, index: Mapping[str, int], kinds: list[int]
) -> dict[str, int]:
    ids = dict(DEFAULT_IDS.get(model, {}))
    if model == "bert":
        ids |= {role: index[name] for role, name in _BERT_NAMES.items() if name in index}
        if "tokenizer.ggml.cls_token_id" in keys:
            ids["bos"] = int(keys["tokenizer.ggml.cls_token_id"])
    if model == "t5" and TokenKind.UNKNOWN in kinds:
        ids["unknown"] = kinds.index(TokenKind.UNKNOWN)
    for key, value in keys.items():
        if match := _ID_KEY.fullmatch(key):
            ids[match[1]] = int(value)
    return {role: token for role, token in ids.items() if 0 <= token < len(kinds)}


# ---- tokens that are always kept ---------------------------------------------------------------------------


def has_byte_fallback(vocabulary: VocabularyView) -> bool:
    """Whether every text can be spelled with byte tokens."""
    alphabet = BYTE_LETTERS if vocabulary.model == "gpt2" else BYTE_NAMES
    return vocabulary.model != "bert" and all(letter in vocabulary.index for letter in alphabet)


def protected(vocabulary: VocabularyView) -> set[int]:
    """Tokens that are kept whatever the texts use: special, user-defined and byte tokens, and markers; not
    the fillers.

    Without byte tokens also all single characters, and the tokens with a character that is no token by
    itself. For Unigram also the token of the lowest score, from which the encoder computes the score of
    unknown characters, and for BPE the tokens of the first merge.
    """
    v = vocabulary
    kept = {token for token, kind in enumerate(v.kinds) if kind in _KEPT_KINDS}
    kept.difference_update(fillers(v))
    kept.update(v.ids.values())
    kept.update(v.index[text] for text in (*BYTE_LETTERS, *BYTE_NAMES) if text in v.index)
    kept.update(token for text, token in v.index.items() if _is_marker(text))
    if v.merges:  # a GGUF file cannot have an empty array, and readers need the merges
        left, right = v.merges[0]
        kept.update(v.index[text] for text in (left, right, left + right) if text in v.index)
    if not has_byte_fallback(v):
        kept.update(_spelling(v))
    if v.model == "t5":
        normal = [token for token, kind in enumerate(v.kinds) if kind == TokenKind.NORMAL]
        kept.update([min(normal, key=lambda token: v.scores[token])] if normal else [])
    return kept


def fillers(vocabulary: VocabularyView) -> set[int]:
    return {token for text, token in vocabulary.index.items() if _FILLER.fullmatch(text)}


def _is_marker(text: str) -> bool:
    return bool(_MARKER.fullmatch(text)) and not _FILLER.fullmatch(text)


def _spelling(vocabulary: VocabularyView) -> set[int]:
    """Single characters, and the tokens that they cannot spell. In WordPiece, ▁ marks the start of a word."""
    index = vocabulary.index
    bert = vocabulary.model == "bert"

    def spelled(text: str) -> bool:
        if bert and text.startswith(_SPACE) and len(text) > 1:
            return text[:2] in index and all(c in index for c in text[2:])
        return all(c in index for c in text)

    def single(text: str) -> bool:
        return len(text) == 1 or (bert and len(text) == 2 and text[0] == _SPACE)

    return {token for text, token in index.items() if single(text) or not spelled(text)}
