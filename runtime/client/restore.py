"""Restores the diacritics of Vietnamese text, and changes nothing else.

The model proposes, the text decides: at each step only those tokens may come that strip back to what stands
in the text, so that whatever a model says, letters, case, punctuation and spaces are those of the input.
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
# Models learn from sentences: a longer piece of a line is asked in parts.
MOST_CHARACTERS = 200

# Letters that Vietnamese writes with other marks, as they are typed without any.
_QUALITIES = {"a": "aăâ", "d": "dđ", "e": "eê", "i": "i", "o": "oôơ", "u": "uư", "y": "y"}
_TONES = ("", "\u0300", "\u0301", "\u0303", "\u0309", "\u0323")  # ngang huyền sắc ngã hỏi nặng
_DECOMPOSED = re.compile(r"[A-Za-zÀ-ỹ][\u0300-\u036f]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MASK_CACHE_BYTES = 16 << 20
_BREAKS = (r"[.!?…]+[\"”’)\]]*\s+", r"[;:,]\s+", r"\s+")  # where a part may end, the best first


@cache
def variants(character: str) -> tuple[str, ...]:
    """What a character may become: all that differ from it in Vietnamese marks alone; else itself."""
    base = _bases().get(character)
    return (character,) if base is None else _families()[base]


def syllables(text: str) -> int:
    """Pieces between spaces that have a letter."""
    return sum(any(map(str.isalpha, piece)) for piece in text.split())


def strip_marks(text: str) -> str:
    """`text` without Vietnamese marks; đ becomes d. As many characters, when `text` is NFC."""
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
    """Restores text with a model, many pieces at once. For one event loop at a time.

    `together`: requests that run at once. Raises InvalidArgumentError when it is less than 1.
    """

    def __init__(self, model: Model, together: int = 16) -> None:
        if together < 1:
            raise InvalidArgumentError(f"together: expected at least 1, got {together}")
        self._model, self._together = model, together
        self._masks = Masks(model)

    def restore(self, text: str) -> str:
        """All of `text`, as lines() does each line. Not to be called from a running event loop."""

        async def whole() -> str:
            return "".join([line async for line in self.lines(text.splitlines(keepends=True))])

        return asyncio.run(whole())

    async def lines(self, lines: Iterable[str] | AsyncIterator[str]) -> AsyncIterator[str]:
        """Each line restored, in order and as soon as those before it are; reads only a few lines ahead.

        A line comes back with its own end, its letters composed (NFC). Raises BinhdanError when the model
        cannot go on.
        """
        limit = asyncio.Semaphore(self._together)
        waiting: asyncio.Queue[asyncio.Task[str] | None] = asyncio.Queue(2 * self._together)

        async def start() -> None:
            async for line in _each(lines):
                await waiting.put(asyncio.create_task(self._line(line, limit)))
            await waiting.put(None)

        starter = asyncio.create_task(start())
        try:
            while (task := await _or_failure(waiting, starter)) is not None:
                yield await task
        finally:
            starter.cancel()
            while not waiting.empty():
                if (left := waiting.get_nowait()) is not None:
                    left.cancel()

    async def _line(self, line: str, limit: asyncio.Semaphore) -> str:
        if _SURROGATE.search(line):  # bytes that are no text
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
        # A context that was too short, or an end that came too soon: what is left stays as it was.
        if len(restored) > len(text) or strip_marks(restored) != strip_marks(text[: len(restored)]):
            restored = ""
        return part[:begin] + restored + text[len(restored) :] + part[begin + len(text) :]


# Bytes lead to nodes, -1 to the tokens that end here.
_Node = dict[int, Any]


class Masks:
    """Which tokens of a model may come next, for any text."""

    def __init__(self, model: Model) -> None:
        roles = model.token_roles()
        self._bits = bytes((len(roles) + 31) // 32 * 4)
        self._ends = self._with([token for token, role in enumerate(roles) if role == 1])
        # Behind another token, since some vocabularies drop the blank of the first.
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
        """A mask, for one answer, that lets nothing but variants of `text` (NFC) come, and then the end."""
        place, begun, seen = 0, b"", 0

        def mask(tokens: Sequence[int]) -> bytes:
            nonlocal place, begun, seen
            for token in tokens[seen:]:
                for byte in self._bytes[token]:
                    done, begun = _steps(text[place])[begun][byte]
                    place += done
            seen = len(tokens)
            if place == len(text):
                return self._ends
            return self._mask(text[place : place + self._longest], begun)

        return mask

    def _find(self, text: str, begun: bytes) -> bytes:
        found: list[int] = []

        def walk(node: _Node, place: int, begun: bytes) -> None:
            found.extend(node.get(-1, ()))
            if place == len(text):
                return
            for byte, (done, rest) in _steps(text[place])[begun].items():
                if (child := node.get(byte)) is not None:
                    walk(child, place + done, rest)

        walk(self._tree, 0, begun)
        return self._with(found)

    def _with(self, tokens: Iterable[int]) -> bytes:
        bits = bytearray(self._bits)
        for token in tokens:
            bits[token // 8] |= 1 << token % 8
        return bytes(bits)


@cache
def _steps(character: str) -> dict[bytes, dict[int, tuple[int, bytes]]]:
    """How the UTF-8 of a character's variants goes on: bytes -> next byte -> (1 when it is whole, bytes)."""
    found: dict[bytes, dict[int, tuple[int, bytes]]] = {}
    for variant in variants(character):
        data = variant.encode("utf-8", "replace")
        for end in range(1, len(data) + 1):
            after = (1, b"") if end == len(data) else (0, data[:end])
            found.setdefault(data[: end - 1], {})[data[end - 1]] = after
    return found


def split(line: str, most: int = MOST_CHARACTERS) -> list[str]:
    """Parts of at most `most` characters that make up the line again, cut where sentences end if they do."""
    parts = []
    while len(line) > most:
        ends: list[int] = []
        for pattern in _BREAKS:
            ends = [match.end() for match in re.finditer(pattern, line[:most]) if match.end() >= most // 4]
            if ends:
                break
        end = ends[-1] if ends else most
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


async def _or_failure(
    waiting: asyncio.Queue[asyncio.Task[str] | None], starter: asyncio.Task[None]
) -> asyncio.Task[str] | None:
    """The next task; raises what ended the one that starts them."""
    getter = asyncio.create_task(waiting.get())
    await asyncio.wait({getter, starter}, return_when=asyncio.FIRST_COMPLETED)
    if not getter.done() and starter.done() and starter.exception() is not None:
        getter.cancel()
        await starter
    return await getter
