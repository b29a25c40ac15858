"""Reads config.toml into typed values."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Mixture:
    seed: int
    passes: int
    plain: float
    about: float
    about_given: float
    about_unknown: float
    titles: float
    talk: float
    registers: dict[str, float]
    segments: dict[str, float]


@dataclass(frozen=True)
class Stage:
    context: int
    longest: int
    share: float
    tokens: int
    talk: float | None = None  # in the place of that of the mixture


@dataclass(frozen=True)
class Training:
    seed: int
    threads: int
    batch: int
    micro_batch: int
    muon_lr: float
    adam_lr: float
    weight_decay: float
    warmup: int
    cooldown: float
    checkpoint_minutes: float


@dataclass(frozen=True)
class Config:
    data: tuple[Path, ...]
    work: Path
    start: Path | None
    tokenizer_size: int
    model: dict[str, Any]  # the fields of model.Shape without `vocab`
    mixture: Mixture
    stages: tuple[Stage, ...]
    train: Training

    def documents(self, name: str) -> list[Path]:
        """Returns the paths of `name`.jsonl or `name`.jsonl.xz in the folders of `data`.

        Raises FileNotFoundError if a folder has neither.
        """
        return [_file_in(folder, name) for folder in self.data]

    @property
    def tokenizer(self) -> Path:
        return self.work / "tokenizer.json"

    def shard(self, stage: int, part: str) -> Path:
        """Returns the path of a stage's token rows (`part` "tokens") or of their loss mask ("mask")."""
        return self.work / f"stage{stage}-{part}.npy"


def _file_in(folder: Path, name: str) -> Path:
    for suffix in (".jsonl", ".jsonl.xz"):
        if (path := folder / (name + suffix)).is_file():
            return path
    raise FileNotFoundError(f"expected {name}.jsonl or {name}.jsonl.xz in {folder}")


def read_config(path: Path) -> Config:
    """Raises OSError, tomllib.TOMLDecodeError, KeyError for a missing key, TypeError for an unknown key."""
    spec = tomllib.loads(path.read_text(encoding="utf-8"))
    paths = spec["paths"]

    def resolve(variable: str, value: str) -> Path:
        return Path(os.environ.get(variable) or path.parent / value).resolve()

    given = os.environ.get("BINHDAN_DATA")
    folders = given.split(os.pathsep) if given else paths["data"]
    return Config(
        data=tuple((path.parent / folder).resolve() for folder in folders),
        work=resolve("BINHDAN_WORK", paths["work"]),
        start=resolve("BINHDAN_START", paths["start"])
        if paths["start"] or os.environ.get("BINHDAN_START")
        else None,
        tokenizer_size=spec["tokenizer"]["size"],
        model=spec["model"],
        mixture=Mixture(**spec["mixture"]),
        stages=tuple(Stage(**stage) for stage in spec["stages"]),
        train=Training(**spec["train"]),
    )
