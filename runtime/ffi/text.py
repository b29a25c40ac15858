"""Functions for text without a language model: restoring diacritics, spelling."""

from __future__ import annotations

from typing import Any

from binhdan.runtime.ffi.binding import Binding
from binhdan.runtime.ffi.types import RestoreOptions, TextFormat


class TextFunctions(Binding):
    def open_restorer(self, path: str, scorer: str | None = None) -> int:
        out = self._ffi.new("binhdan_restorer *")
        file = self._c_string(path)
        if scorer is None:
            self._check(self._lib.binhdan_restorer_open(file, out))
        else:
            self._check(self._lib.binhdan_restorer_open_scored(file, self._c_string(scorer), out))
        return int(out[0])

    def restorer_card(self, restorer: int) -> str:
        return self._read_text(self._lib.binhdan_restorer_card, restorer).decode("utf-8", "replace")

    def restore(self, restorer: int, text: bytes, options: RestoreOptions) -> bytes:
        given, buffer = self._restore_options(options), self._ffi.from_buffer(text)
        first = len(text) + len(text) // 2 + 64
        return self._read_text(self._lib.binhdan_restore, restorer, buffer, len(text), given, first=first)

    def explain_restoration(self, restorer: int, text: bytes, options: RestoreOptions) -> bytes:
        """JSON; see binhdan_restore_explain."""
        given, buffer = self._restore_options(options), self._ffi.from_buffer(text)
        first = 64 * len(text) + 4096
        return self._read_text(
            self._lib.binhdan_restore_explain, restorer, buffer, len(text), given, first=first
        )

    def spell(self, restorer: int, text: bytes, format: TextFormat, min_confidence: float) -> bytes:
        """JSON; see binhdan_spell."""
        options = self._struct(
            "binhdan_spell_options",
            format=self._value(f"FORMAT_{format.upper()}"),
            min_confidence=min_confidence,
        )
        buffer, first = self._ffi.from_buffer(text), 4 * len(text) + 4096
        return self._read_text(self._lib.binhdan_spell, restorer, buffer, len(text), options, first=first)

    def _restore_options(self, options: RestoreOptions) -> Any:
        return self._struct(
            "binhdan_restore_options",
            style=self._value(f"STYLE_{options.style.upper()}"),
            format=self._value(f"FORMAT_{options.format.upper()}"),
            min_confidence=options.min_confidence,
            typing=self._value(f"TYPING_{options.typing.upper()}"),
            fast=int(options.fast),
        )
