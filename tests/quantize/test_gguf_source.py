"""GGUF files as sources: keys and tensors are kept, split files are one model, damage is one clear error."""

from __future__ import annotations

import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf_edit import with_metadata
from quantize_helpers import keys_of, values_of
from tiny_models import SMALL, Shape, write_gguf

import binhdan
from binhdan.bench.micro import llama_cpp
from binhdan.quantize.convert import convert
from binhdan.quantize.gguf_source import read_gguf
from binhdan.quantize.recipes import RECIPES, parse_override
from binhdan.runtime.errors import BadFormatError, BinhdanError, InvalidArgumentError

WIDE = Shape(width=256, feed_forward=512, heads=4, kv_heads=2, head_dim=64, layers=8, type="F16")
Gguf = gguf.GGUFValueType


def write_unknown(path: Path, alignment: int = 32) -> Path:
    """Writes a model of an architecture that binhdan does not have, with keys and tensors of every type."""
    writer = gguf.GGUFWriter(path, "unheard")
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    values: dict[Gguf, Any] = {
        Gguf.UINT8: 200, Gguf.INT8: -100, Gguf.UINT16: 60_000, Gguf.INT16: -30_000,
        Gguf.UINT32: 4_000_000_000, Gguf.INT32: -2_000_000_000, Gguf.FLOAT32: 0.1, Gguf.BOOL: True,
        Gguf.STRING: "chữ", Gguf.UINT64: 1 << 63, Gguf.INT64: -(1 << 62), Gguf.FLOAT64: 1 / 3,
    }  # fmt: skip
    for kind, value in values.items():
        writer.add_key_value(f"unheard.{kind.name}", value, kind)
        writer.add_key_value(f"unheard.array.{kind.name}", [value, value], Gguf.ARRAY, kind)
    writer.add_key_value("unheard.bytes", [b"\xff\xfe", b""], Gguf.ARRAY, Gguf.STRING)
    draw = np.random.default_rng(0)
    writer.add_tensor("a.weight", draw.standard_normal((3, 64)).astype(np.float32))
    writer.add_tensor("b.weight", draw.standard_normal((2, 3, 32)).astype(np.float16))
    writer.add_tensor("map", np.arange(5, dtype=np.int32))
    writer.add_tensor("double", draw.standard_normal(3))
    blocks = gguf.quantize(draw.standard_normal((4, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q4_0)
    writer.add_tensor("c.weight", blocks, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# ---- what is kept ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [32, 64, 4096])
def test_a_copy_has_the_same_bytes(alignment: int, tmp_path: Path) -> None:
    source = write_unknown(tmp_path / "in.gguf", alignment)
    summary = convert(source, tmp_path / "out.gguf", "copy")
    assert (tmp_path / "out.gguf").read_bytes() == source.read_bytes()
    assert (summary.architecture, summary.parameters) == ("unheard", 192 + 192 + 5 + 3 + 256)
    assert any("binhdan cannot run this model" in note for note in summary.notes)


def test_the_values_of_keys_are_decoded_and_encoded(tmp_path: Path) -> None:
    source = write_unknown(tmp_path / "in.gguf")
    expected = {name: field for name, field in gguf.GGUFReader(source).fields.items() if "bytes" not in name}
    for name, key in read_gguf(source).keys.items():
        assert type(key).of(key.value, like=key) == key, name
        if name in expected:
            assert key.value == expected[name].contents(), name
    assert read_gguf(source).keys["unheard.bytes"].value == ["\udcff\udcfe", ""]


def test_other_types_change_the_tensors_and_two_keys(tmp_path: Path) -> None:
    source, out = write_gguf(tmp_path / "in.gguf", WIDE), tmp_path / "out.gguf"
    convert(source, out, "q6_k", name="Tên", license="mit")
    before, after = keys_of(source), keys_of(out)
    changed = {name for name in after if before.get(name) != after[name] and not name.startswith("GGUF.")}
    assert changed == {"general.file_type", "general.quantization_version", "general.name", "general.license"}
    assert after["general.file_type"] == gguf.LlamaFileType.MOSTLY_Q6_K
    for name, value in values_of(source).items():
        error = np.abs(values_of(out)[name] - value).max()
        assert error == 0 if value.ndim == 1 else error < 0.05 * np.abs(value).max(), name


def test_tensors_that_have_the_type_already_are_copied(tmp_path: Path) -> None:
    source, out = write_gguf(tmp_path / "in.gguf", replace(WIDE, type="Q4_K")), tmp_path / "out.gguf"
    with pytest.raises(InvalidArgumentError, match=r"already quantized \(.* is Q4_K\).*--requantize"):
        convert(source, out, "q8_0")
    convert(source, out, "copy", overrides=[])
    assert out.read_bytes() == source.read_bytes()
    summary = convert(source, out, "q8_0", requantize=True, force=True)
    assert any("quantized again, which loses quality" in note for note in summary.notes)


def test_a_q8_0_source_needs_no_flag(tmp_path: Path) -> None:
    source, out = write_gguf(tmp_path / "in.gguf", replace(WIDE, type="Q8_0")), tmp_path / "out.gguf"
    assert convert(source, out, "q4_k_m").types["Q4_K"] > 10


def test_split_files_are_one_model(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "in.gguf", SMALL)
    draft = read_gguf(source)
    first = write_parts(source, tmp_path / "parts", 3)
    joined = read_gguf(first)
    assert joined.keys == draft.keys and len(joined.files) == 3
    convert(first, tmp_path / "a.gguf", "q8_0")
    convert(source, tmp_path / "b.gguf", "q8_0")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    with pytest.raises(FileExistsError, match="is a file that is read"):
        convert(first, first.with_name("model-00003-of-00003.gguf"), "q8_0", force=True)
    with pytest.raises(BinhdanError, match="part 2"):
        convert(first.with_name("model-00002-of-00003.gguf"), tmp_path / "c.gguf", "q8_0")
    first.with_name("model-00002-of-00003.gguf").unlink()
    with pytest.raises(OSError, match="00002-of-00003"):
        convert(first, tmp_path / "c.gguf", "q8_0")


def write_parts(source: Path, folder: Path, count: int) -> Path:
    """Splits a file as llama-gguf-split does."""
    folder.mkdir()
    reader = gguf.GGUFReader(source)
    step = -(-len(reader.tensors) // count)
    for number in range(count):
        path = folder / f"model-{number + 1:05}-of-{count:05}.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        if number == 0:
            for name, field in reader.fields.items():
                if not name.startswith("GGUF.") and name != "general.architecture":
                    element = field.types[-1] if field.types[0] == Gguf.ARRAY else None
                    writer.add_key_value(name, field.contents(), field.types[0], element)
        else:
            writer.kv_data[0].clear()
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[number * step : (number + 1) * step]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return folder / f"model-00001-of-{count:05}.gguf"


# ---- files run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_makes_a_file_that_runs(recipe: str, tmp_path: Path) -> None:
    source, out = write_gguf(tmp_path / "in.gguf", WIDE), tmp_path / "out.gguf"
    convert(source, out, recipe)
    with binhdan.load(out, threads=1) as model:
        assert model.complete("Hà Nội", max_tokens=4).answer_tokens > 0
    if llama_cpp.installed():
        theirs = llama_cpp.module().Llama(str(out), n_ctx=64, verbose=False)
        assert theirs.create_completion("Hà Nội", max_tokens=4)["usage"]["completion_tokens"] > 0


# ---- rejected files ----------------------------------------------------------------------------------------


def expect_error(source: Path, message: str, *options: str) -> None:
    """Runs the command over an old output file: one line, exit code 1, and the old file stays."""
    out = source.with_name("result.gguf")
    out.write_bytes(b"old")
    files = sorted(source.parent.iterdir())
    command = [sys.executable, "-m", "binhdan", "quantize", source, out, "--force", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "", done
    assert message in done.stderr and done.stderr.count("\n") == 1 and str(source) in done.stderr, done.stderr
    assert out.read_bytes() == b"old" and sorted(source.parent.iterdir()) == files


def poisoned(name: str, value: float) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        for tensor in gguf.GGUFReader(path, "r+").tensors:
            if tensor.name == name:
                tensor.data.reshape(-1)[7] = value
                return

    return change


def without_tensor(path: Path) -> None:
    """Renames a tensor: the one is missing, another is of no architecture."""
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_up.weight", b"blk.1.ffn_up.wrong!"))


def with_more_tokens(path: Path) -> None:
    tokens = keys_of(path)["tokenizer.ggml.tokens"]
    changes = {
        "tokenizer.ggml.tokens": [*tokens, "thêm"],
        "tokenizer.ggml.token_type": [1] * (len(tokens) + 1),
    }
    with_metadata(path, path.with_name("y"), changes)
    path.with_name("y").rename(path)


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (poisoned("blk.1.ffn_up.weight", np.nan), "tensor blk.1.ffn_up.weight contains inf or NaN"),
        (poisoned("blk.0.attn_norm.weight", np.inf), "tensor blk.0.attn_norm.weight contains inf or NaN"),
        (without_tensor, "tensor 'blk.1.ffn_up.weight' is missing"),
        (with_more_tokens, "expected 320 tokens, one per row of token_embd.weight, got 321"),
        (truncated, "go past the end of the data"),
        (lambda path: path.write_bytes(b""), "GGUF"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(100)), "expected a folder with config.json"),
        (Path.unlink, "is missing; expected a folder"),
    ],
    ids=["nan", "inf", "missing tensor", "tokenizer", "truncated", "empty", "zip", "no file"],
)
def test_bad_files_are_one_line(change: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "in.gguf", replace(SMALL, type="F32"))
    change(source)
    expect_error(source, message)


def header(*parts: bytes, keys: int = 0, tensors: int = 0) -> bytes:
    return struct.pack("<4sIQQ", b"GGUF", 3, tensors, keys) + b"".join(parts)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def tensor(shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    dims = struct.pack(f"<{len(shape)}Q", *shape)
    return text(b"w") + struct.pack("<I", len(shape)) + dims + struct.pack("<IQ", kind, offset)


ARCHITECTURE = text(b"general.architecture") + struct.pack("<I", 8) + text(b"x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header(keys=1 << 60), "is the file truncated"),
        (header(tensors=1 << 60), "is the file truncated"),
        (header(text(b"k") + struct.pack("<I", 99), keys=1), "expected a value type"),
        (header(text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 61), keys=1), "is the file truncated"),
        (header(text(b"k") + struct.pack("<IIQ", 9, 0, 1 << 62), keys=1), "is the file truncated"),
        (header(text(b"k") + struct.pack("<IIQ", 9, 9, 1), keys=1), "arrays of arrays"),
        (header(text(b"k") + struct.pack("<IQ", 8, 1 << 63), keys=1), "is the file truncated"),
        (header(struct.pack("<Q", 1 << 40), keys=1), "expected 1 to 65,535 bytes"),
        (header(text(b"\xff") + struct.pack("<IB", 0, 1), keys=1), "is not UTF-8"),
        (header((text(b"k") + struct.pack("<IB", 0, 1)) * 2, keys=2), "occurs twice"),
        (header(ARCHITECTURE, tensor((1 << 40, 1 << 40)), keys=1, tensors=1), "expected 1 to 2^48 values"),
        (header(ARCHITECTURE, tensor((0,)), keys=1, tensors=1), "expected 1 to 2^48 values"),
        (header(ARCHITECTURE, tensor((1,) * 5), keys=1, tensors=1), "1 to 4 dimensions"),
        (header(ARCHITECTURE, tensor((33,), 8), keys=1, tensors=1), "does not fill blocks of Q8_0"),
        (header(ARCHITECTURE, tensor((4,), 77), keys=1, tensors=1), "type 77 is not known"),
        (header(ARCHITECTURE, tensor((4,), 0, 7), keys=1, tensors=1), "is not a multiple of 32"),
        (header(ARCHITECTURE, tensor((4,), 0, 1 << 62), keys=1, tensors=1), "is the file truncated"),
        (header(ARCHITECTURE, keys=1), "the file has no tensors"),
        (b"GGUF\0\0\0\3" + bytes(16), "big-endian"),
    ],
)
def test_hostile_headers(data: bytes, message: str, tmp_path: Path) -> None:
    """Each is an error of the reader here, whatever the core says before it."""
    path = tmp_path / "in.gguf"
    path.write_bytes(data)
    with pytest.raises(BadFormatError) as error:
        read_gguf(path)
    assert message in str(error.value)
    with pytest.raises(BinhdanError):
        convert(path, tmp_path / "out.gguf", "q8_0")
    assert sorted(tmp_path.iterdir()) == [path]


def test_damaged_headers_are_errors_of_the_format(tmp_path: Path) -> None:
    """Truncation at any byte, and random bytes anywhere in the header."""
    source = write_unknown(tmp_path / "in.gguf")
    whole = source.read_bytes()
    end = min(t.data_offset for t in gguf.GGUFReader(source).tensors)
    path, draw, accepted = tmp_path / "damaged.gguf", random.Random(0), 0
    for _ in range(300):
        path.write_bytes(whole[: draw.randrange(end)])
        with pytest.raises(BadFormatError):
            read_gguf(path)
    for _ in range(700):
        data = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            data[draw.randrange(end)] = draw.randrange(256)
        path.write_bytes(data)
        try:
            for name, key in read_gguf(path).keys.items():
                assert type(key).of(key.value, like=key).raw == key.raw or "FLOAT" in name
            accepted += 1
        except BadFormatError:
            pass
    assert 20 < accepted < 600


def test_a_file_that_is_truncated_during_the_work_is_one_error(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "in.gguf", SMALL)
    draft = read_gguf(source)
    with source.open("r+b") as file:
        file.truncate(source.stat().st_size - 5000)
    last = draft.tensors[-1]
    with pytest.raises(BadFormatError, match="truncated during the read"):
        last.read(0, last.rows)


def test_json_of_the_command(tmp_path: Path) -> None:
    source, out = write_gguf(tmp_path / "in.gguf", WIDE), tmp_path / "out.gguf"
    command = [sys.executable, "-m", "binhdan", "quantize", source, out, "--recipe", "q4_k_m", "--json"]
    done = subprocess.run(
        [*command, "--tensor-type", "attn_q=q8_0"], check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout)["types"]["Q8_0"] == WIDE.layers
    assert done.stderr == ""


def test_overrides_reach_the_file(tmp_path: Path) -> None:
    source, out = write_gguf(tmp_path / "in.gguf", WIDE), tmp_path / "out.gguf"
    convert(source, out, "q4_0", overrides=[parse_override("token_embd=f16")])
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
    assert types["token_embd.weight"] == "F16"
