"""What one token costs, from the tensors of a model file: multiply-adds and bytes, by tensor type."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from binhdan.runtime.errors import UnsupportedError
from binhdan.runtime.ffi import library

# Tensors of which a token needs one row: they are not multiplied.
_LOOKUPS = ("per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """The products of all matrices of one type, for one token."""

    type: str
    macs: int
    bytes: int
    in_prefill: bool  # False: the output matrix; only the last token of a prompt needs logits


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One token of a model."""

    name: str
    products: list[Product]
    weight_bytes: int  # of a decoded token
    kv_bytes: int  # of one position, F16
    attention_macs: int  # for each position that a token sees

    def macs(self, *, prefill: bool) -> int:
        return sum(product.macs for product in self.products if product.in_prefill or not prefill)


def work_of(path: str) -> Work:
    """Raises UnsupportedError for a file that does not run here."""
    facts: dict[str, Any] = json.loads(library().inspect(path))
    if not facts["supported"] or facts["needs"] is None:
        raise UnsupportedError(f"{path}: this file does not run here: {facts['reason']}")
    names = {tensor["name"] for tensor in facts["tensors"]}
    output = "output.weight" if "output.weight" in names else "token_embd.weight"
    totals: dict[tuple[str, bool], list[int]] = {}
    for tensor in facts["tensors"]:
        name, shape = tensor["name"], tensor["shape"]
        if len(shape) != 2 or name in _LOOKUPS or (name == "token_embd.weight" and name != output):
            continue
        sums = totals.setdefault((tensor["type"], name != output), [0, 0])
        sums[0] += shape[0] * shape[1]
        sums[1] += tensor["bytes"]
    products = [
        Product(type=kind, macs=macs, bytes=size, in_prefill=prefill)
        for (kind, prefill), (macs, size) in sorted(totals.items())
    ]
    return Work(
        name=facts["name"] or path,
        products=products,
        weight_bytes=sum(product.bytes for product in products),
        kv_bytes=facts["kv_bytes_per_token"] or 0,
        # Each head multiplies a query with a key, and a probability with a value.
        attention_macs=2 * (facts["layers"] or 0) * (facts["heads"] or 0) * (facts["head_dim"] or 0),
    )
