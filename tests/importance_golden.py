"""The model and the text of quantize/importance_golden.gguf and .dat, which llama-imatrix made."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tiny_models import GOLDEN_SHAPES

TEXT: Final = "Trăm năm trong cõi người ta, chữ tài chữ mệnh khéo là ghét nhau. Hà Nội là thủ đô. " * 5
CONTEXT: Final = 64
SHAPE: Final = GOLDEN_SHAPES["llama-spm-tied"]
GOLDEN: Final = Path(__file__).parent / "quantize" / "importance_golden.gguf"
