"""python -m train_restorer.scorer NGRAMS SCORER LATTICES...: trains the scorer; needs PyTorch.

The n-grams of LATTICES must not have counted their sentences (`--without`); NGRAMS is the whole n-gram file.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from train_restorer.lattices import MARGIN, Lattices, read
from train_restorer.tokens import FIRST_FORM

MAGIC, VERSION = b"BDSCORE\n", 1
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


def train(model: Scorer, texts: list[Lattices], words: int, rate: float, seed: int = 1) -> None:
    """words: doubtful words to train on; the learning rate falls to 0."""
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.0)
    seen = 0
    model.train()
    while seen < words:
        parts = [
            (text, part)
            for text in texts
            for part in np.array_split(random.permutation(blocks_of(text)), blocks_of(text) // _BLOCKS + 1)
        ]
        for i in random.permutation(len(parts)):
            batch = batch_of(*parts[i])
            if not len(batch["index"]):
                continue
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (seen + 5000) / 1e5) * max(1 - seen / words, 0.02)
            loss = functional.cross_entropy(model(batch), batch["index"])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            seen += len(batch["index"])
        print(f"{seen:,} words, loss {loss.item():.3f}", flush=True)


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
    values = matrix.detach().float().numpy()
    scales = np.abs(values).max(1) / 127
    scales[scales == 0] = 1
    return scales.astype("<f4").tobytes() + np.round(values / scales[:, None]).astype(np.int8).tobytes()


def _floats(values: Tensor) -> bytes:
    return values.detach().numpy().astype("<f4").tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ngrams", type=Path)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("lattices", type=Path, nargs="+")
    parser.add_argument("--words", type=int, default=4_000_000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--checkpoint", type=Path, help="start from it if it is there, and write it")
    arguments = parser.parse_args()
    text = forms_text(arguments.ngrams.read_bytes())
    model = Scorer(FIRST_FORM + text.count(b"\n"))
    if arguments.checkpoint and arguments.checkpoint.exists():
        model.load_state_dict(torch.load(arguments.checkpoint))
    train(model, [read(path) for path in arguments.lattices], arguments.words, arguments.rate)
    if arguments.checkpoint:
        torch.save(model.state_dict(), arguments.checkpoint)
    arguments.scorer.write_bytes(build(model, text))


if __name__ == "__main__":
    main()
