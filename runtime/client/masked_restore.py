"""Restores diacritics with a language model: a token mask restricts each token of the answer.

Without diacritics, a token must equal the next characters of the text. So letters, case, punctuation and
spaces remain those of the input, whatever the model generates. restore.py needs no language model, and is
faster and more exact than the embedded one.
"""

from __future__ import annotations

import asyncio
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from binhdan.runtime.client.model import Model
from binhdan.runtime.errors import InvalidArgumentError

QUESTION = "Thêm dấu: {}"
# Models are trained on sentences, so a longer line is split into parts.
MAX_CHARACTERS = 200

# Letter without diacritics -> the letters of the Vietnamese alphabet that it may stand for, without tone.
_QUALITIES = {"a": "aăâ", "d": "dđ", "e": "eê", "i": "i", "o": "oôơ", "u": "uư", "y": "y"}
_TONES = ("", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323")  # ngang huyền sắc ngã hỏi nặng
_DECOMPOSED = re.compile(r"[A-Za-zÀ-ỹ][\u0300-\u036f]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MASK_CACHE_BYTES = 16 << 20
_BREAKS = (r"[.!?…]+[\"”’)\]]*\s+", r"[;:,]\s+", r"\s+")  # where a part may end, best first


@cache
def variants(character: str) -> tuple[str, ...]:
    """The characters that differ from `character` only in Vietnamese diacritics, including itself."""
    base = _bases().get(character)
    return (character,) if base is None else _families()[base]


def syllables(text: str) -> int:
    """The number of space-separated words that contain a letter."""
    return sum(any(map(str.isalpha, piece)) for piece in text.split())


def strip_marks(text: str) -> str:
    """`text` without Vietnamese diacritics; đ becomes d. The length of NFC text does not change."""
    return "".join(_bases().get(character, character) for character in text)


@cache
def _families() -> dict[str, tuple[str, ...]]:
    found = {}
    for base, letters in _QUALITIES.items():
        tones = _TONES if base != "d" else ("",)
        marked = tuple(unicodedata.normalize("NFC", letter + tone) for letter in letters for tone in tones)
        found[base] = marked
        found[base.upper()] = tuple(one.upper() for one in marked)
    return found


@cache
def _bases() -> dict[str, str]:
    return {marked: base for base, family in _families().items() for marked in family}


class Restorer:
    """Restores text with a model, many parts in one batch. For one event loop at a time.

    `max_concurrent`: requests that run at the same time. Raises InvalidArgumentError if it is less than 1.
    """

    def __init__(self, model: Model, max_concurrent: int = 16) -> None:
        if max_concurrent < 1:
            raise InvalidArgumentError(f"max_concurrent: expected at least 1, got {max_concurrent}")
        self._model, self._max_concurrent = model, max_concurrent
        self._masks = Masks(model)

    async def lines(self, lines: Iterable[str] | AsyncIterator[str]) -> AsyncIterator[str]:
        """Each line with diacritics, in order, as soon as it and the lines before it are ready.

        Reads only a few lines ahead. A line keeps its line end; its letters are composed (NFC). Raises
        BinhdanError if the model fails.
        """
        limit = asyncio.Semaphore(self._max_concurrent)
        waiting: asyncio.Queue[asyncio.Task[str] | None] = asyncio.Queue(2 * self._max_concurrent)

        async def start() -> None:
            async for line in _each(lines):
                await waiting.put(asyncio.create_task(self._line(line, limit)))
            await waiting.put(None)

        starter = asyncio.create_task(start())
        try:
            while (task := await _next_task(waiting, starter)) is not None:
                yield await task
        finally:
            starter.cancel()
            while not waiting.empty():
                if (left := waiting.get_nowait()) is not None:
                    left.cancel()

    async def _line(self, line: str, limit: asyncio.Semaphore) -> str:
        if _SURROGATE.search(line):  # bytes that are not UTF-8
            return line
        parts = split(_DECOMPOSED.sub(lambda found: unicodedata.normalize("NFC", found[0]), line))
        return "".join(await asyncio.gather(*(self._part(part, limit) for part in parts)))

    async def _part(self, part: str, limit: asyncio.Semaphore) -> str:
        text = part.strip()
        if all(len(variants(character)) == 1 for character in text):
            return part
        begin = part.index(text)
        async with limit:
            answer = await self._model.achat(
                [{"role": "user", "content": QUESTION.format(text)}],
                mask=self._masks.of(text),
                max_tokens=len(text.encode()) + 8,
            )
        restored = str(answer)
        # If the context was full or the answer ended early, the rest of the part remains unchanged.
        if len(restored) > len(text) or strip_marks(restored) != strip_marks(text[: len(restored)]):
            restored = ""
        return part[:begin] + restored + text[len(restored) :] + part[begin + len(text) :]


# A node of a trie of token bytes: byte -> child, -1 -> the tokens that end here.
_Node = dict[int, Any]


class Masks:
    """Token masks that allow only variants of a text."""

    def __init__(self, model: Model) -> None:
        roles = model.token_roles()
        self._bits = bytes((len(roles) + 31) // 32 * 4)
        self._ends = self._bits_of([token for token, role in enumerate(roles) if role == 1])
        # Some vocabularies drop the space of the first token, so each is detokenized after another one.
        first = model.tokenize("a")[:1]
        skip = len(model.detokenize_bytes(first))
        self._bytes = [
            model.detokenize_bytes([*first, token])[skip:] if role == 0 else b""
            for token, role in enumerate(roles)
        ]
        self._longest = max(map(len, self._bytes))
        self._tree: _Node = {}
        for token, text in enumerate(self._bytes):
            node = self._tree
            for byte in text:
                node = node.setdefault(byte, {})
            if text:
                node.setdefault(-1, []).append(token)
        self._mask = lru_cache(max(_MASK_CACHE_BYTES // max(len(self._bits), 1), 16))(self._find)

    def of(self, text: str) -> Callable[[Sequence[int]], bytes]:
        """A mask for one answer. It allows only variants of `text` (NFC), then the end."""
        position, begun, seen = 0, b"", 0

        def mask(tokens: Sequence[int]) -> bytes:
            nonlocal position, begun, seen
            for token in tokens[seen:]:
                for byte in self._bytes[token]:
                    done, begun = _steps(text[position])[begun][byte]
                    position += done
            seen = len(tokens)
            if position == len(text):
                return self._ends
            return self._mask(text[position : position + self._longest], begun)

        return mask

    def _find(self, text: str, begun: bytes) -> bytes:
        """The mask of the tokens that continue `text`. `begun`: bytes of its first character that the
        answer already has."""
        found: list[int] = []

        def visit(node: _Node, position: int, begun: bytes) -> None:
            found.extend(node.get(-1, ()))
            if position == len(text):
                return
            for byte, (done, rest) in _steps(text[position])[begun].items():
                if (child := node.get(byte)) is not None:
                    visit(child, position + done, rest)

        visit(self._tree, 0, begun)
        return self._bits_of(found)

    def _bits_of(self, tokens: Iterable[int]) -> bytes:
        bits = bytearray(self._bits)
        for token in tokens:
            bits[token // 8] |= 1 << token % 8
        return bytes(bits)


@cache
def _steps(character: str) -> dict[bytes, dict[int, tuple[int, bytes]]]:
    """The UTF-8 of all variants of a character as a state machine.

    Bytes so far -> next byte -> (1, b"") at the end of a variant, else (0, bytes so far).
    """
    found: dict[bytes, dict[int, tuple[int, bytes]]] = {}
    for variant in variants(character):
        data = variant.encode("utf-8", "replace")
        for end in range(1, len(data) + 1):
            after = (1, b"") if end == len(data) else (0, data[:end])
            found.setdefault(data[: end - 1], {})[data[end - 1]] = after
    return found


def split(line: str, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """Splits a line into parts of at most `max_characters`, at the ends of sentences where possible."""
    parts = []
    while len(line) > max_characters:
        ends: list[int] = []
        for pattern in _BREAKS:
            matches = re.finditer(pattern, line[:max_characters])
            ends = [match.end() for match in matches if match.end() >= max_characters // 4]
            if ends:
                break
        end = ends[-1] if ends else max_characters
        parts.append(line[:end])
        line = line[end:]
    return [*parts, line] if line else parts


async def _each(lines: Iterable[str] | AsyncIterator[str]) -> AsyncIterator[str]:
    if isinstance(lines, AsyncIterator):
        async for line in lines:
            yield line
    else:
        for line in lines:
            yield line


async def _next_task(
    waiting: asyncio.Queue[asyncio.Task[str] | None], starter: asyncio.Task[None]
) -> asyncio.Task[str] | None:
    """The next task; raises the exception of `starter` if that has failed."""
    getter = asyncio.create_task(waiting.get())
    await asyncio.wait({getter, starter}, return_when=asyncio.FIRST_COMPLETED)
    if not getter.done() and starter.done() and starter.exception() is not None:
        getter.cancel()
        await starter
    return await getter
