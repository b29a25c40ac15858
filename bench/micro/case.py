"""One benchmark case of the forward pass: a model file, and the sizes of one prompt and one decode."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import binhdan
from binhdan.runtime.results import ModelInfo


def bytes_of_step(info: ModelInfo, depth: float, sequences: int = 1) -> float:
    """Bytes that one decode step reads: every weight once, and the keys and values of each sequence."""
    return info.bytes_per_token + sequences * info.kv_bytes_per_token * depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A prompt, and separately `decode` steps in which each of `sequences` sequences gets one token.

    Both start after `depth` tokens, which are not timed. prompt = 0 or decode = 0 skips that part. Raises
    InvalidArgumentError for sizes out of range.
    """

    model: Path
    threads: int
    prompt: int = 512
    decode: int = 128
    depth: int = 0
    sequences: int = 1

    def __post_init__(self) -> None:
        limits = {"threads": 1, "prompt": 0, "decode": 0, "depth": 0, "sequences": 1}
        for name, limit in limits.items():
            if (value := getattr(self, name)) < limit:
                raise binhdan.InvalidArgumentError(f"{name}: expected at least {limit}, got {value}")
        if not self.prompt and not self.decode:
            raise binhdan.InvalidArgumentError(
                "expected prompt or decode to be above 0, got 0 for both: nothing to measure"
            )

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"model": str(self.model)})

    @staticmethod
    def from_json(text: str) -> Case:
        fields = json.loads(text)
        return Case(**fields | {"model": Path(fields["model"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Output of an engine's child process: seconds (None for a skipped part), version, instruction sets."""

    prompt: float | None
    decode: float | None
    version: str
    instruction_sets: str  # the engine's own names; "" when it does not print them

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Times:
        return Times(**json.loads(text))
