"""The core's logits against the float64 oracle: every architecture × type × ISA."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from reference_forward import Array, ReferenceModel, mean_kl, top1_agreement
from tiny_models import ARCHITECTURES, GOLDEN_SHAPES, TYPES, Shape, random_bytes, write_checkpoint, write_gguf

from binhdan import _native
from binhdan.quantize.convert import convert
from binhdan.runtime.ffi import library
from binhdan.runtime.options import KvType, LoadOptions

GOLDENS = Path(__file__).parents[1] / "goldens"
ISAS = _native.isas()

# Limits of the mean KL divergence, in nats. With float weights only KV is rounded, to F16 (llama.cpp differs
# from transformers by as much), or attention is computed in bfloat16. With quantized weights, activations are
# also rounded to 8 bits.
FLOAT_LIMIT = 2e-5
BFLOAT16_LIMIT = 2e-4
INTEGER_LIMIT = 2e-3  # for random weights; trained weights are more redundant and stay far below
KV_Q8_0_LIMIT = 6e-4  # float weights, KV in Q8_0; measured 3e-4 to 5e-4, and 1.2e-3 with one bit less
FLOAT_TYPES = ("F32", "F16", "BF16")


def float_limit(isa: str) -> float:
    return BFLOAT16_LIMIT if isa == "amx" else FLOAT_LIMIT


def limit(type: str, isa: str) -> float:
    return float_limit(isa) if type in FLOAT_TYPES else INTEGER_LIMIT


Case = Callable[[Shape], tuple[Path, list[int], Array]]


def core_logits(
    file: Path, tokens: list[int], isa: str, threads: int = 2, kv_type: KvType = "f16"
) -> npt.NDArray[np.float32]:
    """Returns the core's logits after each token, (n, vocabulary)."""
    handle = library().open_model(str(file), LoadOptions(isa=isa))
    try:
        return _native.logits(handle, np.array(tokens, np.int32), threads, kv_type=kv_type)
    finally:
        library().close_model(handle)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Returns a function (shape) → (model file, tokens, oracle logits); results are shared by all ISAs."""
    made: dict[Shape, tuple[Path, list[int], Array]] = {}
    folder = tmp_path_factory.mktemp("tiny")

    def make(shape: Shape) -> tuple[Path, list[int], Array]:
        if shape not in made:
            file = write_gguf(folder / f"{len(made)}.gguf", shape)
            model = ReferenceModel(file)
            raw = random_bytes("tokens", 4 * 70).view("<u4")  # more than one KV page
            tokens = [int(r) % len(model.weights["token_embd.weight"]) for r in raw]
            made[shape] = file, tokens, model.logits(tokens)
        return made[shape]

    return make


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_type_and_isa_matches_the_oracle(
    architecture: str, type: str, isa: str, case: Case
) -> None:
    file, tokens, expected = case(Shape(architecture=architecture, type=type))
    got = core_logits(file, tokens, isa)
    assert got.shape == expected.shape
    assert mean_kl(expected, got) < limit(type, isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "shape",
    [
        Shape(rope="linear"),
        Shape(rope="yarn"),
        Shape(rope="llama3"),
        Shape(architecture="qwen2", rope="yarn"),
        Shape(bias=True),
        Shape(tied=True),
        Shape(tied=True, type="Q8_0"),
        Shape(tied=True, type="Q6_K"),
        Shape(heads=6, kv_heads=1, head_dim=128),
        Shape(heads=3, kv_heads=3, head_dim=80, width=192, feed_forward=224),
        Shape(vocabulary="llama"),
    ],
    ids=repr,
)
def test_model_variants_match_the_oracle(shape: Shape, isa: str, case: Case) -> None:
    file, tokens, expected = case(shape)
    assert mean_kl(expected, core_logits(file, tokens, isa)) < limit(shape.type, isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "shape",
    [
        Shape(),
        Shape(heads=6, kv_heads=1, head_dim=128),
        Shape(heads=3, kv_heads=3, head_dim=80, width=192, feed_forward=224),
        Shape(heads=8, kv_heads=2, head_dim=24, width=192, feed_forward=224),
    ],
    ids=repr,
)
def test_kv_in_q8_0_matches_the_oracle(shape: Shape, isa: str, case: Case) -> None:
    file, tokens, expected = case(shape)
    assert mean_kl(expected, core_logits(file, tokens, isa, kv_type="q8_0")) < KV_Q8_0_LIMIT


@pytest.mark.parametrize("type", ["F32", "Q4_0", "Q4_K"])
def test_logits_do_not_depend_on_threads_or_later_tokens(type: str, case: Case) -> None:
    file, tokens, _ = case(Shape(type=type))
    whole = core_logits(file, tokens, ISAS[-1], threads=1)
    np.testing.assert_array_equal(whole, core_logits(file, tokens, ISAS[-1], threads=3))
    np.testing.assert_array_equal(whole[:9], core_logits(file, tokens[:9], ISAS[-1]))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", GOLDEN_SHAPES)
def test_logits_match_transformers_and_llama_cpp(name: str, isa: str, tmp_path: Path) -> None:
    file = tmp_path / "out.gguf"
    convert(write_checkpoint(tmp_path / name, GOLDEN_SHAPES[name]), file, "f32")
    with np.load(GOLDENS / f"{name}.npz") as golden:
        tokens, greedy = golden["tokens"].tolist(), golden["greedy"].tolist()
        transformers, llama_cpp = golden["logits_transformers"], golden["logits_llama_cpp"]
    got = core_logits(file, tokens + greedy[:-1], isa)
    last = got[len(tokens) - len(transformers) : len(tokens)]
    assert mean_kl(transformers, last) < float_limit(isa)
    assert mean_kl(llama_cpp, last) < 2 * float_limit(isa)  # both round KV, differently
    assert top1_agreement(transformers, last) == 1
    assert got[len(tokens) - 1 :].argmax(axis=1).tolist() == greedy


def test_the_limits_detect_a_wrong_rope(case: Case, tmp_path: Path) -> None:
    """A wrong kind of RoPE exceeds the limits: the expected logits come from a model without RoPE scaling."""
    _, tokens, expected = case(Shape())
    for rope in ("linear", "yarn", "llama3"):
        wrong = ReferenceModel(write_gguf(tmp_path / f"{rope}.gguf", replace(Shape(), rope=rope)))
        assert mean_kl(expected, wrong.logits(tokens)) > 10 * FLOAT_LIMIT
