"""Makes the draft of a checkpoint: its keys and tensors, all checked before any weight is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from gguf import LlamaFileType
from gguf.utility import size_label

from binhdan.quantize.checkpoint import Checkpoint, CheckpointError, StoredTensor
from binhdan.quantize.config import Config, text_config
from binhdan.quantize.draft import Draft, DraftTensor, Floats
from binhdan.quantize.families import find_family
from binhdan.quantize.families.family import (
    Constant,
    Count,
    Family,
    Key,
    Labels,
    Number,
    Size,
    Sizes,
    Tagged,
    Tensor,
    Value,
)
from binhdan.quantize.keys import RawValue
from binhdan.quantize.rope import Rope, read_rope
from binhdan.quantize.sentence_transformers import SentenceModules, read_modules
from binhdan.quantize.stored_rows import StoredRows
from binhdan.quantize.tensor_types import FLOATS
from binhdan.quantize.tokenizer import read_vocabulary, vocabulary_keys

# Buffers in old checkpoints. The runtime computes them from the config.
_IGNORED_SUFFIXES: Final = (
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    "embeddings.position_ids",
)
_OUTPUT: Final = "lm_head.weight"


def draft_checkpoint(checkpoint: Checkpoint, *, name: str, license: str | None = None) -> Draft:
    """Checks every key, tensor name, shape and type, and returns the model. Raises CheckpointError."""
    family = find_family(checkpoint.config)
    c = Config({**family.defaults, **text_config(checkpoint.config)})
    for key, allowed in family.expects.items():
        c.expect(key, *allowed)
    sizes = family.sizes(c)
    if family.check:
        family.check(c, sizes)
    rope = read_rope(c, family, sizes)
    _limit_to_window(c, family, rope)
    sizes.model.setdefault("context", rope.context)
    modules = read_modules(checkpoint.folder, sizes.model["width"])
    tensors = _Tensors(checkpoint, family, sizes, c)
    tensors.add_all(rope, modules)
    vocabulary = read_vocabulary(
        _without_tokens_beyond(checkpoint, sizes.model["vocabulary"], c.notes), sizes.model["vocabulary"]
    )
    parameters = sum(math.prod(tensor.shape) for tensor in tensors.out)
    general: dict[str, Value | None] = {
        "general.architecture": family.name,
        "general.type": "model",
        "general.name": name,
        "general.size_label": size_label(parameters, parameters, 0, 0),
        "general.license": license,
        "general.file_type": int(LlamaFileType.ALL_F32),  # the recipe sets it
        "general.quantization_version": 2,
    }
    values = general | _keys(c, family, sizes, rope, modules)
    return Draft(
        source=checkpoint.folder,
        # a reader takes an absent key for an empty string or list
        keys={key: RawValue.of(value) for key, value in values.items() if value not in (None, "", [])}
        | vocabulary_keys(vocabulary),
        tensors=tensors.out,
        notes=[*c.notes, *vocabulary.notes],
        files=sorted({tensor.file for tensor in checkpoint.tensors.values()}),
    )


# ---- keys --------------------------------------------------------------------------------------------------


def _keys(c: Config, family: Family, sizes: Sizes, rope: Rope, modules: SentenceModules) -> dict[str, Value]:
    keys: dict[str, Value] = {}
    for key in family.keys:
        value = _value(key, c, sizes)
        if value is not None:
            keys[key.name] = value
    keys |= rope.keys
    if modules.pooling_type is not None:
        keys["pooling_type"] = modules.pooling_type
    for name, tensor in modules.dense.items():
        keys[f"{name}_feat_out"], keys[f"{name}_feat_in"] = tensor.shape
    return {
        name if name.startswith("tokenizer.") else f"{family.name}.{name}": value
        for name, value in keys.items()
    }


def _value(key: Key, c: Config, sizes: Sizes) -> Value | None:
    match key:
        case Size():
            by_layer = [sizes.dims(i)[key.dim] for i in range(len(sizes.layers))]
            return by_layer[0] if len(set(by_layer)) == 1 else by_layer
        case Number():
            absent = key.default is None and not c.get(key.field)
            return None if absent else c.number(key.field, key.default)
        case Count():
            absent = key.default is None and not c.has(key.field)
            return None if absent else c.integer(key.field, 0, 1 << 30, key.default)
        case Tagged():
            flags = [key.tag in layer.tags for layer in sizes.layers]
            return None if key.unless and flags == key.unless(len(flags)) else flags
        case Labels():
            labels = c.part(key.field)
            names = [labels.get(str(i)) for i in range(len(labels.values))]
            if not all(isinstance(name, str) for name in names):
                raise c.error(key.field, 'an object of names: {"0": …, "1": …}')
            return names or None
        case Constant():
            return key.value


def _limit_to_window(c: Config, family: Family, rope: Rope) -> None:
    """Limits the context to a window that GGUF has no key for: up to there, full attention is the same."""
    if family.has_key("attention.sliding_window") or c.get("use_sliding_window") is False:
        return
    if not c.has("sliding_window"):
        return
    window = c.integer("sliding_window", 1, 1 << 30)
    if window < rope.context:
        c.notes.append(f"context reduced from {rope.context:,} to the sliding window of {window:,} tokens")
        rope.context = window


# ---- vocabulary --------------------------------------------------------------------------------------------


def _without_tokens_beyond(checkpoint: Checkpoint, size: int, notes: list[str]) -> Checkpoint:
    """Leaves out added tokens without a row in the embedding, such as a [PAD] added for training."""
    added = checkpoint.tokenizer.get("added_tokens")
    if not isinstance(added, list):
        return checkpoint

    def is_beyond(entry: Any) -> bool:
        token = entry.get("id") if isinstance(entry, dict) else None
        return type(token) is int and token >= size

    beyond = [entry for entry in added if is_beyond(entry)]
    if not beyond:
        return checkpoint
    names = ", ".join(str(entry.get("content"))[:40] for entry in beyond[:5])
    notes.append(
        f"added tokens left out, because the embedding has only {size:,} rows: {names}"
        + (f" and {len(beyond) - 5} more" if len(beyond) > 5 else "")
    )
    kept = [entry for entry in added if not is_beyond(entry)]
    return replace(checkpoint, tokenizer={**checkpoint.tokenizer, "added_tokens": kept})


# ---- tensors -----------------------------------------------------------------------------------------------


class _Tensors:
    """Matches the tensors of a checkpoint with the rows of its family."""

    def __init__(self, checkpoint: Checkpoint, family: Family, sizes: Sizes, c: Config) -> None:
        self.folder = checkpoint.folder
        self.stored = dict(checkpoint.tensors)  # those that no row has used
        self.family, self.sizes, self.c = family, sizes, c
        self.out: list[DraftTensor] = []

    def add_all(self, rope: Rope, modules: SentenceModules) -> None:
        for name, values in rope.tensors.items():
            self.out.append(DraftTensor(name, values.shape, "F32", _rows_of(values)))
        self._drop_tied_output()
        unused = 0
        for tensor, layer in self.family.tensors(self.sizes):
            shape = tensor.shape_in(self.sizes.dims(layer))
            exists = 0 not in shape and (
                tensor.only is None or layer is None or tensor.only in self.sizes.layers[layer].tags
            )
            if exists:
                self._add(tensor, shape, self.sizes.dims(layer))
            elif tensor.unused_elsewhere:
                unused += self.stored.pop(tensor.source, None) is not None
        if unused:
            self.c.notes.append(f"{unused} tensors of layers that share keys and values are left out")
        self._leave_out_parts()
        self._check_all_used()
        self._add_dense(modules)

    def _drop_tied_output(self) -> None:
        """Drops an output matrix that is a copy of the token embedding."""
        output = self.stored.get(_OUTPUT)
        flag = self.c.get("tie_word_embeddings")
        if output is None:
            if flag is False and any(t.source == _OUTPUT for t in self.family.model):
                raise CheckpointError(
                    f"{self.folder}: tensor {_OUTPUT!r} is missing, and config.json has"
                    " tie_word_embeddings false"
                )
            return
        embedding = self.stored.get("embed_tokens.weight")
        if flag is not True or embedding is None:
            return
        if same_values(output, embedding):
            del self.stored[_OUTPUT]
            return
        self.c.notes.append(
            f"tie_word_embeddings is true, but {output.name} differs from {embedding.name}: both are kept"
        )

    def _add(self, tensor: Tensor, shape: tuple[int, ...], dims: Mapping[str, int]) -> None:
        sources = self._sources(tensor, dims)
        if not sources:
            return
        for source in sources:
            if source.shape != shape:
                hint = ""
                if tensor.target == "token_embd.weight" and source.shape[1:] == shape[1:]:
                    hint = f"; if the checkpoint is right, set vocab_size to {source.shape[0]}"
                raise CheckpointError(
                    f"{source.file}: tensor {source.name}: config.json requires shape {list(shape)},"
                    f" got {list(source.shape)}{hint}"
                )
            source.check_readable()
        if tensor.transforms and "cut_positions" in tensor.transforms:
            shape = (dims["context"], *shape[1:])
        shape = tuple(n for i, n in enumerate(shape) if n != 1 or i in (0, len(shape) - 1))
        if "{expert}" in tensor.source:
            shape = (len(sources), *shape)
        rows = StoredRows(sources, shape, tensor.transforms, dims)
        kept_type = "F32" if len(shape) == 1 or tensor.f32 else _source_type(sources)
        self.out.append(DraftTensor(tensor.target, shape, kept_type, rows.read))

    def _sources(self, tensor: Tensor, dims: Mapping[str, int]) -> list[StoredTensor]:
        """Returns the tensors of a row, one or one per expert; none if the row is optional and absent."""
        experts = range(dims["experts"]) if "{expert}" in tensor.source else range(1)
        names = [tensor.source.replace("{expert}", str(i)) for i in experts]
        if tensor.optional and names[0] not in self.stored:
            return []
        for name in names:
            if name not in self.stored:
                raise CheckpointError(f"{self.folder}: tensor {name!r} is missing, also with a prefix")
        return [self.stored.pop(name) for name in names]

    def _leave_out_parts(self) -> None:
        counts: Counter[str] = Counter()
        for name in list(self.stored):
            for prefix, part in self.family.left_out.items():
                if name.startswith(prefix):
                    counts[part] += 1
                    del self.stored[name]
                    break
        for part, count in counts.items():
            self.c.notes.append(f"{count} tensors are left out: {part}")

    def _check_all_used(self) -> None:
        unknown = [t for name, t in self.stored.items() if not name.endswith(_IGNORED_SUFFIXES)]
        if unknown:
            others = f" ({len(unknown) - 1} other tensors are not either)" if len(unknown) > 1 else ""
            raise CheckpointError(
                f"{self.folder}: tensor {unknown[0].name!r} is not part of architecture"
                f" {self.family.name!r}{others}; expected a checkpoint without extensions of the architecture"
            )

    def _add_dense(self, modules: SentenceModules) -> None:
        if modules.dense and not self.family.dense_modules:
            raise CheckpointError(
                f"{self.folder}: modules.json: Dense modules are not supported for {self.family.name!r}"
            )
        for name, source in modules.dense.items():
            source.check_readable()
            rows = StoredRows([source], source.shape)
            self.out.append(DraftTensor(f"{name}.weight", source.shape, _source_type([source]), rows.read))


def _source_type(sources: Sequence[StoredTensor]) -> str:
    """Returns the type of GGUF that stores the values as they are (F64 as F32)."""
    stored = sources[0].dtype
    return stored if stored in FLOATS else "F32"


def _rows_of(vector: Floats) -> Callable[[int, int], Floats]:
    return lambda begin, end: vector.reshape(1, -1)[begin:end]


def same_values(a: StoredTensor, b: StoredTensor) -> bool:
    """Returns whether two tensors have the same values; reads them in parts."""
    if a.shape != b.shape or len(a.shape) != 2:
        return False
    a.check_readable()
    b.check_readable()
    step = max(1, (1 << 22) // a.columns)
    return all(
        np.array_equal(a.read(i, min(i + step, a.rows)), b.read(i, min(i + step, a.rows)))
        for i in range(0, a.rows, step)
    )
