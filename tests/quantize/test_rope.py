"""RoPE in config.json: scalings, layer types, and the context length that follows."""

import math
from pathlib import Path
from typing import Any

import pytest
from quantize_helpers import edit_json, keys_of
from tiny_models import SMALL, write_checkpoint

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.convert import Summary, convert


def convert_with(folder: Path, **changes: Any) -> tuple[Summary, dict[str, Any]]:
    checkpoint, out = write_checkpoint(folder / "in", SMALL), folder / "out.gguf"
    edit_json(checkpoint / "config.json", **changes)
    summary = convert(checkpoint, out, "f16")
    return summary, {key.removeprefix("llama."): value for key, value in keys_of(out).items()}


def test_yarn_as_qwen25_documents_it(tmp_path: Path) -> None:
    """rope_scaling with a factor of 4 for a model trained on max_position_embeddings."""
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    summary, keys = convert_with(tmp_path, rope_scaling=scaling)
    assert summary.context == keys["context_length"] == 512
    assert keys["rope.scaling.original_context_length"] == 128
    assert "context 512: YaRN's factor 4 x original context 128" in summary.notes


def test_yarn_whose_context_is_already_extended(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    summary, _ = convert_with(tmp_path, rope_scaling=scaling)
    assert summary.context == 128
    assert not any("YaRN" in note for note in summary.notes)


@pytest.mark.parametrize(
    ("extra", "magnitude"),
    [
        ({"attention_factor": 1.5}, 1.5),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),
        ({"mscale": 2.0, "mscale_all_dim": 1.0}, (0.2 * math.log(4) + 1) / (0.1 * math.log(4) + 1)),
        ({"mscale": 1.0}, 0.1 * math.log(4) + 1),
    ],
)
def test_the_magnitude_of_yarn(extra: dict[str, float], magnitude: float, tmp_path: Path) -> None:
    """Readers multiply attn_factor by YaRN's default, 0.1 ln(factor) + 1 (transformers: attention_factor)."""
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, **extra}
    _, keys = convert_with(tmp_path, rope_scaling=scaling)
    factor = keys.get("rope.scaling.attn_factor", 1.0)
    assert factor * (0.1 * math.log(4) + 1) == pytest.approx(magnitude)


def test_equal_parameters_for_all_layer_types_are_one_rope(tmp_path: Path) -> None:
    rope = {"rope_type": "default", "rope_theta": 5e5}
    nested = {"full_attention": rope, "sliding_attention": rope}
    _, keys = convert_with(tmp_path, rope_parameters=nested, rope_theta=None)
    assert keys["rope.freq_base"] == 5e5


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}},
            "expected equal parameters for all layers",
        ),
        ({"chunked_attention": {"rope_theta": 1e6}}, "expected full_attention and sliding_attention"),
        ({"sliding_attention": {"rope_theta": 1e6}}, "expected full_attention and sliding_attention"),
        ({"full_attention": {"rope_theta": 1e6}, "rope_theta": 1e4}, "expected full_attention and"),
        ({"rope_type": "dynamic", "factor": 2.0}, "got 'dynamic'"),
        ({"rope_type": "yarn", "factor": 4.0, "truncate": False}, "truncate: expected True"),
        ({"rope_type": "yarn", "factor": 1e20}, "factor: expected at most 1,073,741,824 positions"),
        ({"rope_theta": 1e4, "partial_rotary_factor": 0.5}, "partial_rotary_factor: expected 1"),
        (
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0},
            "expected low_freq_factor below high_freq_factor",
        ),
    ],
)
def test_what_gguf_cannot_express_is_rejected(
    parameters: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError) as error:
        convert_with(tmp_path, rope_parameters=parameters)
    assert message in str(error.value)


def test_an_assumed_base_is_said(tmp_path: Path) -> None:
    summary, keys = convert_with(tmp_path, rope_theta=None)
    assert keys["rope.freq_base"] == 10000.0
    assert "config.json has no rope_theta; 10,000 is assumed" in summary.notes
