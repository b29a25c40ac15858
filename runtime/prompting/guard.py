"""Keeps `<|im_start|>` typed by a user from becoming a role.

A template mixes its own markup with users' text in one string, and whoever tokenizes that string as a whole
cannot tell the two apart. So before rendering, every place in users' text where a control token stands, or
could arise together with what the template writes around it, gets a mark: "the next character is literal".
After rendering, the string is cut at the marks. The tokenizer recognises control tokens inside one segment
only and joins the plain text of neighbours, so a mark changes nothing else: the text gives the very tokens
that it would give anywhere.

Marks hold a random number, so that no text can bring its own, and no letters, so that a template's `upper` or
`title` leaves them whole.
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
    """`control_tokens`: the texts of the vocabulary's control tokens."""

    def __init__(self, control_tokens: Iterable[str]) -> None:
        tokens = sorted({token for token in control_tokens if token}, key=lambda token: (-len(token), token))
        self._token = re.compile("|".join(map(re.escape, tokens)) or r"(?!)")
        self._suffixes: dict[str, set[str]] = defaultdict(set)  # proper ones, by their first character
        self._prefixes: dict[str, set[str]] = defaultdict(set)  # proper ones, by their last character
        for token in tokens:
            for i in range(1, len(token)):
                self._suffixes[token[i]].add(token[i:])
                self._prefixes[token[i - 1]].add(token[:i])
        number = int.from_bytes(os.urandom(8))
        self._mark = f"\ufdd0{number}\ufdd1"
        # A template that asks tojson for ASCII writes the mark in this way.
        self._cut = re.compile(f"{self._mark}|\\\\ufdd0{number}\\\\ufdd1")

    def protect(self, value: Any, depth: int = 0) -> Any:
        """`value` with all strings in it marked; dicts and lists are walked."""
        if depth > _MAX_DEPTH:
            raise InvalidArgumentError(f"a message is nested more than {_MAX_DEPTH} deep")
        if isinstance(value, str):
            return self._protect_text(value)
        if isinstance(value, Mapping):
            return {self._protect_key(key): self.protect(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.protect(item, depth + 1) for item in value]
        return value

    def split(self, rendered: str) -> list[Segment]:
        """Cuts a rendered template at the marks."""
        first, *others = self._cut.split(rendered)
        segments = [(first, True)]
        for part in others:
            segments += [(part[:1], False), (part[1:], True)]
        return [segment for segment in segments if segment[0]]

    def _protect_key(self, key: Any) -> Any:
        # Templates look keys up, so only what is wholly a control token is marked.
        return self._marked(key, self._starts(key)) if isinstance(key, str) else key

    def _protect_text(self, text: str) -> str:
        places = self._starts(text)
        # A template may strip: the borders of the stripped text count as well.
        left, right = len(text) - len(text.lstrip()), len(text.rstrip())
        for start, end in {(0, len(text)), (left, right)}:
            if start < end:
                if self._completes(text, start, end):
                    places.add(start)
                if self._begins(text, start, end):
                    places.add(end - 1)
        return self._marked(text, places)

    def _starts(self, text: str) -> set[int]:
        """Where control tokens start, overlapping ones too."""
        places = set()
        match = self._token.search(text)
        while match:
            places.add(match.start())
            match = self._token.search(text, match.start() + 1)
        return places

    def _completes(self, text: str, start: int, end: int) -> bool:
        """Could text[start:end] go on with a control token that was begun before it?"""
        return any(
            text.startswith(suffix, start, end)
            or suffix.startswith(text[start : min(end, start + len(suffix))])
            for suffix in self._suffixes.get(text[start], ())
        )

    def _begins(self, text: str, start: int, end: int) -> bool:
        """Could a control token begin at the end of text[start:end]?"""
        return any(
            text.endswith(prefix, start, end) or prefix.endswith(text[max(start, end - len(prefix)) : end])
            for prefix in self._prefixes.get(text[end - 1], ())
        )

    def _marked(self, text: str, places: set[int]) -> str:
        if not places:
            return text
        cuts = [0, *sorted(places), len(text)]
        return self._mark.join(text[a:b] for a, b in pairwise(cuts))
