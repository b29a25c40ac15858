"""Optimizers: Muon for the matrices of the layers, AdamW for the rest; and the learning rate schedule.

Muon: K. Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks". It replaces the
momentum of a matrix by the nearest orthogonal matrix, which five Newton-Schulz steps in bfloat16 approximate.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Returns the matrix with its singular values moved near 1."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters: Any, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].lerp_(weight.grad, 1 - momentum)
                update = orthogonalize(weight.grad.lerp(state["momentum"], momentum))
                rows, columns = weight.shape
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(update.to(weight.dtype), alpha=-lr * max(1, rows / columns) ** 0.5)


def make_optimizers(
    model: nn.Module, muon_lr: float, adam_lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in named if p.ndim != 2 or "embed" in name]
    return [
        Muon(matrices, lr=muon_lr, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=adam_lr, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate(done: float, total: float, step: int, warmup: int, cooldown: float) -> float:
    """Returns the factor of the learning rate: rises over `warmup` steps, stays 1, falls to 0 at the end.

    `cooldown` is the share of `total` in which it falls. A run can be extended until the cooldown starts
    ("warmup-stable-decay" schedule).
    """
    left = max(0.0, 1 - done / total)
    return min(1.0, (step + 1) / max(1, warmup)) * min(1.0, left / cooldown if cooldown else 1.0)
