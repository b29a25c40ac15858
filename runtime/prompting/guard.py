"""Prevents a user who types `<|im_start|>` from starting a message of another role.

A template writes its own markup and the text of users into one string, and a tokenizer of that string cannot
tell the two apart. So before rendering, the guard puts marks into the text of users: at each position where a
control token starts, and where one could arise together with the characters that the template adds. A mark
means that the next character is content. After rendering, the guard cuts the string at the marks into
segments.

The tokenizer recognises control tokens only within one markup segment, and joins adjacent content before it
tokenizes it. So a mark has no other effect: the text of users has the same tokens as in any other place.

A mark contains a random number, so that no text contains it by chance or on purpose, and no letters, so that
filters such as `upper` and `title` do not change it.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

from binhdan.runtime.errors import InvalidArgumentError

Segment = tuple[str, bool]  # text, is markup
_MAX_DEPTH = 64


class Guard:
    """`control_tokens`: the texts of all control tokens of the vocabulary."""

    def __init__(self, control_tokens: Iterable[str]) -> None:
        tokens = sorted({token for token in control_tokens if token}, key=lambda token: (-len(token), token))
        self._token = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")
        self._suffixes: dict[str, set[str]] = defaultdict(
            set
        )  # proper suffixes of control tokens, by first character
        self._prefixes: dict[str, set[str]] = defaultdict(
            set
        )  # proper prefixes of control tokens, by last character
        for token in tokens:
            for i in range(1, len(token)):
                self._suffixes[token[i]].add(token[i:])
                self._prefixes[token[i - 1]].add(token[:i])
        number = int.from_bytes(os.urandom(8))
        self._mark = f"\ufdd0{number}\ufdd1"
        # tojson with ensure_ascii escapes the mark.
        self._cut = re.compile(f"{self._mark}|\\\\ufdd0{number}\\\\ufdd1")

    def protect(self, value: Any, depth: int = 0) -> Any:
        """A copy of `value` with marks in all strings of nested dicts and lists."""
        if depth > _MAX_DEPTH:
            raise InvalidArgumentError(f"a message must not be nested more than {_MAX_DEPTH} levels deep")
        if isinstance(value, str):
            return self._protect_text(value)
        if isinstance(value, Mapping):
            return {self._protect_key(key): self.protect(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.protect(item, depth + 1) for item in value]
        return value

    def split(self, rendered: str) -> list[Segment]:
        """The segments of a rendered template."""
        first, *others = self._cut.split(rendered)
        segments = [(first, True)]
        for part in others:
            segments += [(part[:1], False), (part[1:], True)]
        return [segment for segment in segments if segment[0]]

    def _protect_key(self, key: Any) -> Any:
        # Templates look up keys, so a key is marked only where it contains a complete control token.
        return self._marked(key, self._starts(key)) if isinstance(key, str) else key

    def _protect_text(self, text: str) -> str:
        places = self._starts(text)
        # A template may strip the text, so both the original and the stripped ends are checked.
        left, right = len(text) - len(text.lstrip()), len(text.rstrip())
        for start, end in {(0, len(text)), (left, right)}:
            if start < end:
                if self._completes(text, start, end):
                    places.add(start)
                if self._begins(text, start, end):
                    places.add(end - 1)
        return self._marked(text, places)

    def _starts(self, text: str) -> set[int]:
        """The positions where control tokens start, including overlapping ones."""
        places = set()
        match = self._token.search(text)
        while match:
            places.add(match.start())
            match = self._token.search(text, match.start() + 1)
        return places

    def _completes(self, text: str, start: int, end: int) -> bool:
        """True if text[start:end] could complete a control token that starts before it."""
        return any(
            text.startswith(suffix, start, end)
            or suffix.startswith(text[start : min(end, start + len(suffix))])
            for suffix in self._suffixes.get(text[start], ())
        )

    def _begins(self, text: str, start: int, end: int) -> bool:
        """True if a control token could start near the end of text[start:end]."""
        return any(
            text.endswith(prefix, start, end) or prefix.endswith(text[max(start, end - len(prefix)) : end])
            for prefix in self._prefixes.get(text[end - 1], ())
        )

    def _marked(self, text: str, places: set[int]) -> str:
        if not places:
            return text
        cuts = [0, *sorted(places), len(text)]
        return self._mark.join(text[a:b] for a, b in pairwise(cuts))
