"""Writes a checkpoint or a GGUF file as a GGUF file with other tensor types, in bounded memory.

source → draft → steps that change it → types → encoded parts → partial file → verified → renamed
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from binhdan.quantize.checkpoint import CheckpointError, open_checkpoint
from binhdan.quantize.draft import Draft
from binhdan.quantize.encode import Importance, Weights, encode_draft
from binhdan.quantize.gguf_file import Layout, lay_out
from binhdan.quantize.gguf_source import is_gguf, read_gguf
from binhdan.quantize.keys import RawValue
from binhdan.quantize.output_file import check_output, partial_file
from binhdan.quantize.plan import draft_checkpoint
from binhdan.quantize.recipes import RECIPES, Choice, Override, Recipe, choose_types
from binhdan.quantize.tensor_types import SOURCES
from binhdan.runtime.errors import BadFormatError, BinhdanError, FileReadError, InvalidArgumentError
from binhdan.runtime.ffi import library

_SOURCES: Final = "expected a folder with config.json and *.safetensors, or a GGUF file"
_READ_BYTES: Final = 1 << 24

Progress = Callable[[int, int], None]  # (bytes written, total bytes)
Step = Callable[[Draft], Draft]  # a change between reading and choosing types


@dataclass(frozen=True)
class Summary:
    """The result of a conversion."""

    output: str
    architecture: str
    parameters: int
    bytes: int
    context: int
    vocabulary: int
    types: dict[str, int]  # type → number of tensors
    fallbacks: dict[str, str] = field(default_factory=dict)  # tensor → the type used instead, and why
    notes: list[str] = field(default_factory=list)


def convert(
    source: Path,
    output: Path,
    recipe: str = "q8_0",
    *,
    name: str | None = None,
    license: str | None = None,
    steps: Sequence[Step] = (),
    overrides: Sequence[Override] = (),
    importance: Importance | None = None,
    requantize: bool = False,
    threads: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Writes ``source``, a checkpoint folder or a GGUF file, as the GGUF file ``output``.

    ``output`` is complete and verified, or absent (or the old file). ``name`` (default: the folder's name)
    and ``license`` (an SPDX id) become metadata. ``threads`` 0: all usable cores. Raises BadFormatError if
    the source cannot be converted, InvalidArgumentError for an unknown recipe, OSError if ``output`` must not
    be replaced or writing fails.
    """
    chosen = find_recipe(recipe)
    draft = prepare_draft(source, output, name=name, license=license, steps=steps, force=force)
    choice = choose_types(draft, chosen, imatrix=importance is not None, overrides=overrides)
    weights = Weights(importance or {})
    return write_draft(
        draft, output, choice, weights, requantize=requantize, threads=threads, progress=progress
    )


def find_recipe(name: str) -> Recipe:
    """Raises InvalidArgumentError."""
    if name not in RECIPES:
        raise InvalidArgumentError(
            f"unknown recipe {name!r}; expected one of {', '.join(RECIPES)}", param="recipe"
        )
    return RECIPES[name]


def prepare_draft(
    source: Path,
    output: Path,
    *,
    name: str | None = None,
    license: str | None = None,
    steps: Sequence[Step] = (),
    force: bool = False,
) -> Draft:
    """Reads ``source`` and applies ``steps``, after a check that ``output`` may be written.

    Raises BinhdanError, OSError.
    """
    check_output(output, force=force)
    draft = open_draft(source, name=name, license=license)
    check_output(output, force=force, inputs=draft.files)
    for step in steps:
        draft = step(draft)
    return draft


def write_draft(
    draft: Draft,
    output: Path,
    choice: Choice,
    weights: Weights,
    *,
    requantize: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> Summary:
    """Writes ``draft``, which prepare_draft has returned for ``output``. Raises BinhdanError, OSError."""
    notes = draft.notes + check_requantization(draft, choice.types, requantize)
    _check_importance(draft, weights.importance)
    draft = with_file_type(draft, choice.file_type)
    layout = lay_out(draft, choice.types)
    with partial_file(output, layout.size) as (file, path):
        sums = write_tensors(file, draft, choice.types, layout, weights, threads, progress)
        file.flush()
        os.fsync(file.fileno())
        notes += _verify(file, path, draft, choice.types, layout, sums)
    tokens = draft.keys.get("tokenizer.ggml.tokens")
    return Summary(
        output=str(output),
        architecture=draft.architecture,
        parameters=draft.parameters,
        bytes=layout.size,
        context=draft.integer("context_length"),
        vocabulary=tokens.count if tokens else 0,
        types=dict(Counter(choice.types.values())),
        fallbacks=choice.fallbacks,
        notes=notes,
    )


def open_draft(source: Path, *, name: str | None = None, license: str | None = None) -> Draft:
    """Reads a checkpoint folder or a GGUF file. Raises BadFormatError, OSError."""
    if source.is_dir():
        # a folder name may not be valid UTF-8
        folder = source.resolve().name.encode("utf-8", "replace").decode()
        return draft_checkpoint(open_checkpoint(source), name=name or folder, license=license)
    if not source.exists():
        raise CheckpointError(f"{source} is missing; {_SOURCES}")
    if not source.is_file():
        raise CheckpointError(f"{source}: {_SOURCES}, got neither a file nor a folder")
    try:
        facts = _inspect(source)
    except BadFormatError as error:
        if is_gguf(source):
            raise
        raise CheckpointError(f"{_SOURCES}: {error}") from error
    _check_model(facts, source)
    draft = read_gguf(source)
    texts = {"general.name": name, "general.license": license}
    changed = {key: RawValue.of(text) for key, text in texts.items() if text}
    return replace(draft, keys=draft.keys | changed)


def _inspect(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(library().inspect(str(path)))
    return facts


def _check_model(facts: Mapping[str, Any], source: Path) -> list[str]:
    """Raises BadFormatError if the model lacks a part. Returns a remark if this build cannot run it."""
    if facts["damaged"]:
        raise BadFormatError(f"{source}: {facts['reason']}")
    return [] if facts["supported"] else [f"binhdan cannot run this model: {facts['reason']}"]


def check_requantization(draft: Draft, types: Mapping[str, str], allowed: bool) -> list[str]:
    """Warns about tensors that are quantized again. Raises InvalidArgumentError if that is not allowed."""
    again = [t for t in draft.tensors if types[t.name] != t.type and t.type not in SOURCES]
    if not again:
        return []
    example = f"{len(again)} tensors are already quantized ({again[0].name} is {again[0].type})"
    if not allowed:
        raise InvalidArgumentError(
            f"{draft.source}: {example}; quantizing them again loses quality: start from an F16 or Q8_0 file,"
            " or use --requantize"
        )
    return [f"{example} and were quantized again, which loses quality"]


def _check_importance(draft: Draft, importance: Importance) -> None:
    """Raises InvalidArgumentError if the importance is that of another model."""
    for tensor in draft.tensors:
        experts = tensor.shape[0] if len(tensor.shape) > 2 else 1
        weights = importance.get(tensor.name)
        if weights is not None and weights.size not in (tensor.columns, tensor.columns * experts):
            raise InvalidArgumentError(
                f"--imatrix: tensor {tensor.name}: expected {tensor.columns * experts:,} values, got"
                f" {weights.size:,}; is it the importance of another model?",
                param="imatrix",
            )


def with_file_type(draft: Draft, file_type: int | None) -> Draft:
    if file_type is None:
        return draft
    keys = {"general.file_type": file_type, "general.quantization_version": 2}
    return replace(draft, keys=draft.keys | {key: RawValue.of(value) for key, value in keys.items()})


# ---- writing and verifying ---------------------------------------------------------------------------------


def write_tensors(
    file: BinaryIO,
    draft: Draft,
    types: Mapping[str, str],
    layout: Layout,
    weights: Weights,
    threads: int = 0,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Writes the header and all tensors. Returns the CRC-32 of each tensor's bytes."""
    file.write(layout.header)
    total, done = sum(layout.sizes.values()), 0
    sums = dict.fromkeys(layout.sizes, 0)
    ends = dict(layout.offsets)
    for tensor, part in encode_draft(draft, types, weights, threads):
        if progress:
            progress(done, total)
        file.seek(ends[tensor.name])
        file.write(part)
        sums[tensor.name] = zlib.crc32(part, sums[tensor.name])
        ends[tensor.name] += len(part)
        done += len(part)
    if progress:
        progress(done, total)
    for name, end in ends.items():
        if end != layout.offsets[name] + layout.sizes[name]:
            raise BinhdanError(
                f"tensor {name} has {end - layout.offsets[name]:,} bytes, not {layout.sizes[name]:,}"
            )
    return sums


def _verify(
    file: BinaryIO,
    path: Path,
    draft: Draft,
    types: Mapping[str, str],
    layout: Layout,
    sums: Mapping[str, int],
) -> list[str]:
    """Reads the file back, from the disk where the system can. Raises FileReadError if it is not as written.

    Returns a remark if this build cannot run the file.
    """
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    found = _inspect(path)
    listed = {t["name"]: tuple(t["shape"][::-1]) for t in found["tensors"]}
    if listed != {t.name: t.shape for t in draft.tensors}:
        raise FileReadError(f"{path}: the header was read back with other tensors than were written")
    for name, expected in sums.items():
        file.seek(layout.offsets[name])
        left, crc = layout.sizes[name], 0
        while left:
            part = file.read(min(left, _READ_BYTES))
            if not part:
                break
            left -= len(part)
            crc = zlib.crc32(part, crc)
        if crc != expected:
            raise FileReadError(f"{path}: tensor {name} was read back with other bytes than were written")
    return _check_model(found, draft.source)
