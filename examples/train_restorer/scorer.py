"""python -m train_restorer.scorer NGRAMS SCORER LATTICES...: trains the scorer; needs PyTorch.

The n-grams of LATTICES must not have counted their sentences (`--without`); NGRAMS is the whole n-gram file.
"""

from __future__ import annotations

import argparse
import math
import struct
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from binhdan import _native
from train_restorer.lattices import MARGIN, Lattices, read
from train_restorer.tokens import FIRST_FORM

MAGIC, VERSION = b"BDSCORE\n", 2
WIDTH, NEAR, FAR, HIDDEN, OUTPUT = 64, 6, 8, (512, 256), 96
_SHAPES, _BLOCK, _BLOCKS = 16, 240, 64
_HEADER = struct.Struct("<8sIIQQIIIi")  # of the n-gram file
_INPUTS = (2 * NEAR + 3) * WIDTH


class Scorer(nn.Module):
    """csrc/text/restore/scorer.h describes it."""

    def __init__(self, ids: int) -> None:
        super().__init__()
        self.embeddings, self.shapes = nn.Embedding(ids, WIDTH), nn.Embedding(_SHAPES, WIDTH)
        self.first, self.second = nn.Linear(_INPUTS, HIDDEN[0]), nn.Linear(*HIDDEN)
        self.third, self.direct = nn.Linear(HIDDEN[1], OUTPUT), nn.Linear(_INPUTS, OUTPUT, bias=False)
        self.forms, self.biases = nn.Embedding(ids, OUTPUT), nn.Embedding(ids, 1)
        self.weight = nn.Parameter(torch.tensor(1.0))  # of the n-grams
        for table, deviation in ((self.embeddings, 0.3), (self.shapes, 0.3), (self.forms, 0.05)):
            nn.init.normal_(table.weight, std=deviation)
        nn.init.normal_(self.direct.weight, std=0.01)
        nn.init.zeros_(self.biases.weight)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Scores [words, choices]."""
        vectors = (self.embeddings(batch["ids"]) * batch["p"][..., None]).sum(-2) + self.shapes(
            batch["shapes"]
        )
        at = batch["places"]
        window = vectors[at[:, None] + torch.arange(-NEAR, NEAR + 1)].flatten(1)
        sums = torch.cumsum(vectors, 0)
        left = (sums[at - NEAR - 1] - sums[at - NEAR - 1 - FAR]) / FAR
        right = (sums[at + NEAR + FAR] - sums[at + NEAR]) / FAR
        inputs = torch.cat([window, left, right], 1)
        with torch.autocast("cpu", torch.bfloat16):
            hidden = functional.dropout(functional.relu(self.first(inputs)), 0.1, self.training)
            hidden = functional.dropout(functional.relu(self.second(hidden)), 0.1, self.training)
            output = self.third(hidden) + self.direct(inputs)
        own = (self.forms(batch["choices"]) @ output.float()[..., None])[..., 0]
        return self.weight * batch["log_p"] + own + self.biases(batch["choices"])[..., 0]


def blocks_of(lattices: Lattices) -> int:
    return (len(lattices.shapes) - 2 * MARGIN) // _BLOCK + 1


def batch_of(lattices: Lattices, blocks: np.ndarray[Any, Any]) -> dict[str, Tensor]:
    """The doubtful words of blocks of tokens."""
    starts = blocks * _BLOCK + MARGIN
    rows = (starts[:, None] + np.arange(-MARGIN, _BLOCK + MARGIN)).clip(0, len(lattices.shapes) - 1).ravel()
    low, high = (np.searchsorted(lattices.places, starts + end) for end in (0, _BLOCK))
    words = np.concatenate([np.arange(*pair) for pair in zip(low, high, strict=True)])
    block = np.repeat(np.arange(len(blocks)), high - low)
    at = lattices.places[words] - starts[block] + MARGIN + block * (_BLOCK + 2 * MARGIN)
    k = np.arange(lattices.sizes[words].max(initial=1))
    choices = np.where(k < lattices.forms[words][:, None], lattices.first[words][:, None] + k, 1)
    inside = k < lattices.sizes[words][:, None]
    log_p = np.where(inside, lattices.scores[words][:, : len(k)] / -16.0, -1e4).astype(np.float32)
    return {
        "ids": torch.from_numpy(lattices.ids[rows].astype(np.int64)),
        "p": torch.from_numpy(lattices.p[rows].astype(np.float32) / 255),
        "shapes": torch.from_numpy(lattices.shapes[rows].astype(np.int64)),
        "places": torch.from_numpy(at),
        "choices": torch.from_numpy(choices * inside),
        "log_p": torch.from_numpy(log_p),
        "index": torch.from_numpy(lattices.index[words]),
    }


@dataclass
class Schedule:
    """Training ends after `words` doubtful words or `seconds` of this run, whichever comes first."""

    words: int
    seconds: float
    rate: float  # the highest; it rises over the first words and falls to 0 at the end

    def done(self, seen: int, elapsed: float) -> float:
        """The part of the training that is over, 0 to 1."""
        return min(1.0, max(seen / self.words, elapsed / self.seconds))

    def rate_at(self, seen: int, elapsed: float) -> float:
        warm = min(1.0, (seen + 5000) / 1e5)
        return self.rate * warm * 0.5 * (1 + math.cos(math.pi * self.done(seen, elapsed)))


@dataclass
class Progress:
    """words: doubtful words so far. epoch, batch: the next batch."""

    words: int = 0
    epoch: int = 0
    batch: int = 0


def train(
    model: Scorer,
    texts: list[Lattices],
    schedule: Schedule,
    *,
    checkpoint: Path | None = None,
    valid: Lattices | None = None,
    save_every: float = 60.0,
    report_every: int = 200_000,
    seed: int = 1,
) -> Progress:
    """Trains until the schedule ends, and returns how far it came.

    checkpoint: if the file is there, the training continues where it stopped. It is written every
    `save_every` seconds and at the end, whole or not at all. The batches depend on the seed and the epoch.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.rate, betas=(0.9, 0.98), weight_decay=0.0)
    at = _load_checkpoint(checkpoint, model, optimizer)
    begin = saved = time.monotonic()
    reported, losses = at.words, []
    while schedule.done(at.words, time.monotonic() - begin) < 1:
        random = np.random.default_rng((seed, at.epoch))
        parts = [
            (text, part)
            for text in texts
            for part in np.array_split(random.permutation(blocks_of(text)), blocks_of(text) // _BLOCKS + 1)
        ]
        for i in random.permutation(len(parts))[at.batch :]:
            now = time.monotonic()
            if schedule.done(at.words, now - begin) >= 1:
                break
            at.batch += 1
            batch = batch_of(*parts[i])
            if not len(batch["index"]):
                continue
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate_at(at.words, now - begin)
            torch.manual_seed(seed + at.words)  # of the dropout
            losses.append(_step(model, optimizer, batch))
            at.words += len(batch["index"])
            if at.words - reported >= report_every:
                print(f"{at.words:,} words, loss {np.mean(losses):.4f}{_report(model, valid)}", flush=True)
                reported, losses = at.words, []
            if now - saved >= save_every:
                _save_checkpoint(checkpoint, model, optimizer, at)
                saved = now
        else:
            at.epoch, at.batch = at.epoch + 1, 0
    _save_checkpoint(checkpoint, model, optimizer, at)
    print(
        f"{at.words:,} words in {at.epoch} epochs and {at.batch} batches{_report(model, valid)}", flush=True
    )
    return at


def _step(model: Scorer, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor]) -> float:
    model.train()
    loss = functional.cross_entropy(model(batch), batch["index"])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def evaluate(model: Scorer, text: Lattices) -> tuple[float, float]:
    """The shares of all words that are right: by the n-grams, and by the scorer."""
    model.eval()
    before = after = 0
    with torch.no_grad():
        for part in np.array_split(np.arange(blocks_of(text)), blocks_of(text) // _BLOCKS + 1):
            batch = batch_of(text, part)
            if len(batch["index"]):
                before += int((batch["log_p"].argmax(1) == batch["index"]).sum())
                after += int((model(batch).argmax(1) == batch["index"]).sum())
    total = max(text.sure + len(text.index), 1)
    return (text.sure_right + before) / total, (text.sure_right + after) / total


def _report(model: Scorer, valid: Lattices | None) -> str:
    if valid is None:
        return ""
    before, after = evaluate(model, valid)
    return f", right words {before:.2%} by the n-grams, {after:.2%} with the scorer"


def _load_checkpoint(path: Path | None, model: Scorer, optimizer: torch.optim.Optimizer) -> Progress:
    if path is None or not path.exists():
        return Progress()
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


def _save_checkpoint(
    path: Path | None, model: Scorer, optimizer: torch.optim.Optimizer, at: Progress
) -> None:
    if path is None:
        return
    new = path.with_name(path.name + ".new")
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": asdict(at)}
    torch.save(state, new)
    new.replace(path)


def forms_text(ngrams: bytes) -> bytes:
    """The forms of an n-gram file, one a line."""
    _, _, _, _, _, _, text, card, _ = _HEADER.unpack_from(ngrams)
    start = _HEADER.size + 3 * 16 + (card + 7) // 8 * 8
    return ngrams[start : start + text]


def build(model: Scorer, text: bytes) -> bytes:
    """The bytes of the file. text: the forms."""
    checksum = 0
    for byte in text:
        checksum = (checksum * 31 + byte) & 0xFFFFFFFF
    ids = FIRST_FORM + text.count(b"\n")
    weight = model.weight.detach()
    matrices = [model.embeddings.weight, model.shapes.weight]
    matrices += [layer.weight.T for layer in (model.first, model.second, model.third, model.direct)]
    matrices.append(model.forms.weight / weight)
    biases = [model.first.bias, model.second.bias, model.third.bias, model.biases.weight[:, 0] / weight]
    header = struct.pack("<8s8I", MAGIC, VERSION, ids, checksum, WIDTH, NEAR, *HIDDEN, OUTPUT)
    return header + b"".join(map(_rows, matrices)) + b"".join(_floats(bias) for bias in biases)


def _rows(matrix: Tensor) -> bytes:
    return _native.encode("Q5_0", np.ascontiguousarray(matrix.detach().float().numpy())).tobytes()


def _floats(values: Tensor) -> bytes:
    return values.detach().numpy().astype("<f4").tobytes()


def load(data: bytes, model: Scorer) -> None:
    """The weights of a file that `build` made. Raises ValueError for one with other sizes."""
    ids = len(model.embeddings.weight)
    header = struct.Struct("<8s8I")
    if header.unpack_from(data)[1:3] != (VERSION, ids) or header.unpack_from(data)[4:] != (
        WIDTH,
        NEAR,
        *HIDDEN,
        OUTPUT,
    ):
        raise ValueError(f"expected a scorer with {ids} ids and the sizes of this program")
    at = header.size

    def rows(count: int, width: int) -> Tensor:
        nonlocal at
        start = at
        at += count * width // 32 * 22  # blocks of Q5_0
        values = _native.decode("Q5_0", data[start:at], count * width)
        return torch.from_numpy(values.reshape(count, width))

    def floats(count: int) -> Tensor:
        nonlocal at
        at += 4 * count
        return torch.from_numpy(np.frombuffer(data, "<f4", count, at - 4 * count).copy())

    layers = (model.first, model.second, model.third)
    with torch.no_grad():
        model.embeddings.weight.copy_(rows(ids, WIDTH))
        model.shapes.weight.copy_(rows(_SHAPES, WIDTH))
        for layer in (*layers, model.direct):
            layer.weight.copy_(rows(layer.in_features, layer.out_features).T)
        model.forms.weight.copy_(rows(ids, OUTPUT))
        for layer in layers:
            layer.bias.copy_(floats(layer.out_features))
        model.biases.weight.copy_(floats(ids)[:, None])
        model.weight.fill_(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ngrams", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("lattices", type=Path, nargs="+")
    parser.add_argument("--words", type=int, default=20_000_000, help="doubtful words to train on")
    parser.add_argument("--seconds", type=float, default=math.inf, help="the longest time of this run")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--start", type=Path, help="a scorer whose weights are the first ones")
    parser.add_argument("--checkpoint", type=Path, help="continue from it if it is there, and write it")
    parser.add_argument("--valid", type=Path, help="lattices of other text, for the reports")
    arguments = parser.parse_args()
    text = forms_text(arguments.ngrams.read_bytes())
    torch.manual_seed(1)
    model = Scorer(FIRST_FORM + text.count(b"\n"))
    if arguments.start:
        load(arguments.start.read_bytes(), model)
    train(
        model,
        [read(path) for path in arguments.lattices],
        Schedule(arguments.words, arguments.seconds, arguments.rate),
        checkpoint=arguments.checkpoint,
        valid=read(arguments.valid) if arguments.valid else None,
    )
    arguments.scorer.write_bytes(build(model, text))


if __name__ == "__main__":
    main()
