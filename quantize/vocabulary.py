"""The tokenizer.* keys of a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal

from binhdan.quantize.keys import RawValue, Value

# Names of keys that do not follow from the name of the special token.
_ID_NAMES: Final = {"unk": "unknown_token_id", "pad": "padding_token_id", "sep": "seperator_token_id"}


class TokenKind(IntEnum):
    """Values of tokenizer.ggml.token_type."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


Model = Literal["gpt2", "llama", "gemma4", "t5", "bert"]


@dataclass
class Vocabulary:
    """The values of the tokenizer.* keys of a GGUF file."""

    model: Model
    pre: str
    tokens: list[str]
    kinds: list[TokenKind]
    merges: list[str] = field(default_factory=list)  # gpt2, gemma4
    scores: list[float] = field(default_factory=list)  # llama, t5
    special_ids: dict[str, int] = field(default_factory=dict)  # name in the key → id: {"bos": 1, "eos": 2, …}
    add_bos: bool = False
    add_eos: bool = False
    add_sep: bool = False  # bert
    add_space_prefix: bool = False
    remove_extra_whitespaces: bool = False  # t5
    charsmap: bytes = b""  # t5
    lowercase: bool = False  # bert
    strip_accents: bool = False  # bert
    strip_left: list[int] = field(default_factory=list)  # tokens that take the white space before them
    strip_right: list[int] = field(default_factory=list)  # … after them
    chat_template: str = ""
    notes: list[str] = field(default_factory=list)  # remarks for the user


def vocabulary_keys(vocabulary: Vocabulary) -> dict[str, RawValue]:
    """Returns the keys of a vocabulary in the order of a file."""
    v = vocabulary
    keys: dict[str, Value] = {"model": v.model, "pre": v.pre, "tokens": v.tokens}
    if v.scores:
        keys["scores"] = [float(score) for score in v.scores]
    keys["token_type"] = [int(kind) for kind in v.kinds]
    if v.merges:
        keys["merges"] = v.merges
    keys |= {_ID_NAMES.get(name, f"{name}_token_id"): token for name, token in v.special_ids.items()}
    keys |= {"add_bos_token": v.add_bos, "add_eos_token": v.add_eos}
    if v.model in ("llama", "t5"):
        keys["add_space_prefix"] = v.add_space_prefix
    if v.model == "t5":
        keys["remove_extra_whitespaces"] = v.remove_extra_whitespaces
        if v.charsmap:
            keys["precompiled_charsmap"] = v.charsmap
    if v.model == "bert":
        keys["add_sep_token"] = v.add_sep
        keys["normalizer.lowercase"] = v.lowercase
        keys["normalizer.strip_accents"] = v.strip_accents
    out = {f"tokenizer.ggml.{name}": RawValue.of(value) for name, value in keys.items()}
    if v.strip_left:
        out["binhdan.tokenizer.strip_left"] = RawValue.of(v.strip_left)
    if v.strip_right:
        out["binhdan.tokenizer.strip_right"] = RawValue.of(v.strip_right)
    if v.chat_template:
        out["tokenizer.chat_template"] = RawValue.of(v.chat_template)
    return out
