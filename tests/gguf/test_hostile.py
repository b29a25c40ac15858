"""Damaged and malicious files cause an error that names the place; they never crash."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
from api.abi import MODEL, last_error
from gguf_damage import Patched, inspect, open_and_close
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

HUGE = [2**32, 2**60, 2**63, 2**64 - 1]
any_file = settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Fewer examples: each opens the embedded model, which has 9 MB.
embedded = settings(any_file, max_examples=50)


def header(tensors: int = 0, keys: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def text(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content


def write(folder: Path, content: bytes) -> Path:
    path = folder / "hostile.gguf"
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Patched:
    """A copy of the embedded model that tests may damage."""
    path = tmp_path_factory.mktemp("hostile") / "model.gguf"
    return Patched(Path(shutil.copy(MODEL, path)), MODEL.read_bytes())


# ---- any bytes ---------------------------------------------------------------------------------------------


@given(content=st.binary(max_size=300))
@any_file
def test_any_bytes_are_rejected(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path, content)
    assert inspect(path) is None
    assert not open_and_close(path)


@given(counts=st.tuples(st.integers(0, 3), st.integers(0, 3)), content=st.binary(max_size=300))
@any_file
def test_any_bytes_after_a_header_are_harmless(
    tmp_path: Path, counts: tuple[int, int], content: bytes
) -> None:
    path = write(tmp_path, header(*counts) + content)
    inspect(path)
    assert not open_and_close(path)


# ---- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("huge", HUGE)
def test_huge_counts_are_rejected(tmp_path: Path, huge: int) -> None:
    count = struct.pack("<Q", huge)
    files = {
        "number of tensors": header(tensors=huge) + bytes(64),
        "number of keys": header(keys=huge) + bytes(64),
        "key 0": header(keys=1) + count + bytes(64),
        "'s'": header(keys=1) + text(b"s") + struct.pack("<I", 8) + count + bytes(64),
        "array's length": header(keys=1) + text(b"a") + struct.pack("<II", 9, 8) + count + bytes(64),
        "'t'": header(tensors=1) + text(b"t") + struct.pack("<IQQIQ", 2, huge, huge, 0, 0) + bytes(64),
    }
    for place, content in files.items():
        assert inspect(write(tmp_path, content)) is None, place
        assert place in last_error()


def test_memory_stays_near_the_files_size(tmp_path: Path) -> None:
    """Reads 10 MB of minimal keys, then 10 MB of empty strings, with at most 300 MB of additional memory."""
    keys = b"".join(text(b"%06d" % i) + struct.pack("<IB", 0, 0) for i in range(500_000))
    files = [header(keys=500_000) + keys, header(keys=1) + text(b"a") + struct.pack("<IIQ", 9, 8, 1_250_000)]
    files[1] += bytes(10_000_000)
    code = """
import resource, sys
from pathlib import Path
from gguf_damage import inspect
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
assert inspect(Path(sys.argv[1])) is not None
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    for content in files:
        command = [sys.executable, "-c", code, str(write(tmp_path, content))]
        done = subprocess.run(
            command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr


# ---- the embedded model, damaged ---------------------------------------------------------------------------


def test_the_copy_opens_before_it_is_damaged(model: Patched) -> None:
    assert open_and_close(model.path)


READER = gguf.GGUFReader(MODEL)
METADATA_END = int(READER.data_offset)
ARCHITECTURE = str(READER.fields["general.architecture"].contents())
# Offsets to damage: the first keys, anywhere in the metadata, the tensor table.
OFFSETS = st.one_of(
    st.integers(0, 2000),
    st.integers(0, METADATA_END - 1),
    st.integers(METADATA_END - 4000, METADATA_END - 1),
)


@given(
    place=OFFSETS, data=st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 8, bytes(8)]))
)
@embedded
def test_damaged_metadata_opens_or_is_rejected(model: Patched, place: int, data: bytes) -> None:
    model.write(place, data)
    try:
        inspect(model.path)
        open_and_close(model.path)
    finally:
        model.restore(place, len(data))


@given(size=st.one_of(st.integers(0, METADATA_END), st.integers(0, MODEL.stat().st_size - 1)))
@example(size=METADATA_END)
@embedded
def test_a_truncated_model_is_rejected(tmp_path: Path, model: Patched, size: int) -> None:
    path = write(tmp_path, model.whole[:size])
    assert inspect(path) is None
    assert not open_and_close(path)


def value_offset(model: Patched, key: str) -> int:
    """The byte offset of a scalar key's value."""
    return model.whole.index(text(key.encode())) + 8 + len(key) + 4


SIZES = [
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
]
WRONG = [(key, value) for key in SIZES for value in (0, 1, 3, 2**16, 2**31 - 1, 2**32 - 1)]


@pytest.mark.parametrize(("key", "value"), [*WRONG, ("context_length", 0)])
def test_sizes_that_do_not_match_the_tensors_are_rejected(model: Patched, key: str, value: int) -> None:
    place = value_offset(model, f"{ARCHITECTURE}.{key}")
    assert struct.unpack_from("<I", model.whole, place)[0] != value
    model.write(place, struct.pack("<I", value))
    try:
        assert not open_and_close(model.path), f"{key} = {value}"
    finally:
        model.restore(place, 4)


@pytest.mark.parametrize("tensor", ["token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight"])
def test_the_error_names_a_tensor_of_wrong_shape_or_name(model: Patched, tensor: str) -> None:
    name = model.whole.index(text(tensor.encode()))
    dimensions = name + 8 + len(tensor)
    first = dimensions + 4
    columns = struct.unpack_from("<Q", model.whole, first)[0]
    for place, data in [
        (name + 8, b"x"),  # renamed, so the expected tensor is missing
        (first, struct.pack("<Q", columns // 2)),
        (first, struct.pack("<Q", columns * 2)),
    ]:
        model.write(place, data)
        try:
            assert not open_and_close(model.path)
            assert tensor in last_error() or "x" + tensor[1:] in last_error()
        finally:
            model.restore(place, len(data))
