"""Converts a LoRA adapter in PEFT's format to GGUF, in llama.cpp's format: lora_a and lora_b for each matrix.

PEFT adds B A x times alpha / r (alpha / sqrt(r) with rslora) to W x. GGUF has one alpha for all tensors and
the factor alpha / r; where an adapter has other factors, B is scaled.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from binhdan.quantize.checkpoint import CheckpointError, StoredTensor, canonical_name, read_header, read_json
from binhdan.quantize.config import Config, text_config
from binhdan.quantize.convert import Summary, write_tensors
from binhdan.quantize.draft import Draft, DraftTensor, Floats
from binhdan.quantize.encode import Weights
from binhdan.quantize.families import find_family
from binhdan.quantize.families.family import Tensor
from binhdan.quantize.gguf_file import lay_out
from binhdan.quantize.keys import RawValue, Value
from binhdan.quantize.output_file import check_output, partial_file
from binhdan.quantize.transforms import TRANSFORMS
from binhdan.runtime.errors import InvalidArgumentError

CONFIG: Final = "adapter_config.json"
TYPES: Final = ("f16", "f32")
_WEIGHTS: Final = "adapter_model.safetensors"
_NAME: Final = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")

# Settings of PEFT that change results, with the values that do not.
_EXPECTS: Final[dict[str, tuple[Any, ...]]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False,),
    "use_qalora": (False,),
    "lora_bias": (False,),
    "fan_in_fan_out": (False,),
    "modules_to_save": ([],),
    "layer_replication": ([],),
    "trainable_token_indices": ([], {}),
    "target_parameters": ([],),
    "alora_invocation_tokens": ([],),
    # pissa, olora, corda and loftq change the weights of the model, too
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}


@dataclass(frozen=True)
class _Pair:
    """The change of one matrix."""

    target: str  # in GGUF
    down: Floats  # (rank, columns)
    up: Floats  # (rows, rank)


def is_adapter(source: Path) -> bool:
    """Whether this is the folder of an adapter, with or without a configuration of its model."""
    return (source / CONFIG).is_file()


def convert_adapter(
    source: Path,
    output: Path,
    *,
    base: Path | None = None,
    tensor_type: str = "f16",
    name: str | None = None,
    force: bool = False,
) -> Summary:
    """Writes the adapter in the folder ``source`` as the GGUF file ``output``, which is complete or absent.

    ``base`` is a folder with the config.json of the model that the adapter changes; None: that in ``source``,
    or in the folder that adapter_config.json names. Raises CheckpointError for settings and tensors that are
    not supported, by name, and OSError if ``output`` cannot be written.
    """
    if tensor_type not in TYPES:
        raise InvalidArgumentError(
            f"--recipe: expected one of {', '.join(TYPES)} for an adapter, got {tensor_type!r}",
            param="recipe",
        )
    check_output(output, force=force, inputs=[source / _WEIGHTS])
    config = Config(read_json(source / CONFIG), CONFIG)
    for key, allowed in _EXPECTS.items():
        config.expect(key, *allowed)
    architecture, pairs = _read_pairs(source, config, _base_config(source, config, base))
    keys: dict[str, Value] = {
        "general.architecture": architecture,
        "general.type": "adapter",
        "general.name": name or source.resolve().name.encode("utf-8", "replace").decode(),
        "adapter.type": "lora",
        "adapter.lora.alpha": _alpha(config),
    }
    tensors = [
        _draft_tensor(f"{pair.target}.{suffix}", values)
        for pair in pairs
        for suffix, values in (("lora_a", pair.down), ("lora_b", pair.up))
    ]
    draft = Draft(source, {key: RawValue.of(value) for key, value in keys.items()}, tensors)
    types = {tensor.name: tensor_type.upper() for tensor in tensors}
    layout = lay_out(draft, types)
    with partial_file(output, layout.size) as (file, _):
        write_tensors(file, draft, types, layout, Weights({}), threads=1)
    ranks = sorted({len(pair.down) for pair in pairs})
    return Summary(
        output=str(output),
        architecture=architecture,
        parameters=draft.parameters,
        bytes=layout.size,
        context=0,
        vocabulary=0,
        types=dict(Counter(types.values())),
        notes=[f"LoRA adapter of rank {', '.join(map(str, ranks))} for {len(pairs)} matrices"],
    )


def _base_config(source: Path, config: Config, base: Path | None) -> dict[str, Any]:
    """The config.json of the adapter's model."""
    if base is not None:
        return read_json(base / "config.json" if base.is_dir() else base)
    named = config.get("base_model_name_or_path")
    folders = [source, *([Path(named)] if isinstance(named, str) and named else [])]
    for folder in folders:
        if (folder / "config.json").is_file():
            return read_json(folder / "config.json")
    raise CheckpointError(
        f"{source}: the conversion needs config.json of the model that the adapter changes"
        f" ({str(named)[:80]!r}); give a folder that has it with --base"
    )


def _alpha(config: Config) -> float:
    """The alpha of GGUF: alpha / r is the factor of most tensors."""
    rank = config.integer("r", 1, 1 << 16)
    alpha = config.number("lora_alpha", 8)
    return alpha * math.sqrt(rank) if config.flag("use_rslora", False) else alpha


def _factor(config: Config, module: str, rank: int) -> float:
    """The factor of B A x in PEFT."""
    patterns = config.part("alpha_pattern").values
    alpha = config.number("lora_alpha", 8)
    for pattern, value in patterns.items():
        try:
            fits = re.fullmatch(rf"(.*\.)?({pattern})", module)
        except re.error:
            raise config.error("alpha_pattern", "regular expressions") from None
        if fits:
            alpha = Config({"alpha": value}, f"{config.name}: alpha_pattern").number("alpha")
            break
    return alpha / (math.sqrt(rank) if config.flag("use_rslora", False) else rank)


def _read_pairs(source: Path, config: Config, base: Mapping[str, Any]) -> tuple[str, list[_Pair]]:
    """The architecture and all changes, in the order of the model's tensors."""
    family = find_family(base)
    sizes = family.sizes(Config({**family.defaults, **text_config(base)}))
    matrices = {
        canonical_name(tensor.source): (tensor, sizes.dims(layer)) for tensor, layer in family.tensors(sizes)
    }
    stored = _stored(source)
    pairs = {}
    for module, (down, up) in stored.items():
        if f"{module}.weight" not in matrices:
            raise CheckpointError(
                f"{source}: tensor {down.name}: architecture {family.name} has no matrix {module}.weight that"
                " an adapter can change"
            )
        tensor, dims = matrices[f"{module}.weight"]
        pairs[tensor.target] = _read_pair(config, module, tensor, dims, down, up)
    ordered = [pairs[tensor.target] for tensor, _ in matrices.values() if tensor.target in pairs]
    return family.name, ordered


def _stored(source: Path) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    """Module → A and B."""
    path = source / _WEIGHTS
    if not path.is_file():
        hint = f"; {CONFIG} is there: save the adapter again with safe_serialization=True"
        raise CheckpointError(f"{source}: expected {_WEIGHTS}{hint}")
    found: dict[str, dict[str, StoredTensor]] = {}
    for tensor in read_header(path):
        match = _NAME.fullmatch(tensor.name)
        if match is None:
            raise CheckpointError(
                f"{path}: tensor {tensor.name}: expected lora_A and lora_B of linear layers; embeddings, DoRA"
                " and modules_to_save are not supported"
            )
        tensor.check_readable()
        module = canonical_name(match[1].removeprefix("base_model.model."))
        if match[2] in found.setdefault(module, {}):
            raise CheckpointError(f"{path}: tensor {tensor.name}: there is another one for the same matrix")
        found[module][match[2]] = tensor
    for module, parts in found.items():
        if len(parts) != 2:
            raise CheckpointError(f"{path}: module {module}: expected lora_A and lora_B, got one of them")
    if not found:
        raise CheckpointError(f"{path}: the file has no tensors")
    return {module: (parts["A"], parts["B"]) for module, parts in found.items()}


def _read_pair(
    config: Config,
    module: str,
    tensor: Tensor,
    dims: Mapping[str, int],
    stored_down: StoredTensor,
    stored_up: StoredTensor,
) -> _Pair:
    shape = tensor.shape_in(dims)
    rank = stored_down.shape[0] if stored_down.shape else 0
    if len(shape) != 2 or rank == 0:
        raise CheckpointError(
            f"tensor {stored_down.name}: expected the change of a matrix with a rank above 0"
        )
    for part, expected in ((stored_down, (rank, shape[1])), (stored_up, (shape[0], rank))):
        if part.shape != expected:
            raise CheckpointError(
                f"tensor {part.name}: expected the shape {expected} for {module}, got {part.shape};"
                " is the config.json that of another model?"
            )
    down, up = stored_down.read(0, rank), stored_up.read(0, shape[0])
    for name in tensor.transforms:
        transform = TRANSFORMS[name](dims)
        if transform.values is not None:
            raise CheckpointError(f"tensor {stored_down.name}: changes of {module} are not supported")
        if transform.rows is not None:
            up = up[transform.rows]
        if transform.columns is not None:
            down = down[:, transform.columns]
    change = _factor(config, module, rank) / (_alpha(config) / rank)
    if not math.isclose(change, 1, rel_tol=1e-12):
        up = up * np.float32(change)
    return _Pair(tensor.target, down, up)


def _draft_tensor(name: str, values: Floats) -> DraftTensor:
    return DraftTensor(name, values.shape, "F32", lambda begin, end: values[begin:end])
