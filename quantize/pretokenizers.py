"""The GGUF name of a byte-level BPE's pre-tokenizer; tokenizer.json contains its regular expressions."""

from __future__ import annotations

from functools import cache
from typing import Final

from binhdan import _native
from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.tokenizer_json import Part, pre_tokenizers

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Pre-tokenizers for which a word that is a token stays whole (`ignore_merges` in tokenizer.json).
_IGNORE_MERGES: Final = {
    "llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    "tekken", "youtu", "minicpm5", "granite-embed-multi-97m",
}  # fmt: skip
# Expressions that csrc/text/pretokenizer.cpp replaces by equal ones that take linear time.
_JAIS2_SPACES: Final = "".join(rf"\s{{{2**i}}}(?!\S)|" for i in range(9, 1, -1)) + r"\s{1,2}(?!\S)|\s{1}"
_REPLACED: Final = {
    (_native.pretokenizer_patterns("jais-2")[0].replace(r"\s+(?!\S)|\s+", _JAIS2_SPACES),): "jais-2",
    (r"\d{1,3}(?=(?:\d{3})*\b)", _native.pretokenizer_patterns("gpt-4o")[0]): "tiny_aya",
    (r"\p{N}+", r"(?=(\d{3})+(?!\d))"): "superbpe",
}
# Different spellings of one expression. Possessive quantifiers match the same text where the class after them
# has no common member with the class before.
_SPELLINGS: Final = [
    ("'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)"),
    (r"[^\r\n\p{L}\p{N}]?+\p{L}", r"[^\r\n\p{L}\p{N}]?\p{L}"),
    (r"[^\s\p{L}\p{N}]++", r"[^\s\p{L}\p{N}]+"),
    (r"\p{N}{1}|", r"\p{N}|"),
    ("\r", r"\r"),
    ("\n", r"\n"),
]


def pre_tokenizer_name(spec: Part, ignore_merges: bool, notes: list[str]) -> str:
    """Returns the name of a pre-tokenizer that ends with ByteLevel. Raises CheckpointError."""
    parts = pre_tokenizers(spec)
    if any(part.get("add_prefix_space") is True for part in parts):
        raise CheckpointError(
            "tokenizer.json: pre_tokenizer: add_prefix_space: expected false, got true: "
            "GGUF cannot store it for a byte-level BPE"
        )
    *splits, last = parts
    patterns = [_pattern(part) for part in splits]
    if last.get("use_regex", True) is True:
        patterns.append(_GPT2)
    found: list[str] = []
    if last.get("type") == "ByteLevel" and all(pattern is not None for pattern in patterns):
        found = _names().get(tuple(_canonical(pattern or "") for pattern in patterns), [])
    if not found:
        raise CheckpointError(
            "tokenizer.json: pre_tokenizer: expected the expressions of one of "
            f"{', '.join(sorted(names[0] for names in _names().values()))}; got {str(parts)[:600]}"
        )
    same = [name for name in found if (name in _IGNORE_MERGES) == ignore_merges]
    if not same:
        notes.append(f"ignore_merges differs from that of {found[0]!r}; rare words may be split differently")
    return (same or found)[0]


def _pattern(part: Part) -> str | None:
    """Returns the expression of a step whose matches become words; None for other steps."""
    match part:
        case {"type": "Split", "behavior": "Isolated", "pattern": {"Regex": str(regex)}}:
            return None if part.get("invert") is True else regex
        case {"type": "Digits", "individual_digits": True}:
            return r"\p{N}"
        case {"type": "Digits"}:
            return r"\p{N}+"
        case _:
            return None


def _canonical(pattern: str) -> str:
    for one, other in _SPELLINGS:
        pattern = pattern.replace(one, other)
    return pattern


@cache
def _names() -> dict[tuple[str, ...], list[str]]:
    """Returns expressions → names of the byte-level pre-tokenizers."""
    out: dict[tuple[str, ...], list[str]] = {}
    counted = {*_REPLACED.values(), "cohere2moe", "jais-2", "afmoe"}
    characters = {"gemma4", "granite-embed-multi-311m", "sarvam-moe", "whitespace"}
    for name in _native.pretokenizer_names():
        if name not in counted | characters:
            key = tuple(_canonical(pattern) for pattern in _native.pretokenizer_patterns(name))
            out.setdefault(key, []).append(name)
    out |= {tuple(map(_canonical, patterns)): [name] for patterns, name in _REPLACED.items()}
    return out
