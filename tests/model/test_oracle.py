"""Oracle and converter together against transformers and llama.cpp (committed goldens)."""

from pathlib import Path

import numpy as np
import pytest
from reference_forward import ReferenceModel, mean_kl
from tiny_models import GOLDEN_SHAPES, write_checkpoint

from binhdan.quantize.convert import OutputType, convert

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize("name", GOLDEN_SHAPES)
def test_logits_of_a_converted_checkpoint_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    file = tmp_path / "out.gguf"
    convert(write_checkpoint(tmp_path / name, GOLDEN_SHAPES[name]), file, OutputType.F32)
    model = ReferenceModel(file)
    with np.load(GOLDENS / f"{name}.npz") as golden:
        tokens, greedy = golden["tokens"].tolist(), golden["greedy"].tolist()
        expected, llama_cpp = golden["logits_transformers"], golden["logits_llama_cpp"]
    logits = model.logits(tokens)[-len(expected) :]
    np.testing.assert_allclose(logits, expected, atol=1e-4)  # transformers computes RoPE and norms in float32
    assert mean_kl(logits, llama_cpp) < 2e-5  # llama.cpp stores KV in F16
    assert model.greedy(tokens, len(greedy)) == greedy
