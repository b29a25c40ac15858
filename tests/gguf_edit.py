"""Copies of a GGUF file with other metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf


def with_metadata(source: Path, target: Path, changes: dict[str, str | None]) -> Path:
    """Copies `source` with these string values; None leaves the key out."""
    reader = gguf.GGUFReader(source)
    architecture = _value(reader.fields["general.architecture"])
    writer = gguf.GGUFWriter(target, architecture)
    written = {"general.architecture", "GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}
    for name, field in reader.fields.items():
        if name in written | changes.keys():
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, _value(field), kind, element)
    for name, text in changes.items():
        if text is not None:
            writer.add_string(name, text)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def _value(field: Any) -> Any:
    return field.contents()
