"""Converts tokenizer.json to GGUF's tokenizer.ggml.* keys.

Two kinds of BPE are supported: byte-level with GPT-2's alphabet (GGUF model "gpt2"), and SentencePiece style
with byte fallback, as in Llama 2 and Mistral (GGUF model "llama"). Others raise CheckpointError.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal

from binhdan.quantize.checkpoint import Checkpoint, CheckpointError

_SPACE: Final = "▁"  # SentencePiece's space

# GGUF names a pre-tokenizer; tokenizer.json contains its regular expression. To add one, add a row here and
# in csrc/text/.
_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS: Final = {
    rf"{_WORDS}|\p{{N}}|{_REST}": "qwen2",
    rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
}

# End tokens that runtimes recognize by their text. Others need a GGUF key.
_KNOWN_ENDS: Final = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "</s>",
}


class TokenKind(IntEnum):
    """Values of tokenizer.ggml.token_type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass
class Vocabulary:
    """The values of the tokenizer.* keys of a GGUF file."""

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: list[str]
    kinds: list[TokenKind]
    merges: list[str]  # gpt2
    scores: list[float]  # llama
    special_ids: dict[str, int]  # name in the key → id: {"bos": 1, "eos": 2, …}
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    chat_template: str
    notes: list[str] = field(default_factory=list)  # remarks for the user


def read_vocabulary(checkpoint: Checkpoint, size: int) -> Vocabulary:
    """Returns the vocabulary of a checkpoint, padded to ``size`` tokens. Raises CheckpointError."""
    spec = checkpoint.tokenizer
    bpe = _object(spec, "model")
    if bpe.get("type", "BPE") != "BPE":
        raise CheckpointError(f"tokenizer.json: model {bpe.get('type')!r} is not supported; expected 'BPE'")
    byte_level = any(
        part.get("type") == "ByteLevel" for part in _parts(spec, "pre_tokenizer", "pretokenizers")
    )
    if not byte_level and bpe.get("byte_fallback") is not True:
        raise CheckpointError(
            "tokenizer.json: expected a byte-level BPE or a BPE with byte_fallback, "
            f"got pre_tokenizer {str(spec.get('pre_tokenizer'))[:80]} "
            f"and byte_fallback {str(bpe.get('byte_fallback'))[:80]}"
        )
    notes: list[str] = []
    tokens, kinds = _tokens(spec, bpe, size)
    pairs = _merges(bpe)
    if byte_level:
        pre = _pre_tokenizer(spec)
        _check_normalizer(spec, notes)
        if (bpe.get("ignore_merges") is True) != (pre == "llama-bpe"):
            notes.append(f"ignore_merges differs from that of {pre!r}; rare words may be split differently")
    else:
        pre = "default"
        _mark_byte_tokens(tokens, kinds)
    special_ids = _special_ids(checkpoint, tokens)
    _add_other_ends(checkpoint, tokens, special_ids, notes)
    if "unk" in special_ids and not byte_level:
        kinds[special_ids["unk"]] = TokenKind.UNKNOWN
    return Vocabulary(
        model="gpt2" if byte_level else "llama",
        pre=pre,
        tokens=tokens,
        kinds=kinds,
        merges=[f"{left} {right}" for left, right in pairs] if byte_level else [],
        scores=[] if byte_level else _scores(tokens, kinds, pairs),
        special_ids=special_ids,
        add_bos=_adds(checkpoint, "bos", special_ids, tokens),
        add_eos=_adds(checkpoint, "eos", special_ids, tokens),
        add_space_prefix=not byte_level and _adds_space_prefix(spec),
        chat_template=checkpoint.chat_template,
        notes=notes,
    )


# ---- parts of tokenizer.json -------------------------------------------------------------------------------


def _object(parent: dict[str, Any], key: str) -> dict[str, Any]:
    value = parent.get(key)
    if not isinstance(value, dict):
        raise CheckpointError(f"tokenizer.json: {key}: expected an object, got {type(value).__name__}")
    return value


def _parts(spec: dict[str, Any], key: str, list_key: str) -> list[dict[str, Any]]:
    """Returns the steps of a pipeline: none, one, or those of a Sequence."""
    value = spec.get(key)
    if value is None:
        return []
    value = _object(spec, key)
    steps = value.get(list_key) if value.get("type") == "Sequence" else [value]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(
            f"tokenizer.json: {key}.{list_key}: expected a list of objects, got {str(steps)[:80]!r}"
        )
    return steps


def _tokens(spec: dict[str, Any], bpe: dict[str, Any], size: int) -> tuple[list[str], list[TokenKind]]:
    """Returns the text and the kind of every id; unassigned ids become unused padding tokens."""
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

    for text, token in _object(bpe, "vocab").items():
        assign(text, token, "vocab:")
    added = spec.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(entry, dict) for entry in added):
        raise CheckpointError(
            f"tokenizer.json: added_tokens: expected a list of objects, got {str(added)[:80]!r}"
        )
    for entry in added:
        token = assign(entry.get("content"), entry.get("id"), "added token")
        kinds[token] = TokenKind.CONTROL if entry.get("special") is True else TokenKind.USER_DEFINED
    for token, slot in enumerate(slots):
        if slot is None:
            slots[token], kinds[token] = f"[PAD{token}]", TokenKind.UNUSED
    tokens = [text for text in slots if text is not None]
    if len(set(tokens)) != size:
        counts = Counter(tokens)
        text = max(counts, key=counts.__getitem__)
        raise CheckpointError(f"tokenizer.json: token {text!r} has two ids")
    return tokens, kinds


def _merges(bpe: dict[str, Any]) -> list[tuple[str, str]]:
    merges = bpe.get("merges")
    if not isinstance(merges, list):
        raise CheckpointError(f"tokenizer.json: model.merges: expected a list, got {type(merges).__name__}")
    vocab = _object(bpe, "vocab")
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


def _pre_tokenizer(spec: dict[str, Any]) -> str:
    """Returns the GGUF name of a byte-level BPE's pre-tokenizer."""
    parts = _parts(spec, "pre_tokenizer", "pretokenizers")
    if any(part.get("add_prefix_space") is True for part in parts):
        raise CheckpointError(
            "tokenizer.json: pre_tokenizer: add_prefix_space: expected false, got true: "
            "GGUF cannot store it for a byte-level BPE"
        )
    *splits, last = parts
    if not splits and last.get("use_regex", True) is True:
        return "gpt-2"
    if len(splits) == 1 and splits[0].get("type") == "Split" and last.get("use_regex") is False:
        pattern = splits[0].get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        isolated = splits[0].get("behavior") == "Isolated" and splits[0].get("invert") is not True
        if isolated and isinstance(regex, str) and regex in PRE_TOKENIZERS:
            return PRE_TOKENIZERS[regex]
    known = ", ".join(sorted(PRE_TOKENIZERS.values()))
    raise CheckpointError(f"tokenizer.json: pre_tokenizer: expected one of {known}, got {str(parts)[:300]}")


def _check_normalizer(spec: dict[str, Any], notes: list[str]) -> None:
    """Accepts only NFC: GGUF has no key for this normalizer, and our callers normalize to NFC themselves."""
    for part in _parts(spec, "normalizer", "normalizers"):
        if part.get("type") != "NFC":
            raise CheckpointError(
                f"tokenizer.json: normalizer {part.get('type')!r} is not supported; expected NFC"
            )
        notes.append("normalize text to NFC before tokenization, as binhdan ask, chat and serve do")


# ---- SentencePiece style -----------------------------------------------------------------------------------


def _mark_byte_tokens(tokens: list[str], kinds: list[TokenKind]) -> None:
    """Sets the kind of the 256 byte tokens. Raises CheckpointError if one is missing."""
    index = {text: token for token, text in enumerate(tokens)}
    for byte in range(256):
        token = index.get(f"<0x{byte:02X}>")
        if token is None:
            raise CheckpointError(f"tokenizer.json: byte_fallback requires the token <0x{byte:02X}>")
        kinds[token] = TokenKind.BYTE


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


def _adds_space_prefix(spec: dict[str, Any]) -> bool:
    """Returns whether the tokenizer prepends a space. Raises CheckpointError for a step GGUF cannot store."""
    prefix = False
    for part in _parts(spec, "normalizer", "normalizers") + _parts(spec, "pre_tokenizer", "pretokenizers"):
        match part:
            case {"type": "Prepend", "prepend": "▁"}:
                prefix = True
            case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
                pass
            case {"type": "Metaspace"} if part.get("replacement", _SPACE) == _SPACE:
                scheme = part.get(
                    "prepend_scheme", "always" if part.get("add_prefix_space", True) else "never"
                )
                prefix = prefix or scheme in ("first", "always")
            case _:
                raise CheckpointError(
                    f"tokenizer.json: step {str(part)[:120]} is not supported for a BPE with byte_fallback"
                )
    return prefix


# ---- special tokens ----------------------------------------------------------------------------------------


def _special_ids(checkpoint: Checkpoint, tokens: list[str]) -> dict[str, int]:
    """Returns the ids of bos, eos, unk and pad: from tokenizer_config.json, else from the other configs."""
    index = {text: token for token, text in enumerate(tokens)}
    out: dict[str, int] = {}
    for name in ("bos", "eos", "unk", "pad"):
        text = checkpoint.tokenizer_config.get(f"{name}_token")
        text = text.get("content") if isinstance(text, dict) else text
        if isinstance(text, str) and text in index:
            out[name] = index[text]
            continue
        for config in (checkpoint.config, checkpoint.generation_config):
            ids = _ids(config.get(f"{name}_token_id"), len(tokens))
            if ids:
                out[name] = ids[0]
                break
    return out


def _ids(value: Any, size: int) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if type(v) is int and 0 <= v < size]


def _add_other_ends(
    checkpoint: Checkpoint, tokens: list[str], special_ids: dict[str, int], notes: list[str]
) -> None:
    """Stores the first end token that runtimes do not recognize by its text, under the key eot."""
    ends = _ids(checkpoint.generation_config.get("eos_token_id"), len(tokens))
    ends += _ids(checkpoint.config.get("eos_token_id"), len(tokens))
    others = [t for t in dict.fromkeys(ends) if t != special_ids.get("eos") and tokens[t] not in _KNOWN_ENDS]
    if others:
        special_ids["eot"] = others[0]
    if len(others) > 1:
        dropped = ", ".join(tokens[t] for t in others[1:])
        notes.append(f"these end tokens are dropped, as GGUF has no key for them: {dropped}")


def _adds(checkpoint: Checkpoint, name: str, special_ids: dict[str, int], tokens: list[str]) -> bool:
    """Returns whether the tokenizer adds bos or eos: by tokenizer_config.json, else the post-processor."""
    if name not in special_ids:
        return False
    configured = checkpoint.tokenizer_config.get(f"add_{name}_token")
    if isinstance(configured, bool):
        return configured
    for part in _parts(checkpoint.tokenizer, "post_processor", "processors"):
        single = part.get("single")
        if part.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            end = single[0 if name == "bos" else -1]
            special = end.get("SpecialToken") if isinstance(end, dict) else None
            if isinstance(special, dict) and special.get("id") == tokens[special_ids[name]]:
                return True
    return False
