"""Converts tokenizer.json to GGUF's tokenizer.* keys.

Supported: byte-level BPE with GPT-2's alphabet (GGUF model "gpt2"); BPE in SentencePiece's style with byte
fallback ("llama", "gemma4" for Gemma 4); Unigram ("t5"); WordPiece ("bert"). Others raise CheckpointError.
`Vocabulary.notes` names what GGUF cannot store.
"""

from __future__ import annotations

from typing import Any, Final

from binhdan.quantize.checkpoint import Checkpoint
from binhdan.quantize.tokenizer_json import Part, added_tokens, names, parts_of
from binhdan.quantize.tokenizer_models import read_model
from binhdan.quantize.vocabulary import TokenKind, Vocabulary, vocabulary_keys

__all__ = ["TokenKind", "Vocabulary", "read_vocabulary", "vocabulary_keys"]

# End tokens that runtimes recognize by their text. Others need a GGUF key.
_KNOWN_ENDS: Final = {
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",
    "</s>",
}


def read_vocabulary(checkpoint: Checkpoint, size: int) -> Vocabulary:
    """Returns the vocabulary of a checkpoint, padded to ``size`` tokens. Raises CheckpointError."""
    spec = checkpoint.tokenizer
    vocabulary = read_model(spec, size, str(checkpoint.config.get("model_type", "")))
    vocabulary.chat_template = checkpoint.chat_template
    _read_special_ids(checkpoint, vocabulary)
    _add_other_ends(checkpoint, vocabulary)
    _read_added_tokens(spec, vocabulary)
    _read_post_processor(checkpoint, vocabulary)
    if "unk" in vocabulary.special_ids and vocabulary.model == "llama":
        vocabulary.kinds[vocabulary.special_ids["unk"]] = TokenKind.UNKNOWN
    return vocabulary


# ---- special tokens ----------------------------------------------------------------------------------------


def _read_special_ids(checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Sets the ids of bos, eos, …: from tokenizer_config.json, else from the other configs."""
    index = {text: token for token, text in enumerate(vocabulary.tokens)}
    roles = ["bos", "eos", "unk", "pad"]
    if vocabulary.model in ("bert", "t5"):
        roles += ["cls", "sep", "mask"]
    for role in roles:
        text = checkpoint.tokenizer_config.get(f"{role}_token")
        text = text.get("content") if isinstance(text, dict) else text
        if isinstance(text, str) and text in index:
            vocabulary.special_ids[role] = index[text]
            continue
        for config in (checkpoint.config, checkpoint.generation_config):
            if ids := _ids(config.get(f"{role}_token_id"), len(vocabulary.tokens)):
                vocabulary.special_ids.setdefault(role, ids[0])
                break


def _ids(value: Any, size: int) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [v for v in values if type(v) is int and 0 <= v < size]


def _add_other_ends(checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Stores the first end token that runtimes do not recognize by its text, under the key eot."""
    tokens, special_ids = vocabulary.tokens, vocabulary.special_ids
    ends = _ids(checkpoint.generation_config.get("eos_token_id"), len(tokens))
    ends += _ids(checkpoint.config.get("eos_token_id"), len(tokens))
    others = [t for t in dict.fromkeys(ends) if t != special_ids.get("eos") and tokens[t] not in _KNOWN_ENDS]
    if others:
        special_ids["eot"] = others[0]
    if len(others) > 1:
        dropped = ", ".join(tokens[t] for t in others[1:])
        vocabulary.notes.append(f"these end tokens are dropped, as GGUF has no key for them: {dropped}")


def _read_added_tokens(spec: Part, vocabulary: Vocabulary) -> None:
    """Stores lstrip and rstrip of added tokens, and notes what GGUF cannot store."""
    added = added_tokens(spec)
    vocabulary.strip_left = [entry["id"] for entry in added if entry.get("lstrip") is True]
    vocabulary.strip_right = [entry["id"] for entry in added if entry.get("rstrip") is True]
    stripping = [vocabulary.tokens[t] for t in dict.fromkeys(vocabulary.strip_left + vocabulary.strip_right)]
    if stripping:
        vocabulary.notes.append(
            f"these tokens take the white space beside them, which llama.cpp may keep: {names(stripping)}"
        )
    words = [entry["content"] for entry in added if entry.get("single_word") is True]
    if words:
        vocabulary.notes.append(f"these tokens are recognized inside of words too: {names(words)}")
    changed = [
        entry["content"]
        for entry in added
        if entry.get("normalized") is True and entry.get("special") is not True and spec.get("normalizer")
    ]
    if changed:
        vocabulary.notes.append(
            f"these tokens are recognized in the text before normalization, not after it: {names(changed)}"
        )


# ---- tokens around a text ----------------------------------------------------------------------------------


def _read_post_processor(checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    """Sets which tokens stand before and after a text: by tokenizer_config.json, else the post-processor."""
    first, last = _template(checkpoint.tokenizer)
    index = {text: token for token, text in enumerate(vocabulary.tokens)}
    _note_dropped(first[1:] + last[:-1], vocabulary)
    before = index.get(first[0]) if first else None
    after = index.get(last[-1]) if last else None
    if vocabulary.model == "bert":
        _set_bert_ends(before, after, vocabulary)
        return
    ids = vocabulary.special_ids
    if before is not None and _configured(checkpoint, "bos") is not False:
        if ids.setdefault("bos", before) != before:
            vocabulary.notes.append(_replaced("bos", ids["bos"], before, vocabulary))
            ids["bos"] = before
        vocabulary.add_bos = True
    elif "bos" in ids:
        vocabulary.add_bos = _configured(checkpoint, "bos") is True
    if after is not None and _configured(checkpoint, "eos") is not False:
        if ids.setdefault("eos", after) != after:
            vocabulary.notes.append(_replaced("eos", ids["eos"], after, vocabulary))
            ids.setdefault("eot", ids["eos"])  # still ends an answer
            ids["eos"] = after
        vocabulary.add_eos = True
    elif "eos" in ids:
        vocabulary.add_eos = _configured(checkpoint, "eos") is True


def _configured(checkpoint: Checkpoint, role: str) -> bool | None:
    value = checkpoint.tokenizer_config.get(f"add_{role}_token")
    return value if isinstance(value, bool) else None


def _replaced(role: str, old: int, new: int, vocabulary: Vocabulary) -> str:
    tokens = vocabulary.tokens
    return f"{role} is {tokens[new]}, which the post-processor adds, in place of {tokens[old]}"


def _set_bert_ends(before: int | None, after: int | None, vocabulary: Vocabulary) -> None:
    ids = vocabulary.special_ids
    if before is not None:
        ids["cls"] = ids["bos"] = before
    if after is not None:
        ids["sep"] = after
    vocabulary.add_bos, vocabulary.add_sep = before is not None, after is not None


def _template(spec: Part) -> tuple[list[str], list[str]]:
    """Returns the special tokens that the post-processor puts before and after a text."""
    for part in parts_of(spec, "post_processor", "processors"):
        match part:
            case {
                "type": "BertProcessing" | "RobertaProcessing",
                "cls": [str(cls), *_],
                "sep": [str(sep), *_],
            }:
                return [cls], [sep]
            case {"type": "TemplateProcessing", "single": list(single)}:
                ids = [_template_token(step) for step in single]
                text = ids.index(None) if None in ids else len(ids)
                return [i for i in ids[:text] if i], [i for i in ids[text:] if i]
    return [], []


def _template_token(step: Any) -> str | None:
    """Returns the special token of a step; None for the text."""
    special = step.get("SpecialToken") if isinstance(step, dict) else None
    return str(special.get("id")) if isinstance(special, dict) else None


def _note_dropped(dropped: list[str], vocabulary: Vocabulary) -> None:
    if dropped:
        vocabulary.notes.append(
            "the post-processor adds these tokens, too; GGUF stores one token before and one after: "
            f"{names(dropped)}"
        )
