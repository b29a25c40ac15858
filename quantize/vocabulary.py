"""The tokenizer.* keys of a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Literal

from gguf import GGUFWriter

# Keys that gguf-py has no method for. The last two are read by binhdan only.
_LOWERCASE: Final = "tokenizer.ggml.normalizer.lowercase"
_STRIP_ACCENTS: Final = "tokenizer.ggml.normalizer.strip_accents"
_CLS: Final = "tokenizer.ggml.cls_token_id"
_STRIP_LEFT: Final = "binhdan.tokenizer.strip_left"
_STRIP_RIGHT: Final = "binhdan.tokenizer.strip_right"


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


def write_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    v = vocabulary
    writer.add_tokenizer_model(v.model)
    writer.add_tokenizer_pre(v.pre)
    writer.add_token_list(v.tokens)
    if v.scores:
        writer.add_token_scores(v.scores)
    writer.add_token_types([int(kind) for kind in v.kinds])
    if v.merges:
        writer.add_token_merges(v.merges)
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
        "sep": writer.add_sep_token_id,
        "mask": writer.add_mask_token_id,
    }
    for name, token in v.special_ids.items():
        if name == "cls":
            writer.add_uint32(_CLS, token)
        else:
            add[name](token)
    writer.add_add_bos_token(v.add_bos)
    writer.add_add_eos_token(v.add_eos)
    if v.model in ("llama", "t5"):
        writer.add_add_space_prefix(v.add_space_prefix)
    if v.model == "t5":
        writer.add_remove_extra_whitespaces(v.remove_extra_whitespaces)
        if v.charsmap:
            writer.add_precompiled_charsmap(v.charsmap)
    if v.model == "bert":
        writer.add_add_sep_token(v.add_sep)
        writer.add_bool(_LOWERCASE, v.lowercase)
        writer.add_bool(_STRIP_ACCENTS, v.strip_accents)
    if v.strip_left:
        writer.add_array(_STRIP_LEFT, v.strip_left)
    if v.strip_right:
        writer.add_array(_STRIP_RIGHT, v.strip_right)
    if v.chat_template:
        writer.add_chat_template(v.chat_template)
