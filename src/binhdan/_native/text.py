"""Pre-tokenizers, and tokenizers of GGUF files without their tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from binhdan._native.arguments import TOO_SMALL, bytes_of, c_string, check, ffi, grow, lib, listed, pointer


def pretokenizer_names() -> list[str]:
    """Names of tokenizer.ggml.pre that the byte-level BPE supports."""
    return list(listed(lib.binhdan_tools_pretokenizer))


def pretokenizer_patterns(name: str) -> list[str]:
    """The regular expressions of a pre-tokenizer."""
    if name not in pretokenizer_names():
        raise ValueError(f'pretokenizer: expected one of pretokenizer_names(), got "{name}"')
    patterns: list[str] = []
    size = ffi.new("size_t *")
    arguments = (lib.binhdan_tools_pretokenizer_pattern, c_string(name))
    while arguments[0](arguments[1], len(patterns), ffi.NULL, 0, size) == TOO_SMALL:
        patterns.append(grow("char", size[0], *arguments, len(patterns)).decode())
    return patterns


def split_words(pretokenizer: str, text: bytes) -> list[int]:
    """The ends, in bytes, of the words into which a pre-tokenizer cuts UTF-8 text."""
    data, size = bytes_of("text", text)
    return list(grow("size_t", size, lib.binhdan_tools_split_words, c_string(pretokenizer), data, size))


class Tokenizer:
    """The tokenizer of a GGUF file, which needs the tokenizer.* keys only, and no tensor."""

    def __init__(self, path: str) -> None:
        opened = ffi.new("binhdan_tools_tokenizer **")
        check(lib.binhdan_tools_tokenizer_open(c_string(path), opened))
        self._tokenizer = ffi.gc(opened[0], lib.binhdan_tools_tokenizer_free)

    def encode(self, text: str | bytes, parse_special: bool = False) -> list[int]:
        """Without BOS and EOS. `parse_special`: the text of a control token becomes the token."""
        data, size = bytes_of("text", text.encode() if isinstance(text, str) else text)
        function = lib.binhdan_tools_tokenizer_encode
        return list(grow("int32_t", size + 8, function, self._tokenizer, data, size, parse_special))

    def decode(self, tokens: Sequence[int], special: bool = False) -> bytes:
        """The bytes of the tokens; those of control tokens only if `special`."""
        ids = np.ascontiguousarray(tokens, dtype=np.int32)
        function = lib.binhdan_tools_tokenizer_decode
        first = 16 * ids.size + 256
        found = grow("char", first, function, self._tokenizer, pointer(ids, "int32_t"), ids.size, special)
        return bytes(found)
