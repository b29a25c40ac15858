"""The losses of tensors from the losses of groups."""

from __future__ import annotations

import numpy as np
import pytest

from binhdan.quantize.fit.groups import Group, make_groups, spread

ROLES = ("attn_q.weight", "attn_v.weight", "ffn_down.weight")
NAMES = ["token_embd.weight", *(f"blk.{layer}.{role}" for layer in range(4) for role in ROLES)]


def test_few_tensors_are_measured_one_by_one() -> None:
    assert make_groups(NAMES) == [Group("tensor", (name,)) for name in NAMES]


def test_many_tensors_are_measured_by_layer_and_by_role() -> None:
    groups = make_groups(NAMES, max_single=8)
    assert [group.kind for group in groups] == ["tensor"] + 4 * ["layer"] + 3 * ["role"]
    assert groups[1].tensors == tuple(f"blk.0.{role}" for role in ROLES)
    assert groups[-1].tensors == tuple(f"blk.{layer}.ffn_down.weight" for layer in range(4))


def test_losses_that_are_a_product_of_layer_and_role_are_found_again() -> None:
    rng = np.random.default_rng(0)
    layers, roles = rng.exponential(size=4), rng.exponential(size=3)
    truth = {f"blk.{i}.{role}": layers[i] * roles[k] for i in range(4) for k, role in enumerate(ROLES)}
    truth["token_embd.weight"] = 0.3
    groups = make_groups(NAMES, max_single=8)
    losses = [sum(truth[name] for name in group.tensors) for group in groups]
    found = spread(groups, losses, dict.fromkeys(NAMES, 1.0))
    assert found == pytest.approx(truth)


def test_shares_decide_within_the_sums() -> None:
    groups = [Group("layer", ("a", "b")), Group("layer", ("c", "d")), Group("role", ("a", "c"))]
    groups.append(Group("role", ("b", "d")))
    found = spread(groups, [1.0, 3.0, 2.0, 2.0], {"a": 3.0, "b": 1.0, "c": 1.0, "d": 1.0})
    assert found["a"] + found["b"] == pytest.approx(1.0)
    assert found["a"] + found["c"] == pytest.approx(2.0)
    assert found["a"] / found["b"] > found["c"] / found["d"]


def test_sums_of_layers_and_roles_that_differ_are_scaled_to_their_mean() -> None:
    groups = [Group("layer", ("a", "b")), Group("role", ("a",)), Group("role", ("b",))]
    found = spread(groups, [1.0, 1.0, 2.0], {"a": 1.0, "b": 1.0})
    assert found == pytest.approx({"a": 2 / 3, "b": 4 / 3})


def test_a_loss_of_zero_stays_finite() -> None:
    groups = make_groups(NAMES, max_single=8)
    found = spread(groups, [0.0] * len(groups), dict.fromkeys(NAMES, 0.0))
    assert all(0 <= loss < 1e-9 for loss in found.values())
