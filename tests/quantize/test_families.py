"""Every family: keys and tensors equal those of llama.cpp's converter for checkpoints of transformers."""

import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from quantize_helpers import edit_json, keys_of, values_of
from tiny_checkpoints import family_tensors, goldens, write_golden_family
from tiny_models import write_safetensors

from binhdan.quantize.checkpoint import CheckpointError, open_checkpoint
from binhdan.quantize.convert import Summary, convert
from binhdan.quantize.families import FAMILIES
from binhdan.quantize.plan import draft_checkpoint

# Keys that we write and llama.cpp's converter leaves to the reader's default, which is the same value.
EXPLICIT_KEYS = {
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "rope.dimension_count",
    "rope.freq_base",
    "vocab_size",
    "pooling_type",  # rank: llama.cpp's users pass it as an option
}


def convert_family(name: str, folder: Path, **changes: Any) -> tuple[Summary, Path]:
    checkpoint, out = write_golden_family(folder / "in", name), folder / "out.gguf"
    if changes:
        edit_json(checkpoint / "config.json", **changes)
    return convert(checkpoint, out, "f32"), out


def family_keys(out: Path) -> dict[str, Any]:
    """Returns the keys of the architecture, without its name."""
    keys = keys_of(out)
    prefix = keys["general.architecture"] + "."
    return {key.removeprefix(prefix): value for key, value in keys.items() if key.startswith(prefix)}


def test_every_family_has_a_golden() -> None:
    named = {golden["config"]["architectures"][0] for golden in goldens().values()}
    basic = {"llama", "qwen2", "qwen3"}  # test_convert.py
    named.add("BertForSequenceClassification")  # llama.cpp leaves its pooler out: test_rerankers.py
    assert [f.name for f in FAMILIES if f.name not in basic and not named & set(f.classes)] == []


@pytest.mark.parametrize("name", goldens())
def test_keys_and_tensors_equal_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    golden = goldens()[name]
    summary, out = convert_family(name, tmp_path)
    keys, expected = keys_of(out), golden["gguf_keys"]
    assert {key: keys.get(key) for key in expected} == expected
    prefix = expected["general.architecture"] + "."
    assert summary.context == expected[prefix + "context_length"]
    added = {key.removeprefix(prefix) for key in keys if key.startswith(prefix) and key not in expected}
    assert added <= EXPLICIT_KEYS
    tensors = {
        t.name: [list(map(int, t.shape))[::-1], zlib.crc32(t.data.tobytes())]
        for t in gguf.GGUFReader(out).tensors
    }
    assert tensors == golden["gguf_tensors"]


@pytest.mark.parametrize("recipe", ["q8_0", "q4_0", "f16"])
@pytest.mark.parametrize("name", ["gemma4", "qwen35", "lfm2", "qwen3moe", "xlm-roberta-rank"])
def test_small_tensors_stay_f32(name: str, recipe: str, tmp_path: Path) -> None:
    checkpoint, out = write_golden_family(tmp_path / "in", name), tmp_path / "out.gguf"
    convert(checkpoint, out, recipe)
    types = {t.name.removeprefix("blk.0."): t.tensor_type.name for t in gguf.GGUFReader(out).tensors}
    exact = {"ssm_conv1d.weight", "shortconv.conv.weight", "ffn_gate_inp.weight", "position_embd.weight"}
    assert {types[tensor] for tensor in exact & types.keys()} <= {"F32"}
    output = types.get("output.weight", types["token_embd.weight"])
    assert output == ("F16" if recipe == "f16" else "Q8_0")


def test_value_heads_are_tiled_and_decays_are_negative(tmp_path: Path) -> None:
    _, out = convert_family("qwen35", tmp_path)
    source = family_tensors(goldens()["qwen35"]["tensors"])["model.layers.0.linear_attn.A_log"]
    expected = -np.exp(source.astype(np.float64))[[0, 2, 1, 3]]  # 2 key heads, 4 value heads
    np.testing.assert_allclose(values_of(out)["blk.0.ssm_a"], expected, rtol=1e-6)


# ---- parts that are left out -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gemma3-vision", "qwen35-vision"])
def test_the_vision_part_is_left_out_with_a_note(name: str, tmp_path: Path) -> None:
    summary, _ = convert_family(name, tmp_path)
    assert any(note.endswith("tensors are left out: vision") for note in summary.notes)


def test_multi_token_prediction_is_left_out_with_a_note(tmp_path: Path) -> None:
    checkpoint = write_golden_family(tmp_path / "in", "qwen35")
    tensors = family_tensors(goldens()["qwen35"]["tensors"])
    tensors["mtp.fc.weight"] = np.zeros((64, 128), np.float32)
    write_safetensors(checkpoint / "model.safetensors", tensors)
    summary = convert(checkpoint, tmp_path / "out.gguf", "f32")
    assert "1 tensors are left out: multi-token prediction" in summary.notes


def test_keys_and_values_of_shared_layers_are_left_out_with_a_note(tmp_path: Path) -> None:
    checkpoint = write_golden_family(tmp_path / "in", "gemma4")
    tensors = family_tensors(goldens()["gemma4"]["tensors"])
    tensors["model.layers.4.self_attn.k_proj.weight"] = np.zeros((32, 64), np.float32)
    write_safetensors(checkpoint / "model.safetensors", tensors)
    summary = convert(checkpoint, tmp_path / "out.gguf", "f32")
    assert "1 tensors of layers that share keys and values are left out" in summary.notes


# ---- configs as other versions of transformers write them --------------------------------------------------


def test_gemma3_of_transformers_4(tmp_path: Path) -> None:
    """Its config has no rope_parameters, and relies on the defaults of the class."""
    changes = {
        "rope_parameters": None, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "layer_types": None,
        "_sliding_window_pattern": None, "tie_word_embeddings": None, "max_position_embeddings": None,
    }  # fmt: skip
    _, out = convert_family("gemma3", tmp_path, **changes)
    keys = family_keys(out)
    assert (keys["rope.freq_base"], keys["rope.freq_base_swa"]) == (1e6, 1e4)
    assert (keys["rope.scaling.type"], keys["rope.scaling.factor"]) == ("linear", 8.0)
    assert keys["context_length"] == 131072
    assert "attention.sliding_window_pattern" not in keys  # every sixth, the readers' default


def test_another_pattern_of_windows_is_written(tmp_path: Path) -> None:
    types = ["sliding_attention", "full_attention"] * 3 + ["sliding_attention"]
    _, out = convert_family("gemma3", tmp_path, layer_types=types)
    expected = [kind == "sliding_attention" for kind in types]
    assert family_keys(out)["attention.sliding_window_pattern"] == expected


def test_phi3_of_transformers_4(tmp_path: Path) -> None:
    golden = goldens()["phi3"]["config"]["rope_parameters"]
    scaling = {"type": "su", "short_factor": golden["short_factor"], "long_factor": golden["long_factor"]}
    changes = {"rope_parameters": None, "rope_scaling": scaling, "rope_theta": 10000.0}
    _, out = convert_family("phi3", tmp_path, **changes)
    keys = family_keys(out)
    assert keys["rope.scaling.attn_factor"] == pytest.approx(math.sqrt(1 + math.log(4) / math.log(64)))
    np.testing.assert_array_equal(values_of(out)["rope_factors_long.weight"], golden["long_factor"])


def test_lfm2_with_indices_of_attention_layers(tmp_path: Path) -> None:
    _, out = convert_family("lfm2", tmp_path, layer_types=None, full_attn_idxs=[1])
    assert family_keys(out)["attention.head_count_kv"] == [0, 2, 0]


def test_rope_sections_of_qwen35_are_padded(tmp_path: Path) -> None:
    rope = {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
    }
    _, out = convert_family("qwen35", tmp_path, rope_parameters=rope)
    keys = family_keys(out)
    assert keys["rope.dimension_sections"] == [2, 1, 1, 0]
    assert (keys["rope.dimension_count"], keys["rope.freq_base"]) == (16, 1e7)


# ---- rejected configs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma3", {"query_pre_attn_scalar": 30}, "query_pre_attn_scalar: expected 32"),
        ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention: expected False"),
        ("gemma3", {"hidden_activation": "silu"}, "hidden_activation: expected 'gelu_pytorch_tanh'"),
        ("gemma3", {"layer_types": ["chunked_attention"] * 7}, "layer_types: layer 0: expected one of"),
        ("gemma3", {"layer_types": ["full_attention"]}, "layer_types: expected 7 strings"),
        ("gemma4", {"enable_moe_block": True}, "enable_moe_block: expected False"),
        (
            "gemma4",
            {"per_layer_config": {"3": {"head_dim": 64}}},
            "expected one head_dim for all full_attention",
        ),
        ("smollm3", {"no_rope_layers": [1, 1, 1, 1, 1]}, "no_rope_layers: expected 0 for every fourth layer"),
        ("qwen35", {"linear_num_value_heads": 3}, "multiple of linear_num_key_heads"),
        ("qwen35", {"attn_output_gate": False}, "attn_output_gate: expected True"),
        ("qwen3moe", {"norm_topk_prob": None}, "norm_topk_prob: expected True, got 'False'"),
        ("lfm2", {"conv_bias": True}, "conv_bias: expected False"),
        ("lfm2", {"layer_types": None, "full_attn_idxs": 7}, "full_attn_idxs: expected a list of counts"),
        ("bert", {"hidden_act": "relu"}, "hidden_act: expected 'gelu'"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type: expected 'absolute'"),
        ("xlm-roberta", {"pad_token_id": 200}, "expected max_position_embeddings above pad_token_id + 1"),
        ("exaone4", {"layer_types": None}, "layer_types: expected a list, because sliding_window is set"),
        ("mpt", {"attn_config": {"alibi": False}}, "attn_config: alibi: expected True"),
        ("granite", {"residual_multiplier": 0}, "residual_multiplier: expected a positive number"),
    ],
)
def test_what_gguf_cannot_express_is_rejected(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as error:
        convert_family(name, tmp_path, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["gemma3", "gemma4", "qwen35", "lfm2moe", "phi3", "bert", "mpt"])
def test_any_value_in_a_config_is_planned_or_rejected(name: str, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_golden_family(tmp_path / "in", name))
    for key in checkpoint.config:
        for value in (None, True, -1, 0.5, "x", [[]], {"0": {}}):
            try:
                draft_checkpoint(replace(checkpoint, config=checkpoint.config | {key: value}), name="x")
            except CheckpointError as error:
                assert len(str(error)) < 2000
