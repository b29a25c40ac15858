"""Which type each tensor gets: as llama-quantize chooses, and our own recipes and overrides."""

from __future__ import annotations

import math
from typing import Any

import pytest
from recipe_models import draft_of, recipe_goldens, unpacked_tensors, unpacked_types

from binhdan import _native
from binhdan.quantize.draft import Draft
from binhdan.quantize.recipes import RECIPES, choose_types, parse_override
from binhdan.quantize.tensor_types import BLOCKS, TYPE_IDS, tensor_bytes
from binhdan.runtime.errors import InvalidArgumentError

MODELS = list(recipe_goldens())


def model(name: str) -> Draft:
    golden = recipe_goldens()[name]
    return draft_of(golden["keys"], unpacked_tensors(golden["tensors"]))


@pytest.mark.parametrize("name", MODELS)
def test_types_are_those_of_llama_quantize(name: str) -> None:
    golden, draft = recipe_goldens()[name], model(name)
    compared = 0
    for recipe in RECIPES:
        for suffix, imatrix in (("", False), ("+imatrix", True)):
            letters: dict[str, Any] | None = golden["types"].get(recipe + suffix, golden["types"].get(recipe))
            if letters is None:
                continue  # ours, or llama-quantize has no type for these rows
            expected = unpacked_types(letters, golden["tensors"])
            assert choose_types(draft, RECIPES[recipe], imatrix=imatrix).types == expected, recipe + suffix
            compared += 1
    assert compared >= 2 * 20


def test_every_type_of_a_recipe_can_be_written() -> None:
    types = {recipe.type for recipe in RECIPES.values() if recipe.type}
    for recipe in RECIPES.values():
        types |= {rule.type for rule in recipe.rules} | set(recipe.fallbacks.values())
    values = model(MODELS[0]).tensors[0].read(0, 1)[:, :1].repeat(256, axis=1)
    for name in types:
        block, size = BLOCKS[name]
        assert _native.encode(name, values).nbytes == 256 // block * size
        assert name in TYPE_IDS


def bits_per_weight(draft: Draft, types: dict[str, str]) -> float:
    size = sum(tensor_bytes(types[tensor.name], tensor.shape) for tensor in draft.tensors)
    return 8 * size / sum(math.prod(tensor.shape) for tensor in draft.tensors)


@pytest.mark.parametrize("name", ["llama 32 layers, 4 queries per key", "llama 22 layers, tied"])
def test_sizes_of_our_recipes(name: str) -> None:
    """On matrices with room for every type. The help text has the same figures."""
    draft = model(name)
    for recipe, low, high in (("small", 3.2, 3.6), ("balanced", 4.2, 4.5), ("best", 5.7, 6.1)):
        bits = bits_per_weight(draft, choose_types(draft, RECIPES[recipe]).types)
        assert low < bits < high, f"{recipe}: {bits}"


@pytest.mark.parametrize("name", MODELS)
def test_our_recipes_are_ordered_by_size(name: str) -> None:
    draft = model(name)
    sizes = [
        bits_per_weight(draft, choose_types(draft, RECIPES[recipe]).types)
        for recipe in ("small", "balanced", "best", "q8_0", "f16")
    ]
    assert sizes == sorted(sizes)


def test_overrides_replace_the_types_of_a_recipe() -> None:
    draft = model("llama 22 layers, tied")
    overrides = [parse_override(r"blk\.[01]\.ffn_down=f16"), parse_override("ffn_down=q8_0")]
    plain = choose_types(draft, RECIPES["q4_k_m"]).types
    changed = choose_types(draft, RECIPES["q4_k_m"], overrides=overrides).types
    different = {name: kind for name, kind in changed.items() if kind != plain[name]}
    assert len(different) == 22
    assert different["blk.1.ffn_down.weight"] == "F16" and different["blk.2.ffn_down.weight"] == "Q8_0"
    only = choose_types(draft, RECIPES["copy"], overrides=overrides[1:]).types
    assert {name for name in only if only[name] == "Q8_0"} == {f"blk.{i}.ffn_down.weight" for i in range(22)}


def test_overrides_of_partial_blocks_fall_back_with_a_reason() -> None:
    draft = draft_of({"general.architecture": "llama"}, {"blk.0.ffn_up.weight": ((8, 96), "F32")})
    choice = choose_types(draft, RECIPES["q8_0"], overrides=[parse_override("ffn=q4_k")])
    assert choice.types == {"blk.0.ffn_up.weight": "Q5_0"}
    assert choice.fallbacks == {
        "blk.0.ffn_up.weight": "Q5_0, not Q4_K: row length 96 is not a multiple of 256"
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ffn_down", "expected PATTERN=TYPE"),
        ("=q8_0", "expected PATTERN=TYPE"),
        ("ffn=q9", "expected PATTERN=TYPE"),
        ("ffn(=q8_0", "in the regular expression"),
        ("attn_norm=q8_0", "no tensor that can be quantized has such a name"),
        ("nothing=q8_0", "no tensor that can be quantized has such a name"),
    ],
)
def test_wrong_overrides(text: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        choose_types(model("llama 22 layers, tied"), RECIPES["q8_0"], overrides=[parse_override(text)])
