"""Muon for the matrices within the layers, AdamW for the rest, and how fast they learn when.

Muon: K. Jordan et al., 2024, "Muon: an optimizer for hidden layers in neural networks". The momentum of a
matrix is replaced by the nearest orthogonal matrix, found by five Newton-Schulz steps in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """Singular values brought near 1."""
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
                update = orthogonalise(weight.grad.lerp(state["momentum"], momentum))
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
    """The learning rate's factor: up over `warmup` steps, 1, down to 0 over the last `cooldown` (a share).

    A run can be made longer for as long as it is not cooling down (a "warmup-stable-decay" schedule).
    """
    left = max(0.0, 1 - done / total)
    return min(1.0, (step + 1) / max(1, warmup)) * min(1.0, left / cooldown if cooldown else 1.0)
