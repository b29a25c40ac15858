"""Restores the diacritics of Vietnamese text, and changes nothing else. csrc/text/restore/ does the work."""

from __future__ import annotations

import asyncio
import codecs
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

from binhdan.runtime.client.teencode import expand
from binhdan.runtime.errors import InvalidArgumentError, ModelNotFoundError
from binhdan.runtime.ffi import RestoreOptions, TextFormat, ToneStyle, Typing, library
from binhdan.runtime.files import package_file

_FILE = "runtime/assets/restore-vi.bin"
_SCORER = "runtime/assets/restore-vi-scorer.bin"
_CODE = "c cc cpp cs css cu go h hpp ini java js kt php pl py r rb rs sh swift toml ts yaml yml"
_FORMATS: dict[str, TextFormat] = {
    **dict.fromkeys(("html", "htm", "xhtml", "xml", "svg"), "html"),
    **dict.fromkeys(("md", "markdown"), "markdown"),
    **dict.fromkeys(("srt", "vtt"), "srt"),
    **dict.fromkeys(("csv", "tsv"), "csv"),
    **dict.fromkeys(("json", "jsonl"), "json"),
    **dict.fromkeys(("po", "pot"), "po"),
    **dict.fromkeys(_CODE.split(), "code"),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """A word that has several possible forms.

    begin, end: its bytes in the UTF-8 of the input. alternatives: forms and their probabilities, best first,
    at most 5. A probability is over the likely forms of the whole sentence.
    """

    begin: int
    end: int
    alternatives: list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Restored:
    """text: the result. choices: in the order of the text."""

    text: str
    choices: list[Choice]


class RestoreSettings(TypedDict, total=False):
    """Keywords of all functions.

    style: where the tone of oa, oe and uy is written: "new" (hoà), "old" (hòa), or "keep" for the style of
    the text. format: only its natural language changes. min_confidence: a word with a lower probability
    stays. typing: the text has the keys of an input method: "telex" (tieesng), "vni" (tie6ng1). fast: the
    n-grams alone decide, without the scorer.
    """

    style: ToneStyle  # "keep"
    format: TextFormat  # "text"
    min_confidence: float  # 0.0
    typing: Typing  # "none"
    fast: bool  # False


def restore(text: str, *, teencode: bool = False, **settings: Unpack[RestoreSettings]) -> str:
    """The text with its diacritics.

    Typed marks stay, and a text with all its marks stays as it is. `RestoreSettings` describes the settings.
    teencode: the short forms of chat are written out (ko: không).
    Raises InvalidArgumentError for a text with a NUL character.
    """
    data = text.encode("utf-8", "surrogatepass")
    return restore_bytes(data, teencode=teencode, **settings).decode("utf-8", "surrogatepass")


async def arestore(text: str, *, teencode: bool = False, **settings: Unpack[RestoreSettings]) -> str:
    """`restore` for asyncio, in a thread."""
    return await asyncio.to_thread(restore, text, teencode=teencode, **settings)


def explain(text: str, **settings: Unpack[RestoreSettings]) -> Restored:
    """`restore`, with the forms that each word could have. Settings and errors as in `restore`."""
    data = text.encode("utf-8", "surrogatepass")
    found: dict[str, Any] = json.loads(
        library().explain_restoration(open_restorer(), data, _options(settings))
    )
    choices = [
        Choice(
            choice["begin"],
            choice["end"],
            [(one["text"], one["probability"]) for one in choice["alternatives"]],
        )
        for choice in found["choices"]
    ]
    return Restored(found["text"], choices)


def restore_bytes(data: bytes, *, teencode: bool = False, **settings: Unpack[RestoreSettings]) -> bytes:
    """`restore` for the bytes of a file: UTF-8, or UTF-16 with a byte order mark, and the same encoding back.

    Lines that are not UTF-8 stay. Raises InvalidArgumentError for other binary data.
    """
    options = _options(settings)
    for mark, encoding in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark) and not data.startswith(codecs.BOM_UTF32_LE):
            try:
                text = data[len(mark) :].decode(encoding)
            except UnicodeDecodeError as error:
                raise InvalidArgumentError(
                    f"expected {encoding} after its byte order mark: {error}"
                ) from None
            return mark + _restored(text.encode("utf-8", "surrogatepass"), options, teencode).decode(
                "utf-8", "surrogatepass"
            ).encode(encoding)
    return _restored(data, options, teencode)


def _options(settings: RestoreSettings) -> RestoreOptions:
    options = RestoreOptions(**settings)
    check_options(options.style, options.format, options.typing)
    return options


def _restored(data: bytes, options: RestoreOptions, teencode: bool) -> bytes:
    if teencode:
        # Lines that are not UTF-8 go through this unchanged.
        data = expand(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return library().restore(open_restorer(), data, options)


def format_of(path: str | os.PathLike[str]) -> TextFormat:
    """The format of a file by its extension; "text" for others."""
    return _FORMATS.get(Path(path).suffix.removeprefix(".").lower(), "text")


def card() -> dict[str, Any]:
    """What the n-gram file was made of: sources, licence, counts."""
    found: dict[str, Any] = json.loads(library().restorer_card(open_restorer()))
    return found


def check_options(style: str, format: str, typing: str = "none") -> None:
    """Raises InvalidArgumentError for an unknown style, format or input method."""
    for name, value, known in (
        ("style", style, get_args(ToneStyle)),
        ("format", format, get_args(TextFormat)),
        ("typing", typing, get_args(Typing)),
    ):
        if value not in known:
            raise InvalidArgumentError(f"{name}: expected one of {', '.join(known)}, got {value!r}")


def open_restorer() -> int:
    """The handle of the package's files. Raises ModelNotFoundError."""
    return _open(os.getpid())


@cache
def _open(process: int) -> int:
    """The handle of the package's files; a forked child opens its own."""
    files = []
    for name in (_FILE, _SCORER):
        if (file := package_file(name)) is None:
            raise ModelNotFoundError(f"found no {name} in the package: install it again")
        files.append(str(file))
    return library().open_restorer(*files)
