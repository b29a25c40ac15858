"""A checkpoint to a GGUF file, tensor by tensor: memory stays near the size of the largest tensor written."""

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
from binhdan.quantize.tokenizer import Vocabulary, read_vocabulary

_CHUNK_VALUES: Final = 1 << 22  # float32 values encoded at a time: 16 MB
_F16_LIMIT: Final = 65520.0  # rounds to infinity


class OutputType(StrEnum):
    """What the matrices become."""

    Q8_0 = "q8_0"
    Q4_0 = "q4_0"
    F16 = "f16"
    BF16 = "bf16"
    F32 = "f32"


_FILE_TYPES: Final = {
    OutputType.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    OutputType.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    OutputType.F16: LlamaFileType.MOSTLY_F16,
    OutputType.BF16: LlamaFileType.MOSTLY_BF16,
    OutputType.F32: LlamaFileType.ALL_F32,
}


@dataclass(frozen=True)
class OutputTensor:
    """A tensor as it will be written."""

    name: str
    type: GGMLQuantizationType
    shape: tuple[int, ...]  # rows first, as numpy has it
    make: Callable[[], npt.NDArray[np.uint8]]  # its bytes

    @property
    def nbytes(self) -> int:
        block, block_bytes = GGML_QUANT_SIZES[self.type]
        return math.prod(self.shape) // block * block_bytes


@dataclass(frozen=True)
class Summary:
    """What a conversion wrote."""

    output: str
    architecture: str
    parameters: int
    bytes: int
    context: int
    vocabulary: int
    types: dict[str, int]  # tensors of each type
    fallbacks: dict[str, str] = field(default_factory=dict)  # tensor → the type it got instead, and why
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """Everything that is known before the first weight is read."""

    architecture: Architecture
    hyperparameters: Hyperparameters
    vocabulary: Vocabulary
    tensors: list[OutputTensor]
    fallbacks: dict[str, str]


Progress = Callable[[int, int], None]  # bytes written of bytes in all


def convert(
    source: Path,
    output: Path,
    kind: OutputType,
    *,
    name: str | None = None,
    license: str | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Writes the checkpoint folder ``source`` as the GGUF file ``output``.

    ``output`` appears whole or not at all. ``name`` (default: the folder's) and ``license`` (an SPDX id) go
    into the file's metadata. Raises CheckpointError for a checkpoint that cannot be converted,
    FileExistsError without ``force``, and OSError when writing fails.
    """
    if output.exists() and not force:
        raise FileExistsError(f"{output} exists; --force overwrites it")
    checkpoint = open_checkpoint(source)
    plan = make_plan(checkpoint, kind)
    _check_room(output, sum(tensor.nbytes for tensor in plan.tensors))
    with _whole_file(output) as unfinished:
        writer = GGUFWriter(unfinished, plan.architecture.name)
        try:
            _write_metadata(writer, plan, kind, name or _text(source.resolve().name), license)
            _write_tensors(writer, plan, progress or (lambda done, total: None))
        finally:
            writer.close()
        size = unfinished.stat().st_size
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


def make_plan(checkpoint: Checkpoint, kind: OutputType) -> Plan:
    """Checks every name, shape and type of a checkpoint. Raises CheckpointError."""
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
                f"{tensor.file}: tensor {tensor.name}: expected shape {expected} by config.json, got {got}"
            )
        kept, why = _type_of(weight, tensor.shape, kind, hp)
        if why:
            fallbacks[weight.target] = why
        tensor.check_readable()
        heads = getattr(hp, weight.rotated) if weight.rotated else None
        make = partial(encode_tensor, tensor, kept, heads)
        tensors.append(OutputTensor(weight.target, kept, tensor.shape, make))
    if hp.tied:
        stored.pop("lm_head.weight", None)  # a copy of the embedding
    unknown = [name for name in stored if not name.endswith(IGNORED_SUFFIXES)]
    if unknown:
        raise CheckpointError(
            f"{checkpoint.folder}: tensor {unknown[0]!r} is not part of {architecture.name!r}"
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


def _type_of(
    weight: Weight, shape: tuple[int, ...], kind: OutputType, hp: Hyperparameters
) -> tuple[GGMLQuantizationType, str]:
    """The type a tensor gets, and why it is not the one asked for ("" when it is, or always so)."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32, ""
    wanted = GGMLQuantizationType[kind.name]
    block = GGML_QUANT_SIZES[wanted][0]
    if shape[-1] % block:
        return GGMLQuantizationType.F16, f"F16: rows of {shape[-1]} are no multiple of {block}"
    is_output = weight.target == ("token_embd.weight" if hp.tied else "output.weight")
    if wanted is GGMLQuantizationType.Q4_0 and is_output:
        return GGMLQuantizationType.Q8_0, "Q8_0: 4 bits in the output matrix cost too much quality"
    return wanted, ""


def encode_tensor(
    tensor: StoredTensor, kind: GGMLQuantizationType, rotated_heads: int | None = None
) -> npt.NDArray[np.uint8]:
    """A stored tensor as the bytes of a GGUF type; ``rotated_heads``: of so many heads, for interleaved RoPE.

    Raises CheckpointError for values that are not finite, or that F16 cannot hold.
    """
    block, block_bytes = GGML_QUANT_SIZES[kind]
    out = np.empty((tensor.rows, tensor.columns * block_bytes // block), np.uint8)
    unit = tensor.rows // rotated_heads if rotated_heads else 1  # rows that must be read together
    step = max(1, _CHUNK_VALUES // (unit * tensor.columns)) * unit
    for begin in range(0, tensor.rows, step):
        end = min(begin + step, tensor.rows)
        values = tensor.read(begin, end)
        if rotated_heads:
            values = interleave_rope_rows(values, (end - begin) // unit)
        if kind is GGMLQuantizationType.F16 and (peak := np.abs(values).max()) >= _F16_LIMIT:
            raise CheckpointError(
                f"{tensor.file}: tensor {tensor.name} holds {peak:g}, too large for F16; try bf16"
            )
        out[begin:end] = _native.encode(kind.name, values.ravel()).reshape(end - begin, -1)
    return out.reshape(-1)


# ---- the file ----------------------------------------------------------------------------------------------


def _text(name: str) -> str:
    return name.encode("utf-8", "replace").decode()


def _write_metadata(writer: GGUFWriter, plan: Plan, kind: OutputType, name: str, license: str | None) -> None:
    hp = plan.hyperparameters
    writer.add_type("model")
    writer.add_name(name)
    parameters = sum(math.prod(tensor.shape) for tensor in plan.tensors)
    writer.add_size_label(size_label(parameters, parameters, 0, 0))
    if license:
        writer.add_license(license)
    writer.add_file_type(_FILE_TYPES[kind])
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
    _write_vocabulary(writer, plan.vocabulary)


def _write_rope_scaling(writer: GGUFWriter, hp: Hyperparameters) -> None:
    scaling = hp.rope_scaling
    if scaling is None or scaling.kind == "llama3":  # llama3 is the tensor rope_freqs.weight
        return
    writer.add_rope_scaling_type(RopeScalingType(scaling.kind))
    writer.add_rope_scaling_factor(scaling.factor)
    if scaling.kind != "yarn":
        return
    writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
    writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
    writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)
    if scaling.attention_factor is not None:
        # Readers multiply YaRN's own 0.1 ln(factor) + 1 (Peng et al. 2023, eq. 22) by this.
        own = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
        writer.add_rope_scaling_attn_factors(scaling.attention_factor / own)


def _write_vocabulary(writer: GGUFWriter, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    if vocabulary.model == "llama":
        writer.add_token_scores(vocabulary.scores)
    writer.add_token_types([int(kind) for kind in vocabulary.kinds])
    if vocabulary.model == "gpt2":
        writer.add_token_merges(vocabulary.merges)
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for name, token in vocabulary.special_ids.items():
        add[name](token)
    writer.add_add_bos_token(vocabulary.add_bos)
    writer.add_add_eos_token(vocabulary.add_eos)
    if vocabulary.model == "llama":
        writer.add_add_space_prefix(vocabulary.add_space_prefix)
    if vocabulary.chat_template:
        writer.add_chat_template(vocabulary.chat_template)


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
        writer.write_tensor_data(tensor.make())
        done += tensor.nbytes
    progress(done, total)


def _check_room(output: Path, size: int) -> None:
    folder = output.resolve().parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder to write {output.name} into")
    free = shutil.disk_usage(folder).free
    if free < size + (size >> 6):
        raise OSError(f"{folder}: {size:,} bytes needed, {free:,} free")


@contextmanager
def _whole_file(output: Path) -> Iterator[Path]:
    """A temporary file beside ``output`` that takes its name when the block ends well, else goes."""
    handle, name = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".partial", dir=output.resolve().parent)
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        umask = os.umask(0)
        os.umask(umask)
        unfinished.chmod(0o666 & ~umask)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
