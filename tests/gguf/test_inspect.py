"""binhdan_inspect describes files that the gguf package wrote."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from api.abi import MODEL
from gguf_damage import inspect
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GGUF = gguf.GGUFValueType
INTEGERS = {
    GGUF.UINT8: (0, 2**8 - 1),
    GGUF.INT8: (-(2**7), 2**7 - 1),
    GGUF.UINT16: (0, 2**16 - 1),
    GGUF.INT16: (-(2**15), 2**15 - 1),
    GGUF.UINT32: (0, 2**32 - 1),
    GGUF.INT32: (-(2**31), 2**31 - 1),
    GGUF.UINT64: (0, 2**64 - 1),
    GGUF.INT64: (-(2**63), 2**63 - 1),
}
# Surrogates are not UTF-8; the writer itself sets "GGUF.*" and general.architecture.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
KEYS = TEXT.filter(lambda key: key and not key.startswith(("GGUF.", "general.", "split.", "tokenizer.")))


def integers(kind: gguf.GGUFValueType) -> st.SearchStrategy[tuple[gguf.GGUFValueType, int]]:
    low, high = INTEGERS[kind]
    return st.tuples(st.just(kind), st.integers(low, high))


SCALARS = st.one_of(
    *(integers(kind) for kind in INTEGERS),
    st.tuples(st.just(GGUF.FLOAT32), st.floats(width=32)),
    st.tuples(st.just(GGUF.FLOAT64), st.floats()),
    st.tuples(st.just(GGUF.BOOL), st.booleans()),
    st.tuples(st.just(GGUF.STRING), TEXT),
)
SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4)


def same(got: Any, expected: Any) -> bool:
    if isinstance(expected, float) and not math.isfinite(expected):
        return got is None  # JSON cannot express it
    return bool(got == expected and type(got) is type(expected))


@given(values=st.dictionaries(KEYS, SCALARS, max_size=8), shapes=st.lists(SHAPES, max_size=4))
@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_reads_files_of_gguf_py(
    tmp_path: Path, values: dict[str, tuple[gguf.GGUFValueType, Any]], shapes: list[list[int]]
) -> None:
    path = tmp_path / "written.gguf"
    writer = gguf.GGUFWriter(path, "unknown-arch")
    for key, (kind, value) in values.items():
        writer.add_key_value(key, value, kind)
    for number, shape in enumerate(shapes):
        writer.add_tensor(f"t{number}", np.zeros(shape, np.float32))
    write(writer)

    described = inspect(path)
    assert described is not None
    assert described["architecture"] == "unknown-arch"
    assert described["supported"] is False and "unknown-arch" in described["reason"]
    assert described["file_bytes"] == path.stat().st_size
    assert described["metadata"].keys() == values.keys() | {"general.architecture"}
    for key, (kind, value) in values.items():
        expected = float(np.float32(value)) if kind == GGUF.FLOAT32 else value
        got = described["metadata"][key]
        if kind == GGUF.FLOAT32 and isinstance(got, (int, float)):
            got = float(np.float32(got))
        if isinstance(expected, float) and isinstance(got, int):
            got = float(got)  # JSON writes 1.0 as 1
        assert same(got, expected), (key, kind, value, got)
    assert [tensor["shape"] for tensor in described["tensors"]] == [shape[::-1] for shape in shapes]
    assert described["parameters"] == sum(math.prod(shape) for shape in shapes)


@pytest.mark.parametrize("element", ["numbers", "texts"])
def test_short_arrays_are_listed_and_long_ones_counted(tmp_path: Path, element: str) -> None:
    path = tmp_path / "arrays.gguf"
    make: dict[str, Any] = {"numbers": list(range(16)), "texts": [f"chữ {i}" for i in range(16)]}
    writer = gguf.GGUFWriter(path, "x")
    writer.add_array("short", make[element])
    writer.add_array("long", make[element] * 100)
    write(writer)
    described = inspect(path)
    assert described is not None
    kind = "i32" if element == "numbers" else "string"
    assert described["metadata"]["short"] == {"type": kind, "count": 16, "values": make[element]}
    assert described["metadata"]["long"] == {"type": kind, "count": 1600}


def test_split_files_are_one_model(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "x", split_max_tensors=2)
    for number in range(5):
        writer.add_tensor(f"t{number}", np.full((3, 7), number, np.float32))
    write(writer)
    described = inspect(tmp_path / "m-00001-of-00003.gguf")
    assert described is not None
    assert sorted(tensor["name"] for tensor in described["tensors"]) == [f"t{i}" for i in range(5)]
    assert inspect(tmp_path / "m-00002-of-00003.gguf") is None


def test_describes_the_embedded_model_as_the_gguf_package_does() -> None:
    described = inspect(MODEL)
    reader = gguf.GGUFReader(MODEL)
    assert described is not None
    assert described["supported"] is True and described["reason"] is None
    assert described["parameters"] == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert described["tokenizer"]["size"] == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert [tensor["name"] for tensor in described["tensors"]] == [tensor.name for tensor in reader.tensors]
    assert described["metadata"].keys() == {name for name in reader.fields if not name.startswith("GGUF.")}
    layers, heads, size = described["layers"], described["kv_heads"], described["head_dim"]
    assert described["kv_bytes_per_token"] == layers * heads * size * 2 * 2


def write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
