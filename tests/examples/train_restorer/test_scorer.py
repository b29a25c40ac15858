"""examples/train_restorer/scorer.py: the training ends and continues, and the file has the weights."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))

from train_restorer.lattices import Lattices, read  # noqa: E402
from train_restorer.scorer import (  # noqa: E402
    Schedule,
    Scorer,
    batch_of,
    build,
    evaluate,
    load,
    train,
)

FORMS = "an\nán\nba\nbà\nca\ncá\n"
IDS = 4 + FORMS.count("\n")


@pytest.fixture
def text(tmp_path: Path) -> Lattices:
    """Sentences of two doubtful words, in which the second has the mark of the first."""
    sentences = 400
    right = np.random.default_rng(1).integers(0, 2, sentences)
    first = np.stack([np.full(sentences, 4), np.full(sentences, 6)], 1)
    tokens = np.zeros((sentences, 2, 10), np.uint8)
    for column, values in ((0, first + right[:, None]), (2, first), (4, first)):
        tokens[:, :, column : column + 2] = values.astype("<u2")[..., None].view(np.uint8)
    tokens[:, :, 6], tokens[:, :, 9] = 2, right[:, None]
    scores = np.full((sentences, 2, 2), 11, np.uint8)
    scores[:, 0] = np.where(right[:, None] == [0, 1], 2, 33)  # the n-grams know the first
    (tmp_path / "a.tokens").write_bytes(tokens.tobytes())
    (tmp_path / "a.choices").write_bytes(scores.tobytes())
    (tmp_path / "a.sentences").write_bytes(np.full(sentences, 2, "<u2").tobytes())
    return read(tmp_path / "a")


def test_training_learns_the_context(text: Lattices, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(1)
    model = Scorer(IDS)
    at = train(model, [text], Schedule(16_000, math.inf, 2e-3), valid=text, report_every=8000)
    before, after = evaluate(model, text)
    assert at.words >= 16_000 and before < 0.9 and after == 1
    assert "right words" in capsys.readouterr().out


def test_the_schedule_ends() -> None:
    schedule = Schedule(1000, 10, 1e-3)
    assert schedule.rate_at(0, 0) < 1e-4 and schedule.rate_at(1000, 0) == schedule.rate_at(0, 10) == 0
    assert schedule.done(500, 8) == 0.8


def test_an_interrupted_training_continues(text: Lattices, tmp_path: Path) -> None:
    def trained(*words: int) -> Scorer:
        file = tmp_path / f"{len(words)}.pt"
        for end in words:
            torch.manual_seed(1)
            model = Scorer(IDS)
            # The rate is that of the whole training.
            train(model, [text], Constant(end, math.inf, 1e-3), checkpoint=file)
        return model

    class Constant(Schedule):
        def rate_at(self, seen: int, elapsed: float) -> float:
            return self.rate

    whole, parts = trained(3000), trained(1000, 3000)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not list(tmp_path.glob("*.new"))


def test_the_file_has_the_weights(text: Lattices) -> None:
    torch.manual_seed(1)
    model, other = Scorer(IDS), Scorer(IDS)
    load(build(model, FORMS.encode()), other)
    batch = batch_of(text, np.array([0]))
    with torch.no_grad():
        a, b = model.eval()(batch), other.eval()(batch)
    kept = batch["log_p"] > -100
    assert float((a - b)[kept].abs().max()) < 0.05
    with pytest.raises(ValueError, match="expected a scorer with 11 ids"):
        load(build(model, FORMS.encode()), Scorer(IDS + 1))
