"""Importance files: both formats of llama.cpp, and damaged ones."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import importance_golden as golden
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import SMALL, write_gguf

from binhdan.quantize.importance import Importance, load_importance, read_importance, write_importance
from binhdan.runtime.errors import BinhdanError


def example() -> Importance:
    return Importance(
        sums={
            "b.weight": np.array([[8, 0, 2]], np.float32),
            "a.weight": np.array([[4], [6], [5]], np.float32),
        },
        counts={"b.weight": np.array([4], np.float32), "a.weight": np.array([2, 3, 0], np.float32)},
        datasets=["văn bản.txt", "b.txt"],
        chunks=3,
        chunk_size=512,
    )


def test_a_file_contains_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    write_importance(file, example())
    read = load_importance(file)
    assert read.datasets == example().datasets
    assert (read.chunks, read.chunk_size) == (3, 512)
    means = read_importance(file)
    assert means.keys() == {"a.weight", "b.weight"}
    np.testing.assert_array_equal(means["b.weight"], [2, 0, 0.5])
    np.testing.assert_array_equal(means["a.weight"], [[2], [2], [1]])  # no rows: 1, as in llama-quantize
    assert means["b.weight"].dtype == np.float32


def test_the_file_has_the_layout_of_llama_cpp(tmp_path: Path) -> None:
    write_importance(tmp_path / "a.gguf", example())
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    assert reader.fields["general.type"].contents() == "imatrix"
    assert reader.fields["imatrix.chunk_count"].contents() == 3
    assert reader.fields["imatrix.chunk_size"].contents() == 512
    assert reader.fields["imatrix.datasets"].contents() == example().datasets
    assert [tensor.name for tensor in reader.tensors] == [
        "a.weight.in_sum2", "a.weight.counts", "b.weight.in_sum2", "b.weight.counts",
    ]  # fmt: skip
    assert [tensor.shape.tolist() for tensor in reader.tensors] == [[1, 3], [1, 3], [3, 1], [1, 1]]


def legacy() -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<i", len(value)) + value

    entry = text(b"b.weight") + struct.pack("<ii3f", 4, 3, 8, 0, 2)
    return struct.pack("<i", 1) + entry + struct.pack("<i", 4) + text(b"b.txt")


def test_reads_the_older_format(tmp_path: Path) -> None:
    file = tmp_path / "a.dat"
    file.write_bytes(legacy())
    read = load_importance(file)
    assert (read.datasets, read.chunks) == (["b.txt"], 4)
    np.testing.assert_array_equal(read_importance(file)["b.weight"], [2, 0, 0.5])


def test_both_formats_of_llama_cpp_say_the_same() -> None:
    new, old = load_importance(golden.GOLDEN), load_importance(golden.GOLDEN.with_suffix(".dat"))
    assert (new.chunks, new.chunk_size, old.chunks) == (2, golden.CONTEXT, 2)
    assert new.datasets == old.datasets and len(new.datasets) == 1
    means = old.means()
    assert means.keys() == new.means().keys()
    for name, values in new.means().items():
        np.testing.assert_allclose(means[name], values, rtol=1e-6)


def check_refused(file: Path) -> None:
    with pytest.raises((BinhdanError, OSError)) as error:
        load_importance(file)
    assert "\n" not in str(error.value) and str(file) in str(error.value)


# After the entries, a file may end: older files do.
@pytest.mark.parametrize("size", sorted({*range(0, len(legacy()), 5)} - {len(legacy()) - 13}))
def test_refuses_a_truncated_file_of_the_older_format(size: int, tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(legacy()[:size])
    check_refused(tmp_path / "a.dat")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(data: st.DataObject, tmp_path: Path) -> None:
    if data.draw(st.booleans()):
        content = bytearray(legacy())
    else:
        write_importance(tmp_path / "a.gguf", example())
        content = bytearray((tmp_path / "a.gguf").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path / "damaged"
    file.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        importance = load_importance(file)
    except (BinhdanError, OSError):
        check_refused(file)
    else:
        assert all(np.isfinite(values).all() for values in importance.means().values())


def test_refuses_a_model(tmp_path: Path) -> None:
    with pytest.raises(BinhdanError, match="is it a model"):
        load_importance(write_gguf(tmp_path / "model.gguf", SMALL))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_refuses_impossible_sums(value: float, tmp_path: Path) -> None:
    importance = example()
    importance.sums["b.weight"][0, 1] = value
    write_importance(tmp_path / "a.gguf", importance)
    check_refused(tmp_path / "a.gguf")


@pytest.mark.parametrize("missing", ["b.weight.counts", "b.weight.in_sum2"])
def test_needs_sums_and_counts(missing: str, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "")
    for name in {"b.weight.counts", "b.weight.in_sum2"} - {missing}:
        writer.add_tensor(name, np.ones((1, 3), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_refused(tmp_path / "a.gguf")
