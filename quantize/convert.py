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
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, LlamaFileType, RopeScalingType
from gguf.utility import size_label

from binhdan import _native
from binhdan.quantize.architectures import (
    IGNORED_SUFFIXES,
    Architecture,
    Weight,
    find_architecture,
)
from binhdan.quantize.checkpoint import Checkpoint, CheckpointError, StoredTensor, open_checkpoint
from binhdan.quantize.hyperparameters import Hyperparameters, read_hyperparameters
from binhdan.quantize.rope import interleave_rope_rows, llama3_frequency_factors
from binhdan.quantize.tokenizer import Vocabulary, read_vocabulary, write_vocabulary

_CHUNK_VALUES: Final = 1 << 22  # float32 values encoded at once: 16 MB
_F16_LIMIT: Final = 65520.0  # the smallest value that F16 rounds to inf


class OutputType(StrEnum):
    """The choices of `--type`. The choice decides the type of every tensor: see _choose_type."""

    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"


# The key general.file_type.
_FILE_TYPES: Final = {
    OutputType.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    OutputType.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    OutputType.F16: LlamaFileType.MOSTLY_F16,
    OutputType.BF16: LlamaFileType.MOSTLY_BF16,
    OutputType.F32: LlamaFileType.ALL_F32,
}
# The tensor type of the matrices. _choose_type lists the exceptions.
_MATRIX_TYPES: Final = {
    OutputType.Q8_0: GGMLQuantizationType.Q8_0,
    OutputType.Q4_0: GGMLQuantizationType.Q4_0,
    OutputType.F16: GGMLQuantizationType.F16,
    OutputType.BF16: GGMLQuantizationType.BF16,
    OutputType.F32: GGMLQuantizationType.F32,
}


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of the output file."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]  # rows first, as in numpy
    encode: Callable[[], npt.NDArray[np.uint8]]  # reads the source; returns the bytes to write

    @property
    def nbytes(self) -> int:
        block, block_bytes = GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // block * block_bytes


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


@dataclass(frozen=True)
class Plan:
    """The whole conversion, checked before any weight is read."""

    architecture: Architecture
    hyperparameters: Hyperparameters
    vocabulary: Vocabulary
    tensors: list[OutputTensor]
    fallbacks: dict[str, str]


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
    _check_free_space(output, sum(tensor.nbytes for tensor in plan.tensors))
    with _atomic_write(output) as temporary:
        writer = GGUFWriter(temporary, plan.architecture.name)
        try:
            _write_metadata(writer, plan, output_type, name or _text(source.resolve().name), license)
            _write_tensors(writer, plan, progress or (lambda done, total: None))
        finally:
            writer.close()
        size = temporary.stat().st_size
    hp = plan.hyperparameters
    return Summary(
        output=str(output),
        architecture=plan.architecture.name,
        parameters=sum(math.prod(tensor.shape) for tensor in plan.tensors),
        bytes=size,
        context=hp.context,
        vocabulary=hp.vocabulary,
        types=dict(Counter(tensor.type.name for tensor in plan.tensors)),
        fallbacks=plan.fallbacks,
        notes=[*hp.notes, *plan.vocabulary.notes],
    )


# ---- the plan ----------------------------------------------------------------------------------------------


def make_plan(checkpoint: Checkpoint, output_type: OutputType) -> Plan:
    """Checks every tensor name, shape and type. Raises CheckpointError."""
    architecture = find_architecture(checkpoint.config)
    hp = read_hyperparameters(checkpoint.config)
    stored = dict(checkpoint.tensors)
    tensors: list[OutputTensor] = []
    fallbacks: dict[str, str] = {}
    for weight in architecture.weights(hp):
        tensor = stored.pop(weight.source, None)
        if tensor is None and weight.optional:
            continue
        if tensor is None:
            raise CheckpointError(f"{checkpoint.folder}: tensor {weight.source!r} is missing")
        if tensor.shape != weight.shape_in(hp):
            expected, got = list(weight.shape_in(hp)), list(tensor.shape)
            raise CheckpointError(
                f"{tensor.file}: tensor {tensor.name}: config.json requires shape {expected}, got {got}"
            )
        tensor_type, reason = _choose_type(weight, tensor.shape, output_type, hp)
        if reason:
            fallbacks[weight.target] = reason
        tensor.check_readable()
        heads = getattr(hp, weight.rope_heads) if weight.rope_heads else None
        encode = partial(encode_tensor, tensor, tensor_type, heads)
        tensors.append(OutputTensor(weight.target, tensor_type, tensor.shape, encode))
    if hp.tied:
        stored.pop("lm_head.weight", None)  # a copy of the token embedding
    unknown = [name for name in stored if not name.endswith(IGNORED_SUFFIXES)]
    if unknown:
        others = f" ({len(unknown) - 1} other tensors are not either)" if len(unknown) > 1 else ""
        raise CheckpointError(
            f"{checkpoint.folder}: tensor {unknown[0]!r} is not part of architecture {architecture.name!r}"
            f"{others}; expected a checkpoint without extensions of the architecture"
        )
    if hp.rope_scaling and hp.rope_scaling.kind == "llama3":
        factors = llama3_frequency_factors(hp, hp.rope_scaling)
        tensors.insert(
            0,
            OutputTensor(
                "rope_freqs.weight", GGMLQuantizationType.F32, factors.shape, lambda: factors.view(np.uint8)
            ),
        )
    return Plan(architecture, hp, read_vocabulary(checkpoint, hp.vocabulary), tensors, fallbacks)


def _choose_type(
    weight: Weight, shape: tuple[int, ...], output_type: OutputType, hp: Hyperparameters
) -> tuple[GGMLQuantizationType, str]:
    """Returns a tensor's type, and the reason if it is a fallback for the requested one (else "")."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32, ""
    requested = _MATRIX_TYPES[output_type]
    block = GGML_QUANT_SIZES[requested][0]
    if shape[-1] % block:
        return GGMLQuantizationType.F16, f"F16: row length {shape[-1]} is not a multiple of {block}"
    is_output = weight.target == ("token_embd.weight" if hp.tied else "output.weight")
    if requested is GGMLQuantizationType.Q4_0 and is_output:
        return GGMLQuantizationType.Q8_0, "Q8_0: a 4-bit output matrix loses too much quality"
    return requested, ""


def encode_tensor(
    tensor: StoredTensor, tensor_type: GGMLQuantizationType, rope_heads: int | None = None
) -> npt.NDArray[np.uint8]:
    """Returns the bytes of a tensor in a tensor type of GGUF, (rows * bytes of a row,).

    With ``rope_heads``, reorders the rows of so many heads for interleaved RoPE. Raises CheckpointError for
    inf, NaN and values out of the range of F16.
    """
    block, block_bytes = GGML_QUANT_SIZES[tensor_type]
    out = np.empty((tensor.rows, tensor.columns * block_bytes // block), np.uint8)
    unit = tensor.rows // rope_heads if rope_heads else 1  # rows to read together
    step = max(1, _CHUNK_VALUES // (unit * tensor.columns)) * unit
    for begin in range(0, tensor.rows, step):
        end = min(begin + step, tensor.rows)
        values = tensor.read(begin, end)
        if rope_heads:
            values = interleave_rope_rows(values, (end - begin) // unit)
        if tensor_type is GGMLQuantizationType.F16 and (peak := np.abs(values).max()) >= _F16_LIMIT:
            raise CheckpointError(
                f"{tensor.file}: tensor {tensor.name}: {peak:g} is too large for F16; use --type bf16"
            )
        out[begin:end] = _native.encode(tensor_type.name, values.ravel()).reshape(end - begin, -1)
    return out.reshape(-1)


# ---- the file ----------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    """Replaces surrogates: a folder name may not be valid UTF-8."""
    return name.encode("utf-8", "replace").decode()


def _write_metadata(
    writer: GGUFWriter, plan: Plan, output_type: OutputType, name: str, license: str | None
) -> None:
    hp = plan.hyperparameters
    writer.add_type("model")
    writer.add_name(name)
    parameters = sum(math.prod(tensor.shape) for tensor in plan.tensors)
    writer.add_size_label(size_label(parameters, parameters, 0, 0))
    if license:
        writer.add_license(license)
    writer.add_file_type(_FILE_TYPES[output_type])
    writer.add_quantization_version(2)
    writer.add_block_count(hp.layers)
    writer.add_context_length(hp.context)
    writer.add_embedding_length(hp.width)
    writer.add_feed_forward_length(hp.feed_forward)
    writer.add_head_count(hp.heads)
    writer.add_head_count_kv(hp.kv_heads)
    writer.add_key_length(hp.head_dim)
    writer.add_value_length(hp.head_dim)
    writer.add_layer_norm_rms_eps(hp.rms_epsilon)
    writer.add_vocab_size(hp.vocabulary)
    writer.add_rope_dimension_count(hp.head_dim)
    writer.add_rope_freq_base(hp.rope_base)
    _write_rope_scaling(writer, hp)
    write_vocabulary(writer, plan.vocabulary)


def _write_rope_scaling(writer: GGUFWriter, hp: Hyperparameters) -> None:
    scaling = hp.rope_scaling
    if scaling is None or scaling.kind == "llama3":  # llama3 has the tensor rope_freqs.weight instead
        return
    writer.add_rope_scaling_type(RopeScalingType(scaling.kind))
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.kind != "yarn":
        return
    writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
    writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
    writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)
    if scaling.attention_factor is not None:
        # Readers multiply this key by YaRN's default 0.1 ln(factor) + 1 (Peng et al. 2023, eq. 22).
        default = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
        writer.add_rope_scaling_attn_factors(scaling.attention_factor / default)


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


def _check_free_space(output: Path, size: int) -> None:
    folder = output.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected an existing folder for {output.name}")
    free = shutil.disk_usage(folder).free
    if free < size + (size >> 6):
        raise OSError(f"{folder}: expected {size:,} bytes of free space, got {free:,}")


@contextmanager
def _atomic_write(output: Path) -> Iterator[Path]:
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
