"""examples/train_restorer/lattices.py: the files of lattices.cpp are read."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

from train_restorer.lattices import MARGIN, read


def write_lattices(path: Path, words: list[tuple[int, int, list[int]]]) -> None:
    """One sentence. words: the right form, the first choice, and -16 ln p of each choice."""
    tokens = b"".join(
        np.array([right, first, first], "<u2").tobytes() + bytes([len(p), 0, 0, right - first])
        for right, first, p in words
    )
    path.with_suffix(".tokens").write_bytes(tokens)
    path.with_suffix(".choices").write_bytes(b"".join(bytes(p) for _, _, p in words))
    path.with_suffix(".sentences").write_bytes(np.array([len(words)], "<u2").tobytes())


def test_lattices(tmp_path: Path) -> None:
    write_lattices(tmp_path / "a", [(5, 4, [11, 12]), (6, 6, [0, 255])])
    found = read(tmp_path / "a")
    assert found.places.tolist() == [MARGIN] and found.sure == found.sure_right == 1
    assert found.ids[MARGIN].tolist() == [4, 5, 0] and found.p[MARGIN].tolist() == [128, 120, 0]
    assert found.scores[0, :3].tolist() == [11, 12, 255] and found.index.tolist() == [1]
