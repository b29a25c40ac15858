"""What a family of checkpoints is: rows of tensors, rows of GGUF keys, and their sizes.

GGUF names and keys are those of llama.cpp (gguf-py/gguf/constants.py, src/models/), so llama.cpp reads our
files. Names in a checkpoint are written here without the prefixes that checkpoint.canonical_name removes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from binhdan.quantize.config import Config
from binhdan.quantize.transforms import ROPE_TRANSFORMS, TransformName

Value = int | float | bool | str | list[int] | list[bool] | list[str]


@dataclass(frozen=True)
class Layer:
    """The sizes of one layer, and tags such as "full_attention" that decide which tensors it has."""

    dims: dict[str, int]
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sizes:
    """The sizes of a model by name. Names that differ by layer are in ``layers``.

    plan.py adds "context", which follows from RoPE, unless the family has set it.
    """

    model: dict[str, int]
    layers: list[Layer]

    def dims(self, layer: int | None) -> dict[str, int]:
        return self.model if layer is None else {**self.model, **self.layers[layer].dims}


@dataclass(frozen=True)
class Tensor:
    """One tensor: its names in the checkpoint and in GGUF, and its stored shape, rows first.

    ``{expert}`` in ``source`` stands for a number: the tensors of all experts become one. A shape with a 1
    in the middle is written without it. A model in which a size of the shape is 0 does not have the tensor.
    """

    source: str
    target: str
    shape: tuple[str | int, ...]  # names in Sizes, or numbers
    transforms: tuple[TransformName, ...] = ()
    only: str | None = None  # the tag of the layers that have the tensor; None: all layers
    unused_elsewhere: bool = False  # layers without the tag may store the tensor; it is left out
    optional: bool = False
    f32: bool = False  # a matrix that is never quantized

    def shape_in(self, dims: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else dims[size] for size in self.shape)


# ---- GGUF keys, without the prefix "ARCHITECTURE." ---------------------------------------------------------


@dataclass(frozen=True)
class Size:
    """A name in Sizes; an array if it differs by layer."""

    name: str
    dim: str


@dataclass(frozen=True)
class Number:
    """A positive number of config.json. Without a default, an absent or zero field has no key."""

    name: str
    field: str
    default: float | None = None


@dataclass(frozen=True)
class Count:
    """A count of config.json. Without a default, an absent field has no key."""

    name: str
    field: str
    default: int | None = None


@dataclass(frozen=True)
class Tagged:
    """One flag per layer: whether the layer has the tag. Left out if equal to ``unless(layers)``."""

    name: str
    tag: str
    unless: Callable[[int], list[bool]] | None = None


@dataclass(frozen=True)
class Labels:
    """The names of classes in the order of their ids, from an object such as {"0": "no", "1": "yes"}."""

    name: str
    field: str


@dataclass(frozen=True)
class Constant:
    name: str
    value: Value


Key = Size | Number | Count | Tagged | Labels | Constant

# Parts of a checkpoint that text generation does not use, by the start of their tensors' names.
_LEFT_OUT: Final = {
    **dict.fromkeys(("vision_tower.", "visual.", "multi_modal_projector.", "embed_vision."), "vision"),
    **dict.fromkeys(("audio_tower.", "embed_audio."), "audio"),
    "mtp.": "multi-token prediction",
}


@dataclass(frozen=True)
class Family:
    """A family of checkpoints: data, and at most two short functions for its sizes and its checks."""

    name: str  # general.architecture
    classes: tuple[str, ...]  # config.json's "architectures"
    keys: tuple[Key, ...]
    model: tuple[Tensor, ...]  # tensors outside the layers
    layer: tuple[Tensor, ...]  # tensors of one layer, without "layers.0." and "blk.0."
    sizes: Callable[[Config], Sizes]
    layer_prefix: str = "layers."  # before the number of a layer, in the checkpoint
    # config.json keys with their supported values; an absent key is accepted
    expects: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: MappingProxyType({}))
    # values of absent config.json keys, where transformers' class has others than config.py reads
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    check: Callable[[Config, Sizes], None] | None = None  # further conditions; raises CheckpointError
    rope: bool = True
    # RoPE rotates the pairs (0, 1), (2, 3)… of a head in GGUF; Hugging Face has (0, d/2), (1, d/2 + 1)…
    interleaved_rope: bool = False
    rope_types: tuple[str, ...] = ("default", "linear", "yarn", "llama3")
    sliding_rope: bool = False  # sliding attention layers have their own RoPE
    partial_rope: bool = False  # RoPE may rotate a part of each head
    context_field: str = "max_position_embeddings"
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType(_LEFT_OUT))
    dense_modules: bool = False  # sentence-transformers' Dense modules become dense_2 and dense_3

    def tensors(self, sizes: Sizes) -> Iterator[tuple[Tensor, int | None]]:
        """Yields every tensor with its full names and its layer, also those that a layer does not have."""
        for tensor in self.model:
            yield tensor, None
        for i in range(len(sizes.layers)):
            for tensor in self.layer:
                transforms = tensor.transforms
                if not self.interleaved_rope:
                    transforms = tuple(name for name in transforms if name not in ROPE_TRANSFORMS)
                source, target = f"{self.layer_prefix}{i}.{tensor.source}", f"blk.{i}.{tensor.target}"
                yield replace(tensor, source=source, target=target, transforms=transforms), i

    def has_key(self, name: str) -> bool:
        return any(key.name == name for key in self.keys)
