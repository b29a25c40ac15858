"""Makes importance_golden.gguf and importance_golden.dat with llama.cpp's llama-imatrix.

python tests/quantize/make_importance_golden.py LLAMA_IMATRIX
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from importance_golden import CONTEXT, GOLDEN, SHAPE, TEXT
from tiny_models import write_gguf


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = write_gguf(Path(folder) / "model.gguf", SHAPE)
        text = Path(folder) / "text.txt"
        text.write_text(TEXT, "utf-8")
        for kind, output in (("gguf", GOLDEN), ("dat", GOLDEN.with_suffix(".dat"))):
            command = [sys.argv[1], "-m", model, "-f", text, "-o", output, "--output-format", kind]
            size = str(CONTEXT)
            subprocess.run([*map(str, command), "-c", size, "-b", size, "-ub", size, "--no-ppl"], check=True)


if __name__ == "__main__":
    main()
