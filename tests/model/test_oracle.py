"""The oracle against transformers and llama.cpp (committed goldens)."""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from reference_config import Config, Layer
from reference_forward import Array, ReferenceModel, mean_kl
from tiny_models import FAMILY_GOLDEN_SHAPES, GOLDEN_SHAPES, Shape, write_checkpoint, write_gguf

from binhdan.quantize.convert import convert

GOLDENS = Path(__file__).parents[1] / "goldens"
PROMPT = [3 + 7 * i % 317 for i in range(100)]


@pytest.mark.parametrize("name", GOLDEN_SHAPES)
def test_logits_of_a_converted_checkpoint_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    file = tmp_path / "out.gguf"
    convert(write_checkpoint(tmp_path / name, GOLDEN_SHAPES[name]), file, "f32")
    model = ReferenceModel(file)
    with np.load(GOLDENS / f"{name}.npz") as golden:
        tokens, greedy = golden["tokens"].tolist(), golden["greedy"].tolist()
        expected, llama_cpp = golden["logits_transformers"], golden["logits_llama_cpp"]
    logits = model.logits(tokens)[-len(expected) :]
    np.testing.assert_allclose(logits, expected, atol=1e-4)  # transformers computes RoPE and norms in float32
    assert mean_kl(logits, llama_cpp) < 2e-5  # llama.cpp stores KV in F16
    assert model.greedy(tokens, len(greedy)) == greedy


@pytest.mark.parametrize("name", FAMILY_GOLDEN_SHAPES)
def test_results_of_a_family_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    shape = FAMILY_GOLDEN_SHAPES[name]
    model = ReferenceModel(write_gguf(tmp_path / "model.gguf", shape))
    with np.load(GOLDENS / "families" / f"{name}.npz") as golden:
        tokens, positions, expected = golden["tokens"].tolist(), golden["positions"], golden["values"]
        llama_cpp = golden.get("llama_cpp")
    got = (model.hidden(tokens) if shape.family.encoder else model.logits(tokens))[positions]
    np.testing.assert_allclose(got, expected, atol=1e-4)
    if llama_cpp is not None:
        assert mean_kl(got, llama_cpp) < 2e-5


def each_layer(change: Callable[[Layer], Layer]) -> Callable[[Config], Config]:
    return lambda config: replace(config, layers=tuple(map(change, config.layers)))


def no_window(layer: Layer) -> Layer:
    return replace(layer, window=0)


def shorter_window(layer: Layer) -> Layer:
    return replace(layer, window=max(layer.window - 1, 0))


def rope_of_the_last_layer(config: Config) -> Config:
    rope = [layer.rope for layer in config.layers if layer.window == 0 and layer.rope][-1]
    return replace(config, layers=tuple(replace(layer, rope=rope) for layer in config.layers))


def own_scale(layer: Layer) -> Layer:
    return replace(layer, scale=layer.head_dim**-0.5)


def no_rope_scaling(layer: Layer) -> Layer:
    return replace(layer, rope=layer.rope and replace(layer.rope, scaling="none", factors=None))


def no_attention_factor(layer: Layer) -> Layer:
    return replace(layer, rope=layer.rope and replace(layer.rope, attention_factor=1.0, log_multiplier=0.0))


def rope_of_whole_heads(layer: Layer) -> Layer:
    return replace(layer, rope=layer.rope and replace(layer.rope, dims=layer.head_dim, factors=None))


# Errors that a forward pass could have: the tiny model must show each of them.
WRONG: dict[str, tuple[Shape, Callable[[Config], Config]]] = {
    "gemma with SiLU": (Shape("gemma"), lambda c: replace(c, activation="silu")),
    "gemma without embedding scale": (Shape("gemma"), lambda c: replace(c, embedding_scale=1.0)),
    "gemma2 without window": (Shape("gemma2"), each_layer(no_window)),
    "gemma2 without attention softcap": (Shape("gemma2"), lambda c: replace(c, attention_softcap=0.0)),
    "gemma2 without final softcap": (Shape("gemma2"), lambda c: replace(c, logit_softcap=0.0)),
    "gemma3 without window": (Shape("gemma3"), each_layer(no_window)),
    "gemma3 with a shorter window": (Shape("gemma3"), each_layer(shorter_window)),
    "gemma3 with one RoPE base": (Shape("gemma3"), rope_of_the_last_layer),
    "gemma3 with SiLU": (Shape("gemma3"), lambda c: replace(c, activation="silu")),
    "gemma3 without embedding scale": (Shape("gemma3"), lambda c: replace(c, embedding_scale=1.0)),
    "gemma3 without RoPE scaling": (Shape("gemma3", rope="linear"), each_layer(no_rope_scaling)),
    "gemma4 without window": (Shape("gemma4"), each_layer(no_window)),
    "gemma4 with scaled scores": (Shape("gemma4"), each_layer(own_scale)),
    "gemma4 without final softcap": (Shape("gemma4"), lambda c: replace(c, logit_softcap=0.0)),
    "gemma4 with RoPE of whole heads": (Shape("gemma4"), each_layer(rope_of_whole_heads)),
    "phi3 without factors": (Shape("phi3"), each_layer(no_rope_scaling)),
    "phi3 without attention factor": (Shape("phi3"), each_layer(no_attention_factor)),
    "smollm3 with RoPE everywhere": (Shape("smollm3"), rope_of_the_last_layer),
    "granite without embedding scale": (Shape("granite"), lambda c: replace(c, embedding_scale=1.0)),
    "granite without residual scale": (Shape("granite"), lambda c: replace(c, residual_scale=1.0)),
    "granite without attention scale": (Shape("granite"), each_layer(own_scale)),
    "granite without logit scale": (Shape("granite"), lambda c: replace(c, logit_scale=1.0)),
    "mistral3 without YaRN": (Shape("mistral3"), each_layer(no_rope_scaling)),
    "mistral3 with YaRN's attention factor": (Shape("mistral3"), each_layer(no_attention_factor)),
    "mistral3 without temperature": (Shape("mistral3"), lambda c: replace(c, temperature=0.0)),
    "qwen35 with RoPE of whole heads": (Shape("qwen35"), each_layer(rope_of_whole_heads)),
    "lfm2moe with softmax": (Shape("lfm2moe"), lambda c: replace(c, expert_gating="softmax")),
    "qwen3moe with one expert": (Shape("qwen3moe"), lambda c: replace(c, experts_used=1)),
}


Right = Callable[[Shape], tuple[ReferenceModel, Array]]


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Right:
    """Returns a function shape → (model, its logits)."""
    folder = tmp_path_factory.mktemp("right")

    @cache
    def make(shape: Shape) -> tuple[ReferenceModel, Array]:
        model = ReferenceModel(write_gguf(folder / "model.gguf", shape))
        return model, model.logits(PROMPT)

    return make


@pytest.mark.parametrize("name", WRONG)
def test_the_tiny_models_show_a_wrong_forward_pass(name: str, right: Right) -> None:
    shape, change = WRONG[name]
    model, expected = right(shape)
    wrong = copy(model)
    wrong.config = change(model.config)
    assert mean_kl(expected, wrong.logits(PROMPT)) > 1e-3  # float weights are within 2e-5


def test_phi3_chooses_its_rope_factors_by_the_context(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "model.gguf", Shape("phi3"))
    assert ReferenceModel(file).config.layers[0].rope.factors == "rope_factors_long.weight"
    assert ReferenceModel(file, context=64).config.layers[0].rope.factors == "rope_factors_short.weight"


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooled_vectors(pooling: str, tmp_path: Path) -> None:
    tokens = list(range(3, 30))
    bert = ReferenceModel(write_gguf(tmp_path / "bert.gguf", Shape("bert")))
    bert.config = replace(bert.config, pooling=pooling)
    hidden = bert.hidden(tokens)
    expected = {"mean": np.mean(hidden, axis=0), "cls": hidden[0], "last": hidden[-1]}[pooling]
    np.testing.assert_array_equal(bert.pooled(tokens), expected)


def test_dense_layers_follow_the_pooling(tmp_path: Path) -> None:
    model = ReferenceModel(write_gguf(tmp_path / "model.gguf", Shape("gemma-embedding")))
    w, tokens = model.weights, list(range(3, 60))
    mean = model.hidden(tokens).mean(axis=0)
    expected = w["dense_3.weight"] @ (w["dense_2.weight"] @ mean)
    np.testing.assert_allclose(model.pooled(tokens), expected, rtol=1e-12)
