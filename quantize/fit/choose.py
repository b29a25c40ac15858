"""Chooses the types of tensors under a size, from the loss of each tensor with each type."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from binhdan.quantize.convert import with_file_type
from binhdan.quantize.draft import Draft, DraftTensor
from binhdan.quantize.fit.knapsack import Option, solve
from binhdan.quantize.fit.sizes import show_size
from binhdan.quantize.gguf_file import alignment_of, lay_out, padded
from binhdan.quantize.recipes import RECIPES, Choice, Override, is_quantizable, overridden_types
from binhdan.quantize.tensor_types import BLOCKS, tensor_bytes
from binhdan.runtime.errors import InvalidArgumentError

# Types that a fit chooses from, in the order of their size: those of rows of whole super-blocks, and others.
# With feedback of errors, Q4_0, Q4_1 and Q4_K lose as much as IQ4_NL, and Q5_0 as much as Q5_K. Ternary types
# and Q1_0 lose too much.
_SUPER: Final = ("Q2_0", "Q2_K", "Q3_K", "IQ4_XS", "IQ4_NL", "Q5_K", "Q5_1", "Q6_K", "Q8_0")
_CURVE: Final = 24  # sizes of a curve
_OTHER: Final = ("Q2_0", "MXFP4", "IQ4_NL", "Q5_0", "Q5_1", "Q8_0")


@dataclass(frozen=True)
class Target:
    """The size of a file: its bytes, or the bits of its tensors for each parameter."""

    size: int | None = None
    bpw: float | None = None

    def __post_init__(self) -> None:
        if self.bpw is not None and not (math.isfinite(self.bpw) and 0 < self.bpw <= 32):
            raise InvalidArgumentError(
                f"--bpw {self.bpw}: expected a number of bits per weight, such as 4.25", param="bpw"
            )

    def limit(self, draft: Draft) -> int:
        """The bytes of all tensors, with the padding between them."""
        if self.size is not None:
            return self.size - _header_bytes(draft)
        return int((self.bpw or 0) * draft.parameters / 8)

    def show(self, draft: Draft, tensor_sizes: int) -> str:
        """A size of tensors in the unit of the option."""
        if self.size is not None:
            return show_size(tensor_sizes + _header_bytes(draft))
        return f"{8 * tensor_sizes / draft.parameters:.2f} bits per weight"


def allowed_types(draft: Draft, overrides: Sequence[Override]) -> dict[str, list[str]]:
    """tensor → the types that it may have, smallest first, for the tensors that can be quantized.

    Raises InvalidArgumentError if an override fits no tensor, or its type does not fit a tensor's rows.
    """
    tensors = [tensor for tensor in draft.tensors if is_quantizable(tensor)]
    pinned = overridden_types(tensors, overrides)
    found = {}
    for tensor in tensors:
        type_names = [pinned[tensor.name]] if tensor.name in pinned else _types_of(tensor.columns)
        fitting = [type_name for type_name in type_names if tensor.columns % BLOCKS[type_name][0] == 0]
        if tensor.name in pinned and not fitting:
            raise InvalidArgumentError(
                f"--tensor-type: tensor {tensor.name} has rows of {tensor.columns}, which is not a multiple"
                f" of {BLOCKS[type_names[0]][0]}, the block of {type_names[0]}"
            )
        found[tensor.name] = sorted(fitting, key=lambda type_name: _bytes(draft, tensor, type_name)) or [
            "F16"
        ]
    return found


def _types_of(columns: int) -> Sequence[str]:
    return _SUPER if columns % BLOCKS["Q3_K"][0] == 0 else _OTHER


def check_reachable(draft: Draft, types: Mapping[str, Sequence[str]], target: Target) -> None:
    """Raises InvalidArgumentError if the tensors cannot have the size of ``target``."""
    low, high = (
        _total(draft, {name: type_names[end] for name, type_names in types.items()}) for end in (0, -1)
    )
    limit = target.limit(draft)
    if low <= limit <= high:
        return
    option = f"--fit {show_size(target.size)}" if target.size is not None else f"--bpw {target.bpw:g}"
    reason = "too small" if limit < low else "too large"
    raise InvalidArgumentError(
        f"{option} is {reason} for {draft.source}: with the types of a fit the model"
        f" has {target.show(draft, low)} to {target.show(draft, high)}",
        param="fit" if target.size is not None else "bpw",
    )


def choose_fitted(
    draft: Draft,
    types: Mapping[str, Sequence[str]],
    losses: Mapping[str, Mapping[str, float]],
    target: Target,
) -> Choice:
    """Returns the types with the least sum of ``losses`` (tensor → type → loss) at the size of ``target``.

    A tensor without losses gets the largest type up to Q8_0 that it may have.
    """
    fixed = {t.name: t.type for t in draft.tensors}
    fixed |= {name: type_names[-1] for name, type_names in types.items() if name not in losses}
    free = [tensor for tensor in draft.tensors if tensor.name in losses]
    groups = [
        [
            Option(_bytes(draft, tensor, type_name), losses[tensor.name][type_name])
            for type_name in types[tensor.name]
        ]
        for tensor in free
    ]
    smallest = {tensor.name: types[tensor.name][0] for tensor in free}
    floor = sum(_bytes(draft, tensor, smallest[tensor.name]) for tensor in free)
    others = _total(draft, fixed | smallest) - floor
    try:
        chosen = solve(groups, target.limit(draft) - others)
    except ValueError:
        raise InvalidArgumentError(
            f"the size is too small for {draft.source}: {len(draft.tensors) - len(free)} tensors cannot be"
            f" measured and have {show_size(others)}"
        ) from None
    result = fixed | {t.name: types[t.name][i] for t, i in zip(free, chosen, strict=True)}
    return Choice(result, file_type=_file_type(draft, result))


def loss_curve(
    draft: Draft, types: Mapping[str, Sequence[str]], losses: Mapping[str, Mapping[str, float]]
) -> list[tuple[int, float]]:
    """(bytes of the file, sum of losses) for sizes from the smallest to the largest."""
    groups = [
        [Option(_bytes(draft, t, type_name), losses[t.name][type_name]) for type_name in types[t.name]]
        for t in draft.tensors
        if t.name in losses
    ]
    low, high = (sum(pick(option.bytes for option in group) for group in groups) for pick in (min, max))
    others = {name: type_names[-1] for name, type_names in types.items()}
    fixed = _total(draft, others) - high + _header_bytes(draft)
    points = []
    for i in range(_CURVE + 1):
        chosen = solve(groups, low + (high - low) * i // _CURVE, max_steps=1 << 12)
        options = [group[k] for group, k in zip(groups, chosen, strict=True)]
        size = sum(option.bytes for option in options)
        points.append((size + fixed, sum(option.damage for option in options)))
    return points


def _file_type(draft: Draft, types: Mapping[str, str]) -> int | None:
    """The key general.file_type: that of the recipe of the type that most weights have."""
    counts: Counter[str] = Counter()
    for tensor in draft.tensors:
        counts[types[tensor.name]] += tensor.rows * tensor.columns
    for type_name in sorted(counts, key=lambda name: -counts[name]):
        numbers = [recipe.file_type for recipe in RECIPES.values() if recipe.type == type_name]
        if numbers:
            return numbers[-1]
    return None


def _total(draft: Draft, types: Mapping[str, str]) -> int:
    return sum(_bytes(draft, tensor, types.get(tensor.name, tensor.type)) for tensor in draft.tensors)


def _bytes(draft: Draft, tensor: DraftTensor, type_name: str) -> int:
    return padded(tensor_bytes(type_name, tensor.shape), alignment_of(draft))


def _header_bytes(draft: Draft) -> int:
    """The bytes of the file that are not of tensors."""
    types = {tensor.name: tensor.type for tensor in draft.tensors}
    return lay_out(with_file_type(draft, 0), types).size - _total(draft, types)
