"""Trains the model on the packed rows; resumes a stopped run.

    python -m train_tiny_vi.train train_tiny_vi/config.toml [--tokens N]

The run is saved atomically (work/run.pt) every few minutes and at SIGTERM or SIGINT; the same command resumes
it. `--tokens` extends a run before its cooldown, or starts the cooldown earlier. SIGSTOP and SIGCONT do not
change the result.
"""

from __future__ import annotations

import argparse
import math
import signal
import time
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import Tensor

from train_tiny_vi.checkpoints import load_run, load_weights, save_run
from train_tiny_vi.config import Config, read_config
from train_tiny_vi.model import Shape, TinyModel, compile_parts, summed_loss
from train_tiny_vi.optimizer import make_optimizers, rate
from train_tiny_vi.tokenizer import load_tokenizer


class Rows:
    """The rows of one stage, shuffled in each epoch. Row `i` of a run is deterministic."""

    def __init__(self, config: Config, stage: int) -> None:
        self.tokens = np.load(config.shard(stage, "tokens"), mmap_mode="r")
        self.mask = np.load(config.shard(stage, "mask"), mmap_mode="r")
        self.seed, self.epoch = config.train.seed, -1

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """Returns rows start … start + count: tokens and loss mask, both (count, context + 1)."""
        index = [self._row(i) for i in range(start, start + count)]
        return torch.from_numpy(self.tokens[index].astype(np.int64)), torch.from_numpy(self.mask[index] > 0)

    def _row(self, i: int) -> int:
        epoch, place = divmod(i, len(self))
        if epoch != self.epoch:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self))
            self.epoch = epoch
        return int(self.order[place])


def build(config: Config, device: torch.device) -> TinyModel:
    """Returns the initial model: random weights, or those of config.start."""
    torch.manual_seed(config.train.seed)
    vocab = load_tokenizer(config.tokenizer).get_vocab_size()
    fast = (
        device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )
    model = TinyModel(Shape(vocab=vocab, **config.model), torch.bfloat16 if fast else torch.float32)
    if config.start:
        load_weights(model, config.start)
    return model.to(device)


def step_gradients(model: TinyModel, tokens: Tensor, mask: Tensor, micro_rows: int) -> float:
    """Computes gradients, `micro_rows` at a time. Returns the mean loss in nats per token of the mask."""
    count = int(mask[:, 1:].sum())
    total = 0.0
    for start in range(0, len(tokens), micro_rows):
        part = tokens[start : start + micro_rows]
        chosen = mask[start : start + micro_rows, 1:]
        hidden = model(part[:, :-1])
        loss = summed_loss(model, hidden[chosen], part[:, 1:][chosen])
        (loss / count).backward()  # type: ignore[no-untyped-call]
        total += loss.item()
    return total / count


class Run:
    """The state of training: the stage, its next row, and the totals of all stages."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.config, self.device = config, device
        self.path = config.work / "run.pt"
        self.model = build(config, device)
        t = config.train
        self.optimizers = make_optimizers(self.model, t.muon_lr, t.adam_lr, t.weight_decay)
        self.base = [group["lr"] for o in self.optimizers for group in o.param_groups]
        self.stage = self.row = self.step = self.tokens = 0
        self.busy = 0.0  # seconds of training
        if self.path.exists():
            state = load_run(self.path)
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.stage, self.row, self.step, self.tokens = (
                state[k] for k in ("stage", "row", "step", "tokens")
            )
            self.busy = state["busy"]

    def save(self) -> None:
        counts = {k: getattr(self, k) for k in ("stage", "row", "step", "tokens", "busy")}
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        save_run(self.path, {"model": self.model.state_dict(), "optimizers": optimizers, **counts})

    def set_rate(self, factor: float) -> None:
        groups = [group for o in self.optimizers for group in o.param_groups]
        for group, base in zip(groups, self.base, strict=True):
            group["lr"] = base * factor

    def train(self, first_stage_tokens: int | None = None) -> None:
        """Trains all stages until the end or a signal."""
        stopped = []

        def stop(number: int, frame: FrameType | None) -> None:
            stopped.append(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        t = self.config.train
        stages = [Rows(self.config, number) for number in range(len(self.config.stages))]
        contexts = [stage.context for stage in self.config.stages]
        budgets = [stage.tokens for stage in self.config.stages]
        budgets[0] = first_stage_tokens or budgets[0]
        ends = [budget // context for budget, context in zip(budgets, contexts, strict=True)]  # in rows
        total = sum(rows * context for rows, context in zip(ends, contexts, strict=True))
        last_save, mean = time.monotonic(), math.nan
        while self.stage < len(stages) and not stopped:
            began = time.monotonic()
            context = contexts[self.stage]
            if self.row >= ends[self.stage]:
                self.stage, self.row = self.stage + 1, 0
                continue
            count = min(max(1, t.batch // context), ends[self.stage] - self.row)
            tokens, mask = stages[self.stage].batch(self.row, count)
            if not mask[:, 1:].any():
                self.row += count
                continue
            self.set_rate(rate(self.tokens, total, self.step, t.warmup, t.cooldown))
            loss = step_gradients(
                self.model, tokens.to(self.device), mask.to(self.device), max(1, t.micro_batch // context)
            )
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
            self.row, self.step, self.tokens = self.row + count, self.step + 1, self.tokens + count * context
            mean = loss if math.isnan(mean) else 0.98 * mean + 0.02 * loss
            seconds = time.monotonic() - began
            self.busy += seconds
            if self.step % 20 == 0:
                print(
                    f"step {self.step} stage {self.stage} "
                    f"tokens {self.tokens / 1e6:.2f} of {total / 1e6:.1f} M "
                    f"loss {loss:.4f} mean {mean:.4f} {count * context / seconds:.0f} tokens/s "
                    f"({self.tokens / self.busy:.0f})",
                    flush=True,
                )
            if time.monotonic() - last_save > 60 * t.checkpoint_minutes:
                self.save()
                last_save = time.monotonic()
        self.save()
        print("stopped; run the same command to resume" if stopped else "done", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the model; resume a stopped run.")
    parser.add_argument("config", type=Path)
    parser.add_argument(
        "--tokens", type=int, help="tokens of the first stage; default: those of the configuration"
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="skip torch.compile: start immediately, train slower"
    )
    options = parser.parse_args()
    config = read_config(options.config)
    torch.set_num_threads(config.train.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(config, device)
    if not options.no_compile:
        compile_parts(run.model)
    print(
        f"{sum(p.numel() for p in run.model.parameters()):,} parameters, {device}, step {run.step}",
        flush=True,
    )
    run.train(options.tokens)


if __name__ == "__main__":
    main()
