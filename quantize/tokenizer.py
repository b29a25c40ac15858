"""tokenizer.json → GGUF's tokenizer.ggml.* keys.

Two kinds exist in this world, both of them BPE: byte-level (GPT-2's alphabet, GGUF model "gpt2"), and
SentencePiece style with byte fallback, as Llama 2 and Mistral have it (GGUF model "llama"). Others are
refused.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Literal

from binhdan.quantize.checkpoint import Checkpoint, CheckpointError

_SPACE: Final = "▁"  # SentencePiece's space

# GGUF names a pre-tokenizer; tokenizer.json writes out its regular expression. The next one is an entry here
# and in csrc/text/.
_WORDS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS: Final = {
    rf"{_WORDS}|\p{{N}}|{_REST}": "qwen2",
    rf"{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": "gpt-2",
}

# End markers that a runtime knows by their text; others need a key of their own.
_KNOWN_ENDS: Final = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "</s>"}


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
    """What the tokenizer.* keys of a GGUF file will say."""

    model: Literal["gpt2", "llama"]
    pre: str
    tokens: list[str]
    kinds: list[TokenKind]
    merges: list[str]  # gpt2
    scores: list[float]  # llama
    special_ids: dict[str, int]  # by the name in the key: {"bos": 1, "eos": 2, …}
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    chat_template: str
    notes: list[str] = field(default_factory=list)  # what a user should know


def read_vocabulary(checkpoint: Checkpoint, size: int) -> Vocabulary:
    """The vocabulary of a checkpoint, filled up to the ``size`` of its embedding. Raises CheckpointError."""
    spec = checkpoint.tokenizer
    bpe = _object(spec, "model")
    if bpe.get("type", "BPE") != "BPE":
        raise CheckpointError(f"tokenizer.json: model {bpe.get('type')!r} is not supported; expected 'BPE'")
    byte_level = any(
        part.get("type") == "ByteLevel" for part in _parts(spec, "pre_tokenizer", "pretokenizers")
    )
    if not byte_level and bpe.get("byte_fallback") is not True:
        raise CheckpointError("tokenizer.json: expected a byte-level BPE, or one with byte_fallback")
    notes: list[str] = []
    tokens, kinds = _tokens(spec, bpe, size)
    pairs = _merges(bpe)
    if byte_level:
        pre = _pre_tokenizer(spec)
        _check_normalizer(spec, notes)
        if (bpe.get("ignore_merges") is True) != (pre == "llama-bpe"):
            notes.append(
                f"ignore_merges differs from what {pre!r} stands for; rare words may split differently"
            )
    else:
        pre = "default"
        _mark_bytes(tokens, kinds)
    special_ids = _special_ids(checkpoint, tokens)
    _add_other_ends(checkpoint, tokens, special_ids, notes)
    if "unk" in special_ids:
        kinds[special_ids["unk"]] = TokenKind.UNKNOWN if not byte_level else kinds[special_ids["unk"]]
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
    """The steps of a pipeline: none, one, or a Sequence of them."""
    value = spec.get(key)
    if value is None:
        return []
    value = _object(spec, key)
    steps = value.get(list_key) if value.get("type") == "Sequence" else [value]
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CheckpointError(f"tokenizer.json: {key}.{list_key}: expected a list of objects")
    return steps


def _tokens(spec: dict[str, Any], bpe: dict[str, Any], size: int) -> tuple[list[str], list[TokenKind]]:
    """All tokens by id and their kinds; ids that the tokenizer leaves free become unused padding."""
    slots: list[str | None] = [None] * size
    kinds = [TokenKind.NORMAL] * size

    def put(text: Any, token: Any, where: str) -> int:
        if not isinstance(text, str) or type(token) is not int or not 0 <= token < size:
            raise CheckpointError(f"tokenizer.json: {where} {text!r}: id {token!r} is not one of {size:,}")
        if slots[token] not in (None, text):
            raise CheckpointError(f"tokenizer.json: {slots[token]!r} and {text!r} share the id {token}")
        slots[token] = text
        return token

    for text, token in _object(bpe, "vocab").items():
        put(text, token, "vocab:")
    added = spec.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(entry, dict) for entry in added):
        raise CheckpointError("tokenizer.json: added_tokens: expected a list of objects")
    for entry in added:
        token = put(entry.get("content"), entry.get("id"), "added token")
        kinds[token] = TokenKind.CONTROL if entry.get("special") is True else TokenKind.USER_DEFINED
    for token, slot in enumerate(slots):
        if slot is None:
            slots[token], kinds[token] = f"[PAD{token}]", TokenKind.UNUSED
    tokens = [text for text in slots if text is not None]
    if len(set(tokens)) != size:
        text = Counter(tokens).most_common(1)[0][0]
        raise CheckpointError(f"tokenizer.json: token {text!r} has two ids")
    return tokens, kinds


def _merges(bpe: dict[str, Any]) -> list[tuple[str, str]]:
    merges = bpe.get("merges")
    if not isinstance(merges, list):
        raise CheckpointError("tokenizer.json: model.merges: expected a list")
    vocab = _object(bpe, "vocab")
    pairs = []
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(p, str) and p for p in parts):
            raise CheckpointError(
                f"tokenizer.json: merge {rank}: expected two tokens, got {str(merge)[:80]!r}"
            )
        left, right = parts
        if " " in left + right or any(text not in vocab for text in (left, right, left + right)):
            raise CheckpointError(f"tokenizer.json: merge {rank}: {left!r} and {right!r} make no token")
        pairs.append((left, right))
    return pairs


def _pre_tokenizer(spec: dict[str, Any]) -> str:
    """The GGUF name for what splits text before a byte-level BPE."""
    parts = _parts(spec, "pre_tokenizer", "pretokenizers")
    if any(part.get("add_prefix_space") is True for part in parts):
        raise CheckpointError("tokenizer.json: pre_tokenizer: add_prefix_space is not supported")
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
    raise CheckpointError(f"tokenizer.json: unknown pre_tokenizer; known are {known}; got {str(parts)[:300]}")


def _check_normalizer(spec: dict[str, Any], notes: list[str]) -> None:
    """GGUF has no key for a byte-level BPE's normalizer; callers of binhdan bring text to NFC themselves."""
    for part in _parts(spec, "normalizer", "normalizers"):
        if part.get("type") != "NFC":
            raise CheckpointError(
                f"tokenizer.json: normalizer {part.get('type')!r} is not supported; expected NFC"
            )
        notes.append(
            "text must be brought to NFC before it is tokenized, as binhdan's ask, chat and serve do"
        )


# ---- SentencePiece style -----------------------------------------------------------------------------------


def _mark_bytes(tokens: list[str], kinds: list[TokenKind]) -> None:
    """The 256 byte tokens get their kind."""
    index = {text: token for token, text in enumerate(tokens)}
    for byte in range(256):
        token = index.get(f"<0x{byte:02X}>")
        if token is None:
            raise CheckpointError(f"tokenizer.json: byte_fallback without a token <0x{byte:02X}>")
        kinds[token] = TokenKind.BYTE


def _scores(tokens: list[str], kinds: list[TokenKind], pairs: list[tuple[str, str]]) -> list[float]:
    """SentencePiece's score of every token, as far as order goes.

    It merges the pair whose result scores best, ties from the left. tokenizer.json's merges were made from
    those scores, best first: so a token's score is minus the place where it first appears as a result.
    """
    place: dict[str, int] = {}
    for left, right in pairs:
        place.setdefault(left + right, len(place))
    worst = float(-len(place) - 1)
    return [
        float(-place[text]) if text in place else worst if kind is TokenKind.NORMAL else 0.0
        for text, kind in zip(tokens, kinds, strict=True)
    ]


def _adds_space_prefix(spec: dict[str, Any]) -> bool:
    """Whether text gets a space in front. Raises CheckpointError for other steps than that and space → ▁."""
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
                raise CheckpointError(f"tokenizer.json: step {str(part)[:120]} is not SentencePiece's")
    return prefix


# ---- special tokens ----------------------------------------------------------------------------------------


def _special_ids(checkpoint: Checkpoint, tokens: list[str]) -> dict[str, int]:
    """bos, eos, unk, pad: tokenizer_config.json's texts, else the ids of the other configs."""
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
    """There may be several end tokens; one that no runtime would guess goes into the key of eot."""
    ends = _ids(checkpoint.generation_config.get("eos_token_id"), len(tokens))
    ends += _ids(checkpoint.config.get("eos_token_id"), len(tokens))
    others = [t for t in dict.fromkeys(ends) if t != special_ids.get("eos") and tokens[t] not in _KNOWN_ENDS]
    if others:
        special_ids["eot"] = others[0]
    if len(others) > 1:
        lost = ", ".join(tokens[t] for t in others[1:])
        notes.append(f"GGUF has no key for further end tokens: {lost}")


def _adds(checkpoint: Checkpoint, name: str, special_ids: dict[str, int], tokens: list[str]) -> bool:
    """Whether text is wrapped in bos/eos: by tokenizer_config.json, else by the post-processor's template."""
    if name not in special_ids:
        return False
    said = checkpoint.tokenizer_config.get(f"add_{name}_token")
    if isinstance(said, bool):
        return said
    for part in _parts(checkpoint.tokenizer, "post_processor", "processors"):
        single = part.get("single")
        if part.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            end = single[0 if name == "bos" else -1]
            special = end.get("SpecialToken") if isinstance(end, dict) else None
            if isinstance(special, dict) and special.get("id") == tokens[special_ids[name]]:
                return True
    return False
