"""Converts a checkpoint to a GGUF file, one tensor at a time, in about the memory of the largest tensor."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from gguf import GGUFWriter, LlamaFileType
from gguf.utility import size_label

from binhdan.quantize.checkpoint import open_checkpoint
from binhdan.quantize.families.family import Value
from binhdan.quantize.plan import OutputType, Plan, make_plan
from binhdan.quantize.tokenizer import write_vocabulary

__all__ = ["OutputType", "Summary", "convert"]

# The key general.file_type.
_FILE_TYPES: Final = {
    OutputType.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    OutputType.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    OutputType.F16: LlamaFileType.MOSTLY_F16,
    OutputType.BF16: LlamaFileType.MOSTLY_BF16,
    OutputType.F32: LlamaFileType.ALL_F32,
}


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


Progress = Callable[[int, int], None]  # (bytes written, total bytes)


def convert(
    source: Path,
    output: Path,
    output_type: OutputType,
    *,
    name: str | None = None,
    license: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Writes the checkpoint folder ``source`` as the GGUF file ``output``.

    The write is atomic: ``output`` is complete or absent. ``name`` (default: the folder's name) and
    ``license`` (an SPDX id) become metadata. Raises CheckpointError if the checkpoint cannot be converted,
    FileExistsError if ``output`` exists and ``force`` is false, OSError if writing fails.
    """
    if output.exists() and not force:
        raise FileExistsError(f"{output} exists; use --force to overwrite it")
    checkpoint = open_checkpoint(source)
    plan = make_plan(checkpoint, output_type)
    check_free_space(output, sum(tensor.nbytes for tensor in plan.tensors))
    with atomic_write(output) as temporary:
        writer = GGUFWriter(temporary, plan.family.name)
        try:
            _write_metadata(writer, plan, output_type, name or _text(source.resolve().name), license)
            _write_tensors(writer, plan, progress or (lambda done, total: None))
        finally:
            writer.close()
        size = temporary.stat().st_size
    return Summary(
        output=str(output),
        architecture=plan.family.name,
        parameters=sum(math.prod(tensor.shape) for tensor in plan.tensors),
        bytes=size,
        context=plan.context,
        vocabulary=len(plan.vocabulary.tokens),
        types=dict(Counter(tensor.type.name for tensor in plan.tensors)),
        fallbacks=plan.fallbacks,
        notes=plan.notes,
    )


# ---- the file ----------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    """Replaces surrogates: a folder name may not be valid UTF-8."""
    return name.encode("utf-8", "replace").decode()


def _write_metadata(
    writer: GGUFWriter, plan: Plan, output_type: OutputType, name: str, license: str | None
) -> None:
    writer.add_type("model")
    writer.add_name(name)
    parameters = sum(math.prod(tensor.shape) for tensor in plan.tensors)
    writer.add_size_label(size_label(parameters, parameters, 0, 0))
    if license:
        writer.add_license(license)
    writer.add_file_type(_FILE_TYPES[output_type])
    writer.add_quantization_version(2)
    for key, value in plan.keys.items():
        _write_key(writer, key, value)
    write_vocabulary(writer, plan.vocabulary)


def _write_key(writer: GGUFWriter, key: str, value: Value) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)


def _write_tensors(writer: GGUFWriter, plan: Plan, progress: Progress) -> None:
    for tensor in plan.tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, tensor.type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    total = sum(tensor.nbytes for tensor in plan.tensors)
    done = 0
    for tensor in plan.tensors:
        progress(done, total)
        writer.write_tensor_data(tensor.encode())
        done += tensor.nbytes
    progress(done, total)


def check_free_space(output: Path, size: int) -> None:
    folder = output.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected an existing folder for {output.name}")
    free = shutil.disk_usage(folder).free
    if free < size + (size >> 6):
        raise OSError(f"{folder}: expected {size:,} bytes of free space, got {free:,}")


@contextmanager
def atomic_write(output: Path) -> Iterator[Path]:
    """Yields a temporary file in the same folder, then renames it to ``output``; deletes it on an error."""
    handle, name = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".partial", dir=output.resolve().parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
