"""Hostile checkpoints: every damaged file raises one clear CheckpointError, quickly."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from quantize_helpers import edit_json
from tiny_models import SMALL, hf_config, hf_tensors, hf_tokenizer, write_checkpoint, write_safetensors

from binhdan.quantize.checkpoint import (
    CheckpointError,
    canonical_name,
    open_checkpoint,
    parse_json,
    read_header,
)
from binhdan.quantize.convert import convert


def header_file(path: Path, header: Any, data: int = 64, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return path


def entry(dtype: Any = "F32", shape: Any = (4, 4), offsets: Any = (0, 64)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[]", "expected a JSON object, got list"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' * 100_000, "nested too deeply"),
        (b'{"w": 1, "w": 2}', "duplicate key 'w'"),
        (b'{"w": {"dtype": "F32", "dtype": "F32"}}', "duplicate key 'dtype'"),
        (b'{"\\ud800": {}}', "not valid JSON"),
        (b'{"w": {"shape": [' + b"9" * 5000 + b"]}}", "not valid JSON"),
        ({"w": 7}, "expected an object, got int"),
        ({"w": {}}, "expected dtype, shape and data_offsets"),
        (entry(shape=[4, -4]), "expected dtype, shape and data_offsets"),
        (entry(shape=[4, 4.0]), "expected dtype, shape and data_offsets"),
        (entry(shape=[True, 16]), "expected dtype, shape and data_offsets"),
        (entry(offsets=[0]), "expected dtype, shape and data_offsets"),
        (entry(offsets=[64, 0]), "is the file truncated?"),
        (entry(offsets=[0, 65]), "is the file truncated?"),
        (entry(offsets=[1 << 40, (1 << 40) + 64]), "is the file truncated?"),
        (entry(shape=[4, 5]), "does not fill 64 bytes"),
        (entry(shape=[1 << 40, 1 << 40]), "does not fill 64 bytes"),
    ],
)
def test_invalid_safetensors_headers_are_rejected(header: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        list(read_header(header_file(tmp_path / "w.safetensors", header)))
    assert message in str(error.value)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("length", [0, 1, 1 << 20, 1 << 63, (1 << 64) - 1])
def test_invalid_header_lengths_are_rejected(length: int, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        list(read_header(header_file(tmp_path / "w.safetensors", entry(), length=length)))


def test_truncated_safetensors_are_rejected(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL)
    whole = (checkpoint / "model.safetensors").read_bytes()
    for size in [*range(0, 64), *range(64, len(whole), len(whole) // 50), len(whole) - 1]:
        (checkpoint / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="safetensors"):
            convert(checkpoint, tmp_path / "out.gguf", "q8_0")


@pytest.mark.parametrize("dtype", ["I32", "F8_E4M3", "U8", "nonsense"])
def test_weights_must_be_floating_point(dtype: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL)
    file = checkpoint / "model.safetensors"
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header["lm_head.weight"]["dtype"] = dtype
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    with pytest.raises(CheckpointError, match=f"lm_head.weight: type {dtype}; expected one of F64"):
        convert(checkpoint, tmp_path / "out.gguf", "q8_0")


@pytest.mark.parametrize("name", ["../../etc/passwd.safetensors", "/dev/zero", "sub/w.safetensors", "", 7])
def test_an_index_cannot_name_files_outside_its_folder(name: Any, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL, shards=2)
    index = checkpoint / "model.safetensors.index.json"
    edit_json(index, weight_map={"lm_head.weight": name})
    with pytest.raises(CheckpointError, match=r"weight_map|safetensors file in this folder"):
        open_checkpoint(checkpoint)


def test_the_error_names_a_missing_shard(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL, shards=2)
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        open_checkpoint(checkpoint)


def test_a_checkpoint_with_only_a_sentencepiece_model_says_what_to_do(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, SMALL)
    (tmp_path / "tokenizer.json").rename(tmp_path / "tokenizer.model")
    with pytest.raises(CheckpointError, match=r"found only tokenizer.model; transformers makes it"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_the_error_names_a_missing_file(name: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL)
    (checkpoint / name).unlink()
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        open_checkpoint(checkpoint)


def test_a_file_instead_of_a_folder_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("")
    with pytest.raises(CheckpointError, match="expected a folder"):
        open_checkpoint(tmp_path / "in")


# ---- other contents than the file's name says --------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "git-lfs pointer; run git lfs pull",
        ),
        (b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page; the download failed"),
        (b"<html>" + bytes(100), "an HTML page"),
        (b"PK\x03\x04" + bytes(100), "a zip archive"),
    ],
)
def test_the_error_says_what_a_file_is(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL)
    (checkpoint / name).write_bytes(content)
    with pytest.raises(CheckpointError) as error:
        open_checkpoint(checkpoint)
    assert message in str(error.value)
    assert name in str(error.value)


def test_a_pickle_instead_of_safetensors_is_named(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL)
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"got pytorch_model\.bin: save the model again"):
        open_checkpoint(checkpoint)


# ---- names of tensors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    ["", "model.", "_orig_mod.model.", "model.language_model.", "language_model.model.", "module.model."],
)
def test_prefixes_of_names_do_not_matter(prefix: str, tmp_path: Path) -> None:
    plain, wrapped = write_checkpoint(tmp_path / "a", SMALL), write_checkpoint(tmp_path / "b", SMALL)
    tensors = {
        name.replace("model.", prefix) if name.startswith("model.") else name: values
        for name, values in hf_tensors(SMALL).items()
    }
    write_safetensors(wrapped / "model.safetensors", tensors, "F16")
    for checkpoint in (plain, wrapped):
        convert(checkpoint, checkpoint / "out.gguf", "q8_0", name="same")
    assert (plain / "out.gguf").read_bytes() == (wrapped / "out.gguf").read_bytes()


def test_compiled_layers_keep_their_names() -> None:
    name = "model.layers.3._orig_mod.mlp.up_proj.weight"
    assert canonical_name(name) == "layers.3.mlp.up_proj.weight"


def test_one_tensor_under_two_names_is_rejected(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL)
    tensors = hf_tensors(SMALL)
    tensors["norm.weight"] = tensors["model.norm.weight"]
    write_safetensors(checkpoint / "model.safetensors", tensors)
    with pytest.raises(
        CheckpointError, match=r"'norm\.weight' and 'model\.norm\.weight' are the same tensor"
    ):
        open_checkpoint(checkpoint)


# ---- fuzzing -----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def paths_in(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Returns the paths of a JSON value and its parts; at most 12 items of each list or object."""
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    return [at, *(path for key, inner in items[:12] for path in paths_in(inner, (*at, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Returns a copy of a JSON value with the part at ``path`` replaced."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("fuzz") / "in", SMALL)


@FUZZ
@given(raw=st.binary(max_size=200))
def test_any_bytes_parse_or_are_rejected(raw: bytes) -> None:
    with suppress(CheckpointError):
        assert isinstance(parse_json(raw, "x.json"), dict)


@FUZZ
@given(
    data=st.data(), new=JSON, kind=st.sampled_from(["config.json", "tokenizer.json", "llama tokenizer.json"])
)
def test_any_replaced_part_converts_or_is_rejected(
    data: st.DataObject, new: Any, kind: str, checkpoint: Path
) -> None:
    if kind == "config.json":
        original = hf_config(SMALL)
    else:
        original = hf_tokenizer("llama" if kind.startswith("llama") else "gpt2")
    path = data.draw(st.sampled_from(paths_in(original)))
    file = checkpoint / kind.split()[-1]
    before = file.read_bytes()
    try:
        file.write_text(json.dumps(replaced(original, path, new)), "utf-8")
        convert(checkpoint, checkpoint.parent / "out.gguf", "q8_0", force=True)
    except CheckpointError as error:
        assert "\n" not in str(error).rstrip() or len(str(error)) < 2000
    finally:
        file.write_bytes(before)


@FUZZ
@given(at=st.integers(0, 1500), byte=st.integers(0, 255))
def test_any_replaced_header_byte_converts_or_is_rejected(at: int, byte: int, checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    before = file.read_bytes()
    try:
        file.write_bytes(before[:at] + bytes([byte]) + before[at + 1 :])
        convert(checkpoint, checkpoint.parent / "out.gguf", "q8_0", force=True)
    except CheckpointError:
        pass
    finally:
        file.write_bytes(before)
