"""Groups of tensors whose errors are measured together, and what follows for each tensor.

A model of 30 layers has about 210 matrices. Their errors are measured for each layer (all its matrices) and
for each role (that matrix of all layers): 37 runs instead of 210. Small models are measured matrix by matrix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

MAX_SINGLE: Final = 64  # matrices in layers that are measured one by one
_ROUNDS: Final = 50
_LAYER: Final = re.compile(r"blk\.(\d+)\.(.*)")


@dataclass(frozen=True)
class Group:
    """``kind``: "tensor", "layer" or "role". Groups of a kind have no tensor in common."""

    kind: str
    tensors: tuple[str, ...]


def make_groups(tensors: Iterable[str], max_single: int = MAX_SINGLE) -> list[Group]:
    """Each tensor is in one group alone, or in a group of its layer and in one of its role."""
    names = list(tensors)
    places = {name: match.groups() for name in names if (match := _LAYER.fullmatch(name))}
    if len(places) <= max_single:
        return [Group("tensor", (name,)) for name in names]
    groups = [Group("tensor", (name,)) for name in names if name not in places]
    for part, kind in enumerate(("layer", "role")):
        for value in dict.fromkeys(place[part] for place in places.values()):
            groups.append(Group(kind, tuple(name for name in places if places[name][part] == value)))
    return groups


def spread(groups: Sequence[Group], losses: Sequence[float], shares: Mapping[str, float]) -> dict[str, float]:
    """Returns the loss of each tensor so that the sums of the groups are those measured.

    Starts with ``shares`` and scales the members of each group in turn (iterative proportional fitting:
    Deming and Stephan 1940), which keeps the shares as far as the sums allow. The sums over layers and over
    roles are scaled to the same total first.
    """
    measured = [(group, max(loss, 1e-12)) for group, loss in zip(groups, losses, strict=True)]
    found = {name: max(shares[name], 1e-12) for group in groups for name in group.tensors}
    together = [(group, loss) for group, loss in measured if group.kind != "tensor"]
    totals = {kind: sum(loss for group, loss in together if group.kind == kind) for kind in ("layer", "role")}
    mean = sum(totals.values()) / len(totals)
    for _ in range(_ROUNDS if together else 0):
        for group, loss in together:
            target = loss * mean / totals[group.kind]
            factor = target / sum(found[name] for name in group.tensors)
            for name in group.tensors:
                found[name] = max(found[name] * factor, 1e-15)
    return found | {group.tensors[0]: loss for group, loss in measured if group.kind == "tensor"}
