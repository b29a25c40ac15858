"""The errors of the encoders are at most those of llama.cpp's, on the embedded model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from compare_encoders import TOLERANCE, TYPES, Case, Ggml, cases, compare, matrices_of

from binhdan.runtime.client.model import embedded_model

LIBRARY = os.environ.get("BINHDAN_GGML", "")


@pytest.fixture(scope="module")
def found() -> list[Case]:
    """Rows of the embedded model, which is Q8_0, with some importance."""
    rng = np.random.default_rng(0)
    importance = {
        tensor.name: np.exp(rng.standard_normal(tensor.columns)).astype(np.float32)
        for tensor in matrices_of(embedded_model())
    }
    return list(cases(embedded_model(), importance, rows=8))


@pytest.mark.skipif(not LIBRARY, reason="BINHDAN_GGML does not name libggml-base.so of llama.cpp")
@pytest.mark.parametrize("name", TYPES)
def test_the_error_is_at_most_that_of_llama_cpp(name: str, found: list[Case]) -> None:
    results = compare(Ggml(Path(LIBRARY)), name, found)
    assert name == "Q8_0" or results["importance"].matrices > 0
    for label, one in results.items():
        assert one.largest <= 1 + TOLERANCE, (label, one.where)
