"""Typed access to config.json. Every value may be hostile; each error names the file and the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from binhdan.quantize.checkpoint import CheckpointError


@dataclass
class Config:
    """The keys of config.json, or of an object inside it."""

    values: Mapping[str, Any]
    name: str = "config.json"
    notes: list[str] = field(default_factory=list)  # remarks for the user about the conversion

    def has(self, key: str) -> bool:
        return self.values.get(key) is not None

    def get(self, key: str) -> Any:
        """Returns the unchecked value, or None. null counts as absent."""
        return self.values.get(key)

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self.values.get(key)
        value = default if value is None else value
        if type(value) is not int or not low <= value <= high:
            raise self.error(key, f"an integer from {low} to {high:,}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.values.get(key)
        value = default if value is None else value
        # NaN fails both comparisons
        if isinstance(value, bool) or not (isinstance(value, int | float) and 1e-30 < value < 1e30):
            raise self.error(key, "a positive number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def numbers(self, key: str, length: int) -> list[float]:
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != length:
            raise self.error(key, f"a list of {length} numbers")
        items = Config({str(i): item for i, item in enumerate(value)}, f"{self.name}: {key}")
        return [items.number(str(i)) for i in range(length)]

    def counts(self, key: str) -> list[int]:
        value = self.values.get(key)
        if not isinstance(value, list) or not all(
            type(item) is int and 0 <= item < 1 << 31 for item in value
        ):
            raise self.error(key, "a list of counts")
        return value

    def strings(self, key: str, length: int) -> list[str] | None:
        """Returns a list with one string for each layer, or None if the key is absent."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "a list of strings")
        if len(value) < length:
            raise self.error(key, f"{length} strings, one per layer", f"{len(value)}")
        return value[:length]

    def part(self, key: str) -> Config:
        """Returns the object at ``key``; empty if the key is absent."""
        value = self.values.get(key)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self.error(key, "an object")
        return Config(value, f"{self.name}: {key}", self.notes)

    def expect(self, key: str, *allowed: Any) -> None:
        """Raises CheckpointError unless the key is absent or has one of the values."""
        value = self.values.get(key)
        if value is not None and value not in allowed:
            expected = " or ".join(repr(item) for item in allowed)
            raise CheckpointError(
                f"{self.name}: {key}: expected {expected}, got {str(value)[:80]!r};"
                " other values are not supported"
            )

    def error(self, key: str, expected: str, got: str | None = None) -> CheckpointError:
        got = repr(str(self.values.get(key))[:80]) if got is None else got
        return CheckpointError(f"{self.name}: {key}: expected {expected}, got {got}")


def text_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the keys of the language model, without those that are null.

    The keys of text_config, if present, replace the others. tie_word_embeddings is an exception: as in
    transformers, the outer one counts.
    """
    text = values.get("text_config")
    text = {} if text is None else text
    if not isinstance(text, dict):
        raise CheckpointError(f"config.json: text_config: expected an object, got {type(text).__name__}")
    merged = {**values, **text}
    if values.get("tie_word_embeddings") is not None:
        merged["tie_word_embeddings"] = values["tie_word_embeddings"]
    return {key: value for key, value in merged.items() if value is not None}
