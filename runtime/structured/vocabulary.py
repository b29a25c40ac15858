"""The vocabulary of a model in the form of llguidance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from binhdan.runtime.errors import InvalidArgumentError

if TYPE_CHECKING:
    from llguidance import LLTokenizer


class HasVocabulary(Protocol):
    """The methods of Model that read its vocabulary."""

    def token_roles(self) -> list[int]: ...
    def tokenize(self, text: str | bytes) -> list[int]: ...
    def detokenize_bytes(self, tokens: Sequence[int], *, special: bool = False) -> bytes: ...


class Vocabulary:
    """The vocabulary of a model in llguidance's form."""

    def __init__(self, model: HasVocabulary) -> None:
        from llguidance import LLTokenizer, TokenizerWrapper

        roles = model.token_roles()
        tokens = token_bytes(model, len(roles))
        ends = [token for token, role in enumerate(roles) if role == 1]
        #: Control tokens that end no answer, by their text.
        self.controls = {
            tokens[token].decode("utf-8", "replace"): token for token, role in enumerate(roles) if role == 2
        }
        self.mask_bytes = (len(roles) + 31) // 32 * 4
        text = bytearray(self.mask_bytes)
        for token, role in enumerate(roles):
            if role != 2:
                text[token >> 3] |= 1 << (token & 7)
        self._text = int.from_bytes(text, "little")
        wrapper = TokenizerWrapper(_Tokens(tokens, ends, [token for token, role in enumerate(roles) if role]))
        self.tokenizer: LLTokenizer = LLTokenizer(wrapper, eos_token=ends or None)

    def only_text(self, bits: bytes) -> bytes:
        """Removes control tokens from a mask, except those that end the answer.

        Raises InvalidArgumentError when the mask becomes empty.
        """
        kept = int.from_bytes(bits[: self.mask_bytes], "little") & self._text
        if not kept:
            raise InvalidArgumentError("the answer cannot continue: its grammar requires a control token")
        return kept.to_bytes(self.mask_bytes, "little")


def token_bytes(model: HasVocabulary, count: int) -> list[bytes]:
    """The bytes that each token adds to a text; for control tokens, their names."""
    # SentencePiece removes the leading space of a text's first token, so each token is decoded as the second.
    first = model.tokenize("a")[-1]
    length = len(model.detokenize_bytes((first,)))
    return [model.detokenize_bytes((first, token), special=True)[length:] for token in range(count)]


class _Tokens:
    """The tokenizer interface that TokenizerWrapper requires."""

    def __init__(self, tokens: list[bytes], ends: list[int], special: list[int]) -> None:
        self.tokens = tokens
        self.special_token_ids = special
        self.eos_token_id = ends[0] if ends else None
        self.bos_token_id = None

    def __call__(self, text: bytes) -> list[int]:
        return []  # called for forced text only, which _NO_FORCING turns off
