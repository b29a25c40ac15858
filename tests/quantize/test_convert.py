"""Conversion to GGUF: names, shapes, keys, values, and atomic writes."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType
from quantize_helpers import edit_json, keys_of, values_of, write_sparse_checkpoint
from tiny_models import (
    ARCHITECTURES,
    SMALL,
    Shape,
    hf_tensors,
    tensor_shapes,
    write_checkpoint,
    write_safetensors,
)

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.convert import convert
from binhdan.runtime.errors import BadFormatError


@pytest.mark.parametrize("recipe", ["q8_0", "q4_0", "f16", "bf16", "f32"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_values_are_as_good_as_the_reference_encoders(architecture: str, recipe: str, tmp_path: Path) -> None:
    shape = replace(SMALL, architecture=architecture)
    out = tmp_path / "out.gguf"
    summary = convert(write_checkpoint(tmp_path / "in", shape), out, recipe)
    got, source = values_of(out), hf_tensors(shape)
    assert {name: value.shape for name, value in got.items()} == tensor_shapes(shape)
    np.testing.assert_array_equal(got["output_norm.weight"], source["model.norm.weight"])
    for name, hf_name in {
        "output.weight": "lm_head.weight",
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.1.ffn_down.weight": "model.layers.1.mlp.down_proj.weight",
        "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
    }.items():
        written = next(t.tensor_type for t in gguf.GGUFReader(out).tensors if t.name == name)
        expected = gguf.dequantize(gguf.quantize(source[hf_name], written), written)
        if written.name.startswith("Q4"):  # our encoder searches for better scales
            error, theirs = (np.square(x - source[hf_name]).sum() for x in (got[name], expected))
            assert error <= theirs, name
        else:
            np.testing.assert_array_equal(got[name], expected, err_msg=name)
    assert summary.bytes == out.stat().st_size
    assert summary.types.keys() <= {recipe.upper(), "F32", "Q8_0"}


def test_query_and_key_rows_are_interleaved_for_llama_only(tmp_path: Path) -> None:
    for architecture in ("llama", "qwen3"):
        shape = replace(SMALL, architecture=architecture)
        out = tmp_path / f"{architecture}.gguf"
        convert(write_checkpoint(tmp_path / architecture, shape), out, "f32")
        source = hf_tensors(shape)["model.layers.0.self_attn.k_proj.weight"]
        got, half = values_of(out)["blk.0.attn_k.weight"], shape.head_dim // 2
        second_head = shape.head_dim
        if architecture == "llama":
            np.testing.assert_array_equal(got[second_head + 1], source[second_head + half])
            np.testing.assert_array_equal(got[second_head + 2], source[second_head + 1])
        else:
            np.testing.assert_array_equal(got, source)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
def test_source_types(dtype: str, tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "in", SMALL, dtype=dtype), tmp_path / "out.gguf"
    convert(checkpoint, out, "f32")
    source = hf_tensors(SMALL)["lm_head.weight"]
    if dtype == "BF16":
        source = (source.view(np.uint32) >> 16 << 16).view(np.float32)
    np.testing.assert_array_equal(values_of(out)["output.weight"], source)


def test_shards_and_chunks_do_not_change_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, many = tmp_path / "one.gguf", tmp_path / "many.gguf"
    convert(write_checkpoint(tmp_path / "in", SMALL), one, "q8_0", name="same")
    monkeypatch.setattr("binhdan.quantize.encode.PART_VALUES", 100)
    convert(write_checkpoint(tmp_path / "sharded", SMALL, shards=3), many, "q8_0", name="same")
    assert one.read_bytes() == many.read_bytes()


def test_mistral_converts_as_llama(tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    edit_json(checkpoint / "config.json", architectures=["MistralForCausalLM"])
    assert convert(checkpoint, out, "f16").architecture == "llama"


def test_keys(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    convert(write_checkpoint(tmp_path / "in", SMALL), out, "q8_0", name="Tên", license="mit")
    keys = keys_of(out)
    expected = {
        "general.architecture": "llama",
        "general.name": "Tên",
        "general.license": "mit",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_Q8_0),
        "llama.block_count": 2,
        "llama.context_length": 128,
        "llama.embedding_length": 64,
        "llama.feed_forward_length": 128,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.key_length": 16,
        "llama.rope.dimension_count": 16,
        "llama.rope.freq_base": 10000.0,
    }
    assert expected.items() <= keys.items()
    assert keys["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-5)


def test_rope_scaling_keys(tmp_path: Path) -> None:
    yarn = {
        "rope_type": "yarn", "rope_theta": 5e5, "factor": 4.0, "original_max_position_embeddings": 32,
        "attention_factor": 1.5, "beta_fast": 16,
    }  # fmt: skip
    checkpoint, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    edit_json(checkpoint / "config.json", rope_scaling=None, rope_parameters=yarn)
    convert(checkpoint, out, "f16")
    keys = keys_of(out)
    assert keys["llama.rope.freq_base"] == 5e5
    assert keys["llama.rope.scaling.type"] == "yarn"
    assert keys["llama.rope.scaling.factor"] == 4.0
    assert keys["llama.rope.scaling.original_context_length"] == 32
    assert keys["llama.rope.scaling.yarn_beta_fast"] == 16.0
    # Readers multiply the key by YaRN's default, 0.1 ln(factor) + 1.
    assert keys["llama.rope.scaling.attn_factor"] * (0.1 * math.log(4) + 1) == pytest.approx(1.5)


def test_the_sliding_window_limits_the_context(tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    edit_json(checkpoint / "config.json", sliding_window=96)
    summary = convert(checkpoint, out, "f16")
    assert summary.context == keys_of(out)["llama.context_length"] == 96
    assert any("sliding window" in note for note in summary.notes)


def test_rows_with_partial_blocks_become_f16(tmp_path: Path) -> None:
    shape = Shape(width=48, feed_forward=80, heads=3, kv_heads=3, head_dim=16, context=64)
    out = tmp_path / "out.gguf"
    summary = convert(write_checkpoint(tmp_path / "in", shape), out, "q8_0")
    assert set(summary.types) == {"F16", "F32"}
    assert "F16" in summary.fallbacks["blk.0.ffn_down.weight"]
    np.testing.assert_array_equal(values_of(out)["output.weight"], hf_tensors(shape)["lm_head.weight"])


@pytest.mark.parametrize("tied", [False, True])
def test_q4_0_keeps_the_output_matrix_in_q8_0(tied: bool, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    summary = convert(write_checkpoint(tmp_path / "in", replace(SMALL, tied=tied)), out, "q4_0")
    types = {t.name: t.tensor_type for t in gguf.GGUFReader(out).tensors}
    assert list(summary.fallbacks) == ["token_embd.weight" if tied else "output.weight"]
    assert types[next(iter(summary.fallbacks))] is GGMLQuantizationType.Q8_0
    assert types["blk.0.attn_q.weight"] is GGMLQuantizationType.Q4_0


def test_a_tied_checkpoint_may_store_a_copy_of_the_embedding(tmp_path: Path) -> None:
    shape = replace(SMALL, tied=True)
    checkpoint, out = write_checkpoint(tmp_path / "in", shape), tmp_path / "out.gguf"
    tensors = hf_tensors(shape)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    write_safetensors(checkpoint / "model.safetensors", tensors)
    convert(checkpoint, out, "f16")
    assert set(values_of(out)) == set(tensor_shapes(shape))


def test_an_output_matrix_that_differs_is_kept_although_the_config_ties_it(tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    edit_json(checkpoint / "config.json", tie_word_embeddings=True)
    summary = convert(checkpoint, out, "f32")
    np.testing.assert_array_equal(values_of(out)["output.weight"], hf_tensors(SMALL)["lm_head.weight"])
    assert any("tie_word_embeddings is true, but lm_head.weight differs" in note for note in summary.notes)


@pytest.mark.parametrize("tied", [None, True])
def test_a_missing_output_matrix_is_the_embedding(tied: bool | None, tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "in", replace(SMALL, tied=True)), tmp_path / "out.gguf"
    edit_json(checkpoint / "config.json", tie_word_embeddings=tied)
    convert(checkpoint, out, "f32")
    assert "output.weight" not in values_of(out)


def test_a_missing_output_matrix_is_an_error_if_the_config_does_not_tie_it(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", replace(SMALL, tied=True))
    edit_json(checkpoint / "config.json", tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"'lm_head\.weight' is missing, and config\.json has tie"):
        convert(checkpoint, tmp_path / "out.gguf", "f32")


def test_added_tokens_beyond_the_embedding_are_left_out_with_a_note(tmp_path: Path) -> None:
    checkpoint, out = write_checkpoint(tmp_path / "in", SMALL), tmp_path / "out.gguf"
    tokenizer = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))
    tokenizer["added_tokens"].append({"id": 320, "content": "[PAD]", "special": True})
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    summary = convert(checkpoint, out, "f32")
    assert "added tokens left out, because the embedding has only 320 rows: [PAD]" in summary.notes
    assert len(keys_of(out)["tokenizer.ggml.tokens"]) == 320


# ---- rejected checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel' is not supported; expected one of Llama"),
        ({"architectures": None}, "architecture None"),
        ({"hidden_act": "gelu"}, "hidden_act: expected 'silu', got 'gelu'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": "64"}, "hidden_size: expected an integer"),
        ({"hidden_size": 65}, "config.json requires shape [320, 65], got [320, 64]"),
        ({"num_hidden_layers": 3}, "'layers.2.input_layernorm.weight' is missing"),
        ({"num_hidden_layers": 1}, "is not part of architecture 'llama'"),
        ({"num_key_value_heads": 3}, "multiple of num_key_value_heads"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps: expected a positive number"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "got 'longrope'"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor: expected a positive number"),
        ({"rope_scaling": [1]}, "rope_scaling: expected an object"),
        (
            {"vocab_size": 10},
            "requires shape [10, 64], got [320, 64]; if the checkpoint is right, set vocab_size to",
        ),
        ({"quantization_config": {"bits": 4}}, "already quantized"),
    ],
)
def test_unsupported_configs_are_rejected(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "in", SMALL)
    edit_json(checkpoint / "config.json", **change)
    with pytest.raises(CheckpointError) as error:
        convert(checkpoint, tmp_path / "out.gguf", "q8_0")
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == [checkpoint]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_must_be_finite(value: float, tmp_path: Path) -> None:
    checkpoint, tensors = write_checkpoint(tmp_path / "in", SMALL), hf_tensors(SMALL)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    write_safetensors(checkpoint / "model.safetensors", tensors)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight contains inf or NaN"):
        convert(checkpoint, tmp_path / "out.gguf", "q8_0")
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_weights_must_be_in_the_range_of_f16(tmp_path: Path) -> None:
    checkpoint, tensors = write_checkpoint(tmp_path / "in", SMALL), hf_tensors(SMALL)
    tensors["lm_head.weight"][0, 0] = 65520
    write_safetensors(checkpoint / "model.safetensors", tensors)
    with pytest.raises(BadFormatError, match="too large for F16"):
        convert(checkpoint, tmp_path / "out.gguf", "f16")
    convert(checkpoint, tmp_path / "out.gguf", "bf16")


# ---- memory ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_memory_stays_near_the_largest_tensor(tmp_path: Path) -> None:
    checkpoint = write_sparse_checkpoint(tmp_path / "in", layers=16)  # 1 GB
    program = (
        "import resource, sys; from pathlib import Path; from binhdan.quantize.convert import *;"
        "import binhdan.quantize.cli; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "convert(Path(sys.argv[1]), Path(sys.argv[2]), 'q8_0');"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    out = tmp_path / "out.gguf"
    grown = subprocess.run(
        [sys.executable, "-c", program, checkpoint, out], check=True, capture_output=True, text=True
    ).stdout
    assert int(grown) < 128 << 10  # KB; the largest tensor is 16 MB of float32
