"""Conversion of PEFT adapters: the merged checkpoint converts to the merged GGUF."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from adapters import random_pairs
from quantize_helpers import keys_of, values_of
from tiny_checkpoints import family_tensors, goldens, write_family
from tiny_models import Floats, write_safetensors
from typer.testing import CliRunner

from binhdan.quantize.adapter import convert_adapter
from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.cli import app
from binhdan.quantize.convert import convert
from binhdan.runtime.errors import InvalidArgumentError

MODULES = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "qkv_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "gate_up_proj",
)
MORE = ("in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj")
RANK = 4


def golden(architecture: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """A checkpoint whose converted model is of this architecture."""
    for one in goldens().values():
        if one["gguf_keys"].get("general.architecture") == architecture:
            return one["config"], one["tensors"]
    raise AssertionError(architecture)


def write_peft(folder: Path, tensors: dict[str, Floats], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    values = {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": 8,
        "bias": "none",
        "init_lora_weights": True,
    } | config
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


def names(pairs: dict[str, tuple[Floats, Floats]]) -> dict[str, Floats]:
    """The tensors of PEFT."""
    tensors = {}
    for name, (down, up) in pairs.items():
        module = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = down, up
    return tensors


@pytest.mark.parametrize("architecture", ["llama", "phi3", "gemma3", "qwen35", "smollm3"])
def test_the_merged_checkpoint_converts_to_the_same_matrices(architecture: str, tmp_path: Path) -> None:
    config, shapes = golden(architecture)
    base, merged = tmp_path / "base", tmp_path / "merged"
    write_family(base, config, shapes)
    write_family(merged, config, shapes)
    changed = {
        name: tuple(dims)
        for name, dims in shapes.items()
        if len(dims) == 2 and ".layers." in name and name.split(".")[-2] in MODULES + MORE
    }
    pairs = random_pairs(changed, RANK)
    tensors = family_tensors(shapes)
    for name, (down, up) in pairs.items():
        tensors[name] = tensors[name] + 2 * (up @ down)
    write_safetensors(merged / "model.safetensors", tensors)
    convert(base, tmp_path / "base.gguf", "f32")
    convert(merged, tmp_path / "merged.gguf", "f32")
    write_peft(tmp_path / "peft", names(pairs))
    summary = convert_adapter(tmp_path / "peft", tmp_path / "adapter.gguf", base=base, tensor_type="f32")
    assert (
        summary.architecture == architecture and summary.bytes == (tmp_path / "adapter.gguf").stat().st_size
    )
    plain, expected, got = (values_of(tmp_path / f"{name}.gguf") for name in ("base", "merged", "adapter"))
    assert len(got) == 2 * len(pairs)
    targets = [name.removesuffix(".lora_a") for name in got if name.endswith(".lora_a")]
    for name in targets:
        change = 2 * (got[f"{name}.lora_b"] @ got[f"{name}.lora_a"])
        np.testing.assert_allclose(plain[name] + change, expected[name], atol=1e-5, err_msg=name)
    assert {name for name in plain if not np.array_equal(plain[name], expected[name])} == set(targets)


def one_pair() -> dict[str, tuple[Floats, Floats]]:
    _, shapes = golden("llama")
    name = next(name for name in shapes if name.endswith("0.self_attn.v_proj.weight"))
    return random_pairs({name: tuple(shapes[name])}, RANK)


def write_base(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(golden("llama")[0]))
    return folder


@pytest.mark.parametrize(
    "config, alpha, factor",
    [
        ({}, 8.0, 1.0),
        ({"use_rslora": True}, 8 * math.sqrt(RANK), 1.0),
        ({"alpha_pattern": {"self_attn.v_proj": 4}}, 8.0, 0.5),
        ({"alpha_pattern": {"q_proj": 4}}, 8.0, 1.0),
        ({"r": 2, "rank_pattern": {"v_proj": RANK}}, 8.0, 1.0),
    ],
)
def test_factors(config: dict[str, Any], alpha: float, factor: float, tmp_path: Path) -> None:
    pairs = one_pair()
    peft = write_peft(tmp_path / "peft", names(pairs), **config)
    convert_adapter(
        peft, tmp_path / "a.gguf", base=write_base(tmp_path / "base"), tensor_type="f32", name="thơ"
    )
    keys = keys_of(tmp_path / "a.gguf")
    assert keys["adapter.lora.alpha"] == pytest.approx(alpha)
    assert (keys["general.type"], keys["adapter.type"], keys["general.name"]) == ("adapter", "lora", "thơ")
    ((_, up),) = pairs.values()
    np.testing.assert_array_equal(
        values_of(tmp_path / "a.gguf")["blk.0.attn_v.weight.lora_b"], up * np.float32(factor)
    )


@pytest.mark.parametrize(
    "config, message",
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"r": 0}, "r: expected"),
        ({"alpha_pattern": {"(": 1}}, "alpha_pattern"),
        ({"base_model_name_or_path": "org/name"}, "--base"),
    ],
)
def test_refused_settings(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    peft, base = write_peft(tmp_path / "peft", names(one_pair()), **config), write_base(tmp_path / "base")
    with pytest.raises(CheckpointError, match=message):
        convert_adapter(peft, tmp_path / "a.gguf", base=None if message == "--base" else base)
    assert not (tmp_path / "a.gguf").exists()


def test_refused_tensors(tmp_path: Path) -> None:
    base, pairs = write_base(tmp_path / "base"), one_pair()
    ((down, up),) = pairs.values()
    good = names(pairs)
    first, second = good
    for message, tensors in {
        "lora_A and lora_B of linear": good | {"base_model.model.x.lora_embedding_A": down},
        "got one of them": {first: down},
        "expected the shape": {first: down[:, :-1], second: up},
        "has no matrix layers.77": {
            key.replace("layers.0", "layers.77"): value for key, value in good.items()
        },
        "there is another one": good | {first.replace("A.weight", "A.default.weight"): down},
        "the file has no tensors": {},
    }.items():
        peft = write_peft(tmp_path / "peft", tensors)
        with pytest.raises(CheckpointError, match=message):
            convert_adapter(peft, tmp_path / "a.gguf", base=base)
    (tmp_path / "peft" / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="safe_serialization"):
        convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base=base)
    with pytest.raises(InvalidArgumentError, match="q4_0"):
        convert_adapter(tmp_path / "peft", tmp_path / "a.gguf", base=base, tensor_type="q4_0")


def test_command(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    peft = write_peft(tmp_path / "peft", names(one_pair()), base_model_name_or_path=str(base))
    arguments = [str(peft), str(tmp_path / "a.gguf")]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["types"] == {"F16": 2}
    result = CliRunner().invoke(app, [*arguments, "--force", "--prune-vocab", "vi"])
    assert isinstance(result.exception, InvalidArgumentError) and "--prune-vocab" in str(result.exception)
