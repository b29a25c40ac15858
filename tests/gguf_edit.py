"""Copies GGUF files with changed metadata."""

from __future__ import annotations

from pathlib import Path

import gguf


def with_metadata(source: Path, target: Path, changes: dict[str, str | None]) -> Path:
    """Copies `source` to `target` with these string values; None removes a key. Returns `target`."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    automatic = {"general.architecture", "GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}
    for name, field in reader.fields.items():
        if name in automatic | changes.keys():
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, element)
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
