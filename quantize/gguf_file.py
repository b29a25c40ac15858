"""The layout of a GGUF file that is written: header, then the data of each tensor at its offset."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from binhdan.quantize.draft import Draft
from binhdan.quantize.keys import RawValue
from binhdan.quantize.tensor_types import TYPE_IDS, tensor_bytes

_VERSION: Final = 3
_ALIGNMENT: Final = 32  # unless the key general.alignment has another


@dataclass(frozen=True)
class Layout:
    header: bytes  # padded: the data follows it
    offsets: dict[str, int]  # tensor → bytes from the start of the file
    sizes: dict[str, int]  # tensor → bytes, without padding
    size: int  # of the file


def lay_out(draft: Draft, types: Mapping[str, str]) -> Layout:
    """Returns the layout of ``draft`` with a type for each tensor."""
    alignment = alignment_of(draft)
    parts = [struct.pack("<4sIQQ", b"GGUF", _VERSION, len(draft.tensors), len(draft.keys))]
    for name, value in draft.keys.items():
        parts += [RawValue.of(name).raw, struct.pack("<I", value.type), value.raw]
    offsets, sizes, at = {}, {}, 0
    for tensor in draft.tensors:
        tensor_type, dims = types[tensor.name], tensor.shape[::-1]
        parts.append(RawValue.of(tensor.name).raw)
        parts.append(struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, TYPE_IDS[tensor_type], at))
        offsets[tensor.name], sizes[tensor.name] = at, tensor_bytes(tensor_type, tensor.shape)
        at = padded(at + sizes[tensor.name], alignment)
    header = b"".join(parts)
    start = padded(len(header), alignment)
    return Layout(
        header=header.ljust(start, b"\0"),
        offsets={name: start + offset for name, offset in offsets.items()},
        sizes=sizes,
        size=start + at,
    )


def alignment_of(draft: Draft) -> int:
    """The bytes of which the offset of a tensor is a multiple."""
    alignment = draft.keys["general.alignment"].value if "general.alignment" in draft.keys else _ALIGNMENT
    assert isinstance(alignment, int)  # gguf_source has checked it
    return alignment


def padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
