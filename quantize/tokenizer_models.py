"""The models of tokenizer.json → the model, tokens and options of GGUF's vocabularies."""

from __future__ import annotations

import base64
import binascii
import math
from collections import Counter
from typing import Any, Final

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.pretokenizers import pre_tokenizer_name
from binhdan.quantize.tokenizer_json import (
    Part,
    check_unique,
    decoders,
    mark_byte_tokens,
    normalizers,
    object_of,
    pre_tokenizers,
    tokens_of,
)
from binhdan.quantize.vocabulary import TokenKind, Vocabulary

_SPACE: Final = "▁"  # SentencePiece's space
_BERT_WORD_CHARACTERS: Final = 100


def read_model(spec: Part, size: int, family: str) -> Vocabulary:
    """Returns the vocabulary without special ids. Raises CheckpointError.

    ``family``: `model_type` of config.json. Gemma 4 has a model of its own in GGUF.
    """
    model = object_of(spec, "model")
    kind = model.get("type", "BPE")
    byte_level = any(part.get("type") == "ByteLevel" for part in pre_tokenizers(spec))
    if kind == "Unigram":
        return _unigram(spec, model, size)
    if kind == "WordPiece":
        return _wordpiece(spec, model, size)
    if kind != "BPE":
        raise CheckpointError(
            f"tokenizer.json: model {kind!r} is not supported; expected BPE, Unigram or WordPiece"
        )
    if byte_level:
        return _byte_bpe(spec, model, size)
    if model.get("byte_fallback") is True:
        return _sentencepiece_bpe(spec, model, size, family)
    raise CheckpointError(
        "tokenizer.json: expected a byte-level BPE or a BPE with byte_fallback, "
        f"got pre_tokenizer {str(spec.get('pre_tokenizer'))[:80]} "
        f"and byte_fallback {str(model.get('byte_fallback'))[:80]}"
    )


# ---- BPE ---------------------------------------------------------------------------------------------------


def _byte_bpe(spec: Part, model: Part, size: int) -> Vocabulary:
    tokens, kinds = tokens_of(spec, object_of(model, "vocab").items(), size)
    notes: list[str] = []
    pre = pre_tokenizer_name(spec, model.get("ignore_merges") is True, notes)
    for part in normalizers(spec):
        if part.get("type") != "NFC":  # GGUF has no key for a normalizer; our callers normalize to NFC
            raise CheckpointError(
                f"tokenizer.json: normalizer {part.get('type')!r} is not supported; expected NFC"
            )
        notes.append("normalize text to NFC before tokenization, as binhdan ask, chat and serve do")
    notes += _unknown_decoders(spec, {"ByteLevel"})
    return Vocabulary("gpt2", pre, tokens, kinds, merges=_join(_merges(model)), notes=notes)


def _sentencepiece_bpe(spec: Part, model: Part, size: int, family: str) -> Vocabulary:
    tokens, kinds = tokens_of(spec, object_of(model, "vocab").items(), size)
    mark_byte_tokens(tokens, kinds)
    pairs = _merges(model)
    prefix, notes = _space_prefix(spec)
    notes += _unknown_decoders(spec, {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"})
    if family.startswith("gemma4"):
        if prefix:
            raise CheckpointError("tokenizer.json: expected no space prefix in a tokenizer of Gemma 4")
        return Vocabulary("gemma4", "gemma4", tokens, kinds, merges=_join(pairs), notes=notes)
    if not _has_all_merges(model, pairs):
        notes.append(
            "some tokens lack merges that SentencePiece would do; rare words may be split differently"
        )
    scores = _scores(tokens, kinds, pairs)
    return Vocabulary("llama", "default", tokens, kinds, scores=scores, add_space_prefix=prefix, notes=notes)


def _merges(bpe: Part) -> list[tuple[str, str]]:
    merges = bpe.get("merges")
    if not isinstance(merges, list):
        raise CheckpointError(f"tokenizer.json: model.merges: expected a list, got {type(merges).__name__}")
    vocab = object_of(bpe, "vocab")
    pairs = []
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
            raise CheckpointError(
                f"tokenizer.json: merge {rank}: expected two tokens, got {str(merge)[:80]!r}"
            )
        left, right = parts
        if " " in left + right:
            raise CheckpointError(
                f"tokenizer.json: merge {rank}: expected tokens without a space, got {left!r} and {right!r}: "
                "GGUF separates the two tokens of a merge by a space"
            )
        if missing := [text for text in (left, right, left + right) if text not in vocab]:
            raise CheckpointError(
                f"tokenizer.json: merge {rank}, {left!r} + {right!r}: {missing[0]!r} is not in the vocabulary"
            )
        pairs.append((left, right))
    return pairs


def _join(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{left} {right}" for left, right in pairs]


def _has_all_merges(bpe: Part, pairs: list[tuple[str, str]]) -> bool:
    """Returns whether each token that merges produce has a merge for each way to cut it into two tokens.

    SentencePiece merges any two tokens whose join is a token; tokenizer.json, the listed ones only.
    """
    vocab = object_of(bpe, "vocab")
    counts = Counter(left + right for left, right in set(pairs))
    return all(
        count == sum(text[:i] in vocab and text[i:] in vocab for i in range(1, len(text)))
        for text, count in counts.items()
    )


def _scores(tokens: list[str], kinds: list[TokenKind], pairs: list[tuple[str, str]]) -> list[float]:
    """Returns a score per token that orders merges as SentencePiece's scores do.

    SentencePiece merges the pair whose result has the highest score, leftmost first. tokenizer.json lists the
    merges by descending score, so a token's score is minus the rank of the first merge that produces it.
    """
    rank: dict[str, int] = {}
    for left, right in pairs:
        rank.setdefault(left + right, len(rank))
    worst = float(-len(rank) - 1)
    return [
        float(-rank[text]) if text in rank else worst if kind is TokenKind.NORMAL else 0.0
        for text, kind in zip(tokens, kinds, strict=True)
    ]


# ---- spaces ------------------------------------------------------------------------------------------------


def _space_prefix(spec: Part) -> tuple[bool, list[str]]:
    """Returns whether the tokenizer prepends a space, and notes. Raises CheckpointError for other steps."""
    prefix = False
    notes: list[str] = []
    for part in normalizers(spec) + pre_tokenizers(spec):
        match part:
            case {"type": "Prepend", "prepend": "▁"}:
                prefix = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                pass
            case {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious"}:
                pass  # Gemma: cuts nothing, as no space is left
            case {"type": "Metaspace"} if part.get("replacement", _SPACE) == _SPACE:
                prefix = _metaspace_prefix(part, notes) or prefix
            case _:
                raise CheckpointError(
                    f"tokenizer.json: step {str(part)[:120]} is not supported for a BPE with byte_fallback"
                )
    return prefix, notes


def _metaspace_prefix(part: Part, notes: list[str]) -> bool:
    scheme = part.get("prepend_scheme", "always" if part.get("add_prefix_space", True) else "never")
    if scheme == "first":
        notes.append(
            "a space is prepended after special tokens too; the checkpoint does so at the start only"
        )
    return scheme in ("first", "always")


def _unknown_decoders(spec: Part, known: set[str]) -> list[str]:
    others = [str(part.get("type")) for part in decoders(spec) if part.get("type") not in known]
    return (
        [f"decoder {', '.join(others)}: GGUF has no key for it; text is decoded without it"] if others else []
    )


# ---- Unigram -----------------------------------------------------------------------------------------------


def _unigram(spec: Part, model: Part, size: int) -> Vocabulary:
    pieces = model.get("vocab")
    if not isinstance(pieces, list) or not all(_is_piece(piece) for piece in pieces):
        raise CheckpointError(
            "tokenizer.json: model.vocab: expected a list of pairs of a token and its score"
        )
    tokens, kinds = tokens_of(spec, ((piece[0], token) for token, piece in enumerate(pieces)), size)
    scores = [float(piece[1]) for piece in pieces] + [0.0] * (size - len(pieces))
    unknown = model.get("unk_id")
    if type(unknown) is not int or not 0 <= unknown < size:
        raise CheckpointError(f"tokenizer.json: model.unk_id: expected an id below {size:,}, got {unknown!r}")
    kinds[unknown] = TokenKind.UNKNOWN
    if model.get("byte_fallback") is True:
        mark_byte_tokens(tokens, kinds)
    vocabulary = Vocabulary("t5", "default", tokens, kinds, scores=scores, special_ids={"unk": unknown})
    vocabulary.notes += _unknown_decoders(spec, {"Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"})
    for part in normalizers(spec) + pre_tokenizers(spec):
        _read_unigram_step(part, vocabulary)
    return vocabulary


def _is_piece(piece: Any) -> bool:
    return (
        isinstance(piece, list)
        and len(piece) == 2
        and isinstance(piece[0], str)
        and isinstance(piece[1], (int, float))
        and math.isfinite(piece[1])
    )


def _read_unigram_step(part: Part, vocabulary: Vocabulary) -> None:
    match part:
        case {"type": "Precompiled", "precompiled_charsmap": str(charsmap)} if not vocabulary.charsmap:
            try:
                vocabulary.charsmap = base64.b64decode(charsmap, validate=True)
            except binascii.Error as error:
                raise CheckpointError(
                    f"tokenizer.json: precompiled_charsmap: expected base64: {error}"
                ) from None
        case {"type": "Precompiled", "precompiled_charsmap": None}:
            pass
        case {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " " | "▁"}:
            vocabulary.remove_extra_whitespaces = True
        case {"type": "WhitespaceSplit"}:
            vocabulary.remove_extra_whitespaces = True
        case {"type": "Strip", "strip_right": True}:
            pass  # a part of remove_extra_whitespaces
        case {"type": "Metaspace"} if part.get("replacement", _SPACE) == _SPACE:
            vocabulary.add_space_prefix = _metaspace_prefix(part, vocabulary.notes)
        case _:
            raise CheckpointError(
                f"tokenizer.json: step {str(part)[:120]} is not supported for a Unigram model"
            )


# ---- WordPiece ---------------------------------------------------------------------------------------------


def _wordpiece(spec: Part, model: Part, size: int) -> Vocabulary:
    prefix = model.get("continuing_subword_prefix", "##")
    tokens, kinds = tokens_of(spec, object_of(model, "vocab").items(), size)
    unknown = model.get("unk_token")
    if unknown not in tokens:
        raise CheckpointError(f"tokenizer.json: model.unk_token: expected a token, got {unknown!r}")
    unknown_id = tokens.index(unknown)
    kinds[unknown_id] = TokenKind.UNKNOWN

    def marked(text: str, kind: TokenKind) -> str:
        """The spelling in GGUF, which marks the tokens that start a word."""
        if kind is not TokenKind.NORMAL:
            return text
        return text.removeprefix(prefix) if text.startswith(prefix) and text != prefix else _SPACE + text

    tokens = [marked(text, kind) for text, kind in zip(tokens, kinds, strict=True)]
    check_unique(tokens)
    notes = _unknown_decoders(spec, {"WordPiece"})
    limit = model.get("max_input_chars_per_word", _BERT_WORD_CHARACTERS)
    if limit != _BERT_WORD_CHARACTERS:
        notes.append(
            f"words of more than {_BERT_WORD_CHARACTERS} characters are unknown; the checkpoint has {limit}"
        )
    lowercase, strip_accents = _bert_normalizer(spec)
    return Vocabulary(
        "bert",
        "default",
        tokens,
        kinds,
        special_ids={"unk": unknown_id},
        lowercase=lowercase,
        strip_accents=strip_accents,
        notes=notes,
    )


def _bert_normalizer(spec: Part) -> tuple[bool, bool]:
    """Returns (lowercase, strip_accents)."""
    match normalizers(spec), pre_tokenizers(spec):
        case [{"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True} as bert], [
            {"type": "BertPreTokenizer"}
        ]:
            lowercase = bert.get("lowercase") is True
            strip_accents = bert.get("strip_accents")
            return lowercase, lowercase if strip_accents is None else strip_accents is True
        case steps:
            raise CheckpointError(
                "tokenizer.json: expected BertNormalizer with clean_text and handle_chinese_chars, and "
                f"BertPreTokenizer, for a WordPiece model; got {str(steps)[:300]}"
            )
