"""Lists of tensors for the tests of recipes, and what llama-quantize chooses for them.

`quantize/recipe_goldens.json` has for each model its keys, its tensors and the types. It is written by
quantize/make_recipe_goldens.py. Tensors that differ in the layer alone are one entry:
{"name with {} for the layer": [shape, type of the source, layers]}. The types are
{recipe: {name: one letter of TYPES for each layer}}; tensors that keep their type are not listed, and
"q4_0+imatrix" is listed if it differs from "q4_0".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from binhdan.quantize.draft import Draft, DraftTensor
from binhdan.quantize.keys import RawValue

GOLDENS: Final = Path(__file__).parent / "quantize" / "recipe_goldens.json"
TYPES: Final = {
    "f": "F32", "h": "F16", "b": "BF16", "A": "Q4_0", "B": "Q4_1", "C": "Q5_0", "D": "Q5_1", "E": "Q8_0",
    "F": "Q2_K", "G": "Q3_K", "H": "Q4_K", "I": "Q5_K", "J": "Q6_K", "K": "IQ4_NL", "L": "IQ4_XS",
    "M": "TQ2_0", "N": "Q1_0",
}  # fmt: skip

Tensors = dict[str, tuple[tuple[int, ...], str]]  # name → shape, rows first, and type


@cache
def recipe_goldens() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(GOLDENS.read_text("utf-8"))
    return value


def draft_of(keys: Mapping[str, Any], tensors: Tensors) -> Draft:
    """Returns a draft whose tensors are zeros."""
    return Draft(
        Path("model"),
        {name: RawValue.of(value) for name, value in keys.items()},
        [
            DraftTensor(
                name, shape, kind, lambda begin, end, n=shape[-1]: np.zeros((end - begin, n), np.float32)
            )
            for name, (shape, kind) in tensors.items()
        ],
    )


def packed_tensors(tensors: Tensors) -> dict[str, Any]:
    """Joins the tensors that differ in the layer alone."""
    packed: dict[str, Any] = {}
    for name, (shape, kind) in tensors.items():
        pattern, layer = _split(name)
        while pattern in packed and packed[pattern][:2] != [list(shape), kind]:
            pattern += "'"
        packed.setdefault(pattern, [list(shape), kind, []])[2] += [layer]
    return packed


def unpacked_tensors(packed: Mapping[str, Any]) -> Tensors:
    return {
        pattern.rstrip("'").replace("{}", str(layer)): (tuple(shape), kind)
        for pattern, (shape, kind, layers) in packed.items()
        for layer in layers
    }


def packed_types(types: Mapping[str, str], packed: Mapping[str, Any]) -> dict[str, str]:
    letters = {name: letter for letter, name in TYPES.items()}
    return {
        pattern: "".join(letters[types[name]] for name in _names(pattern, layers))
        for pattern, (_, kind, layers) in packed.items()
        if any(types[name] != kind for name in _names(pattern, layers))
    }


def unpacked_types(letters: Mapping[str, str], packed: Mapping[str, Any]) -> dict[str, str]:
    sources = {name: kind for name, (_, kind) in unpacked_tensors(packed).items()}
    return sources | {
        name: TYPES[letter]
        for pattern, text in letters.items()
        for name, letter in zip(_names(pattern, packed[pattern][2]), text, strict=True)
    }


def _names(pattern: str, layers: Iterable[int]) -> list[str]:
    return [pattern.rstrip("'").replace("{}", str(layer)) for layer in layers]


def _split(name: str) -> tuple[str, int]:
    match = re.match(r"blk\.(\d+)\.", name)
    return (name, 0) if match is None else (name.replace(match[0], "blk.{}.", 1), int(match[1]))
