"""modules.json of sentence-transformers: pooling_type and dense layers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quantize_helpers import keys_of, values_of
from tiny_checkpoints import write_golden_family
from tiny_models import random_tensor, write_safetensors

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.convert import convert

TRANSFORMER = ("0", "Transformer", "")
POOLING = ("1", "Pooling", "1_Pooling")
DENSE = (("2", "Dense", "2_Dense"), ("3", "Dense", "3_Dense"))
IDENTITY = "torch.nn.modules.linear.Identity"


def write_modules(checkpoint: Path, *modules: tuple[str, str, str]) -> None:
    entries = [
        {"idx": int(i), "name": i, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, kind, path in modules
    ]
    (checkpoint / "modules.json").write_text(json.dumps(entries))


def write_pooling(checkpoint: Path, config: dict[str, Any]) -> Path:
    (checkpoint / "1_Pooling").mkdir()
    (checkpoint / "1_Pooling" / "config.json").write_text(json.dumps(config))
    return checkpoint


def write_dense(checkpoint: Path, name: str, rows: int, columns: int, **config: Any) -> None:
    folder = checkpoint / name
    folder.mkdir()
    config = {
        "in_features": columns,
        "out_features": rows,
        "bias": False,
        "activation_function": IDENTITY,
    } | config
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", {"linear.weight": random_tensor(name, (rows, columns))})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, 1),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, 2),
        ({"pooling_mode_lasttoken": True}, 3),
        ({"word_embedding_dimension": 64, "pooling_mode": "mean"}, 1),
    ],
)
def test_the_pooling_module_becomes_pooling_type(
    config: dict[str, Any], expected: int, tmp_path: Path
) -> None:
    checkpoint, out = (
        write_pooling(write_golden_family(tmp_path / "in", "bert"), config),
        tmp_path / "out.gguf",
    )
    write_modules(checkpoint, TRANSFORMER, POOLING, ("2", "Normalize", "2_Normalize"))
    convert(checkpoint, out, "f32")
    assert keys_of(out)["bert.pooling_type"] == expected


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode": "weightedmean"},
        {},
    ],
)
def test_other_poolings_are_rejected(config: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = write_pooling(write_golden_family(tmp_path / "in", "bert"), config)
    write_modules(checkpoint, TRANSFORMER, POOLING)
    with pytest.raises(CheckpointError, match="expected one pooling of mean, cls and lasttoken"):
        convert(checkpoint, tmp_path / "out.gguf", "f32")


def test_dense_modules_become_dense_2_and_dense_3(tmp_path: Path) -> None:
    checkpoint, out = write_golden_family(tmp_path / "in", "gemma-embedding"), tmp_path / "out.gguf"
    write_pooling(checkpoint, {"pooling_mode_mean_tokens": True})
    write_dense(checkpoint, "2_Dense", 128, 64)
    write_dense(checkpoint, "3_Dense", 64, 128)
    write_modules(checkpoint, TRANSFORMER, POOLING, *DENSE)
    convert(checkpoint, out, "f32")
    keys, values = keys_of(out), values_of(out)
    expected = {
        "dense_2_feat_in": 64,
        "dense_2_feat_out": 128,
        "dense_3_feat_in": 128,
        "dense_3_feat_out": 64,
    }
    assert {key: keys[f"gemma-embedding.{key}"] for key in expected} == expected
    np.testing.assert_array_equal(values["dense_2.weight"], random_tensor("2_Dense", (128, 64)))
    np.testing.assert_array_equal(values["dense_3.weight"], random_tensor("3_Dense", (64, 128)))


@pytest.mark.parametrize(
    ("name", "columns", "config", "message"),
    [
        ("gemma-embedding", 64, {"bias": True}, "bias: expected False"),
        ("gemma-embedding", 64, {"activation_function": "torch.nn.Tanh"}, "activation_function: expected"),
        ("gemma-embedding", 32, {}, "expected 64 columns, got 32"),
        ("bert", 64, {}, "Dense modules are not supported for 'bert'"),
    ],
)
def test_other_dense_modules_are_rejected(
    name: str, columns: int, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    checkpoint = write_golden_family(tmp_path / "in", name)
    write_dense(checkpoint, "2_Dense", 128, columns, **config)
    write_dense(checkpoint, "3_Dense", 64, 128)
    write_modules(checkpoint, TRANSFORMER, *DENSE)
    with pytest.raises(CheckpointError) as error:
        convert(checkpoint, tmp_path / "out.gguf", "f32")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ("{}", "expected a list, got dict"),
        ("[7]", "expected objects with type and path"),
        ('[{"type": "a.Pooling", "path": "../elsewhere"}]', "expected folders inside the checkpoint"),
        ('[{"type": "a.Pooling", "path": "/etc"}]', "expected folders inside the checkpoint"),
        ('[{"type": "a.LSTM", "path": "1_LSTM"}]', "module 'LSTM' is not supported"),
        ("[" * 100_000, "modules.json"),
    ],
)
def test_damaged_modules_are_rejected(modules: str, message: str, tmp_path: Path) -> None:
    checkpoint = write_golden_family(tmp_path / "in", "bert")
    (checkpoint / "modules.json").write_text(modules)
    with pytest.raises(CheckpointError) as error:
        convert(checkpoint, tmp_path / "out.gguf", "f32")
    assert message in str(error.value)
