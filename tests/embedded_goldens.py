"""Answers of transformers with the weights of the embedded model, from goldens/make_goldens.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOLDENS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "goldens/embedded.json").read_text("utf-8")
)
MAX_TOKENS = 64  # of each answer
# If the two best logits are closer than this, 8-bit activations may change the answer, in llama.cpp too, so
# tests do not compare such answers. Measured over these answers and all kernel tables of a machine with
# AVX-512: 8-bit activations change a gap by 0.04 on average, by 0.17 at the 99th percentile.
CLEAR_GAP = 0.25
CLEAR = [golden for golden in GOLDENS if golden["gap"] >= CLEAR_GAP]
