"""What is measured: one prompt or one decode, of a size, on a model file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import binhdan
from binhdan.runtime.results import ModelInfo


def bytes_of_step(info: ModelInfo, depth: float, sequences: int = 1) -> float:
    """Bytes that one step of decoding reads: every weight once, and the keys and values of each sequence."""
    return info.bytes_per_token + sequences * info.kv_bytes_per_token * depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A prompt, and apart from it steps of decoding in which each of some sequences gets a token.

    Both begin when `depth` tokens stand before, which is not timed. 0 leaves the prompt or the decode out.
    """

    model: Path
    threads: int
    prompt: int = 512
    decode: int = 128
    depth: int = 0
    sequences: int = 1

    def __post_init__(self) -> None:
        least = {"threads": 1, "prompt": 0, "decode": 0, "depth": 0, "sequences": 1}
        for name, limit in least.items():
            if (value := getattr(self, name)) < limit:
                raise binhdan.InvalidArgumentError(f"{name}: expected at least {limit}, got {value}")
        if not self.prompt and not self.decode:
            raise binhdan.InvalidArgumentError("expected tokens of prompt or to decode, got none of both")

    def to_json(self) -> str:
        return json.dumps(asdict(self) | {"model": str(self.model)})

    @staticmethod
    def from_json(text: str) -> Workload:
        fields = json.loads(text)
        return Workload(**fields | {"model": Path(fields["model"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What an engine's child process tells: seconds, None for what was left out, and who it is."""

    prompt: float | None
    decode: float | None
    version: str
    instruction_sets: str  # as the engine itself names them; "" when it does not

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Times:
        return Times(**json.loads(text))
