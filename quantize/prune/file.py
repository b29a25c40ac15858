"""Prunes the vocabulary of a GGUF file; all other tensors are copied byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf import GGUFReader, GGUFValueType, GGUFWriter, ReaderTensor

from binhdan.quantize.convert import atomic_write, check_free_space
from binhdan.quantize.prune.keys import PRUNED, has_token_rows
from binhdan.quantize.prune.pruning import Pruning, plan_pruning
from binhdan.quantize.prune.vocabulary import PruneError

Progress = Callable[[int, int], None]  # (bytes written, total bytes)


@dataclass(frozen=True)
class PrunedFile:
    pruning: Pruning
    bytes_before: int
    bytes: int


def prune_file(
    source: Path,
    output: Path,
    names: Sequence[str],
    texts: Sequence[Path] = (),
    *,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> PrunedFile:
    """Writes ``source`` as ``output`` with only the tokens that the lists ``names`` and the files ``texts``
    use.

    The write is atomic. Rows are whole blocks, so they are copied as they are: the logits of the tokens that
    are kept do not change. Raises PruneError if the file cannot be pruned, FileExistsError if ``output``
    exists and ``force`` is false, OSError if reading or writing fails.
    """
    if output.exists() and not force:
        raise FileExistsError(f"{output} exists; use --force to overwrite it")
    reader = _open(source)
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    if PRUNED in keys:
        raise PruneError(f"{source} is pruned already ({keys[PRUNED]}); prune the file that it was made from")
    pruning = plan_pruning(keys, names, texts)
    sizes = [_size(tensor, pruning) for tensor in reader.tensors]
    check_free_space(output, sum(sizes))
    with atomic_write(output) as temporary:
        writer = GGUFWriter(temporary, keys["general.architecture"])
        try:
            _write_keys(writer, pruning.keys, reader)
            _write_tensors(writer, reader.tensors, sizes, pruning, progress)
        finally:
            writer.close()
    return PrunedFile(pruning, source.stat().st_size, output.stat().st_size)


def _open(source: Path) -> GGUFReader:
    """gguf-py checks little, so a damaged file raises errors of many kinds."""
    try:
        return GGUFReader(source)
    except OSError:
        raise
    except Exception as error:
        raise PruneError(f"{source}: expected a GGUF file, got one that cannot be read: {error}") from error


def _size(tensor: ReaderTensor, pruning: Pruning) -> int:
    rows = int(tensor.shape[-1])
    size = int(tensor.n_bytes)
    return size // rows * len(pruning.kept) if has_token_rows(tensor.name, rows, pruning.vocabulary) else size


def _data(tensor: ReaderTensor, pruning: Pruning) -> npt.NDArray[Any]:
    if has_token_rows(tensor.name, int(tensor.shape[-1]), pruning.vocabulary):
        return np.ascontiguousarray(tensor.data[pruning.kept])
    return tensor.data


def _write_keys(writer: GGUFWriter, keys: dict[str, Any], reader: GGUFReader) -> None:
    for key, value in keys.items():
        if key == "general.architecture":  # the writer has added it
            continue
        if field := reader.fields.get(key):
            kind = field.types[0]
            element = field.types[-1] if kind == GGUFValueType.ARRAY else None
            writer.add_key_value(key, value, kind, element)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        else:
            writer.add_string(key, value)


def _write_tensors(
    writer: GGUFWriter,
    tensors: Sequence[ReaderTensor],
    sizes: Sequence[int],
    pruning: Pruning,
    progress: Progress,
) -> None:
    for tensor, size in zip(tensors, sizes, strict=True):
        shape = [int(n) for n in reversed(tensor.shape)]
        if size != tensor.n_bytes:
            shape[0] = len(pruning.kept)
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), size, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    done = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        progress(done, sum(sizes))
        writer.write_tensor_data(_data(tensor, pruning))
        done += size
    progress(done, sum(sizes))
