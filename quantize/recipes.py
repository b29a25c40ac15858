"""Recipes: which type each tensor of a model gets.

The recipes with llama.cpp's names give each tensor the type that llama-quantize gives it
(src/llama-quant.cpp); tests compare them with its output.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from binhdan.quantize.draft import Draft, DraftTensor
from binhdan.quantize.tensor_types import BLOCKS, DECODED
from binhdan.runtime.errors import InvalidArgumentError

# Type → the type for rows that are no multiple of its block, in llama.cpp and in our recipes.
_FALLBACKS: Final = {
    "IQ4_XS": "IQ4_NL", "Q2_K": "Q4_0", "Q3_K": "Q4_0", "TQ2_0": "Q4_0", "Q1_0": "Q4_0", "Q4_K": "Q5_0",
    "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip
_OUR_FALLBACKS: Final = {
    "Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "Q4_K": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q5_K": "Q5_0", "Q6_K": "Q5_1",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """``type`` for the tensors of a ``role``, if all conditions hold. The first rule that fits counts."""

    role: str
    type: str
    when: tuple[str, ...] = ()


def rule(role: str, tensor_type: str, when: str = "") -> Rule:
    return Rule(role, tensor_type, tuple(when.split()))


@dataclass(frozen=True)
class Recipe:
    type: str | None  # of the matrices without a rule; None: the type of the source
    file_type: int | None  # the key general.file_type: LLAMA_FTYPE of llama.h; None: as in the source
    rules: tuple[Rule, ...] = ()
    summary: str = ""
    fallbacks: Mapping[str, str] = field(default_factory=lambda: _FALLBACKS)


# ---- roles -------------------------------------------------------------------------------------------------

# Part of a tensor's name → its role; the first that fits counts. "output" is the matrix of the logits, also
# if it is the token embedding; "token_embd" is an embedding that is not.
_ROLES: Final = (
    ("attn_qkv.weight", "attn_v"),
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"),
    ("attn_output.weight", "attn_output"),
    ("ffn_up", "ffn_up"),
    ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)
_EMBEDDINGS: Final = ("token_embd.weight", "per_layer_token_embd.weight")

# Parts of the names of matrices that are never quantized: they are small, or the model depends on their
# precision. The list is that of tensor_allows_quantization in llama-quant.cpp.
_NEVER: Final = (
    "_norm.weight", "ffn_gate_inp.weight", "ffn_gate_tid2eid.weight", "altup", "laurel",
    "per_layer_model_proj", "ssm_conv1d", "shortconv.conv.weight", "indexer.k_proj.weight",
    "indexer.q_proj.weight",
    "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
    "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight",
    "time_mix_a1.weight", "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight",
    "time_mix_decay_w1.weight", "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight",
    ".position_embd", "sam.pos_embd", "sam.neck.", "sam.net_", ".rel_pos", ".patch_embd", ".patch_merger",
)  # fmt: skip
_NEVER_NAMES: Final = ("position_embd.weight", "token_types.weight")


def is_quantizable(tensor: DraftTensor) -> bool:
    """Returns whether recipes choose the type of a tensor. Others keep the type of the source."""
    name = tensor.name
    return (
        tensor.rows > 1
        and name.endswith("weight")
        and name not in _NEVER_NAMES
        and not any(part in name for part in _NEVER)
        and tensor.type in DECODED
    )


# ---- conditions --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """What a condition can depend on: the model, and the tensor's layer among those of its role."""

    layer: int
    layers: int
    queries_per_key: int  # attention heads per key and value head; 0 if layer 0 has no attention
    experts: int
    falcon: bool
    imatrix: bool
    partial_blocks: bool  # the rows are no multiple of the block of the recipe's type


def _more_bits(p: _Place) -> bool:
    """Whether the layer is in the first or last eighth, or every third between them."""
    return (
        p.layer < p.layers // 8 or p.layer >= 7 * p.layers // 8 or (p.layer - p.layers // 8) % 3 == 2
    )  # fmt: skip


_CONDITIONS: Final[dict[str, Callable[[_Place], bool]]] = {
    "more_bits": _more_bits,
    "first_eighth": lambda p: p.layer < p.layers // 8,
    "first_sixteenth": lambda p: p.layer < p.layers // 16,
    "first_2": lambda p: p.layer < 2,
    "first_4": lambda p: p.layer < 4,
    "gqa_4": lambda p: p.queries_per_key >= 4,
    "8_experts": lambda p: p.experts == 8,
    "not_8_experts": lambda p: p.experts != 8,
    "falcon": lambda p: p.falcon,
    "not_falcon": lambda p: not p.falcon,
    "imatrix": lambda p: p.imatrix,
    "no_imatrix": lambda p: not p.imatrix,
    "partial_blocks": lambda p: p.partial_blocks,
}

# ---- the table ---------------------------------------------------------------------------------------------

# Before the rules of each of llama.cpp's recipes.
_LLAMA_FIRST: Final = (
    rule("output", "Q8_0", "falcon"),
    rule("output", "Q8_0", "partial_blocks"),
    rule("attn_v", "Q8_0", "8_experts"),
    rule("attn_k", "Q8_0", "8_experts"),
)
_EXPERT_OUTPUT: Final = rule("attn_output", "Q5_K", "8_experts not_falcon")


def _llama(tensor_type: str, file_type: int, *rules: Rule) -> Recipe:
    output = () if tensor_type == "Q8_0" else (rule("output", "Q6_K"),)
    return Recipe(tensor_type, file_type, (*_LLAMA_FIRST, *output, *rules), "as llama-quantize")


RECIPES: Final[dict[str, Recipe]] = {
    # ours: what fits of the embedded model choose at these sizes, by role
    "small": Recipe(
        "Q3_K",
        12,
        (
            rule("output", "IQ4_XS"),
            rule("attn_v", "IQ4_XS"),
            rule("attn_q", "Q2_K"),
            rule("ffn_up", "Q3_K", "more_bits"),
            rule("ffn_up", "Q2_K"),
        ),
        "about 3.4 bits per weight: the smallest file whose text is still fluent",
        _OUR_FALLBACKS,
    ),
    "balanced": Recipe(
        "IQ4_XS",
        30,
        (
            rule("output", "Q5_K"),
            rule("attn_v", "Q5_K"),
            rule("ffn_up", "IQ4_XS", "more_bits"),
            rule("ffn_up", "Q3_K"),
        ),
        "about 4.3 bits per weight: the usual choice",
        _OUR_FALLBACKS,
    ),
    "best": Recipe(
        "Q5_K",
        17,
        (
            rule("output", "Q6_K"),
            rule("attn_v", "Q6_K"),
            rule("attn_output", "Q6_K"),
            rule("ffn_down", "Q6_K", "more_bits"),
        ),
        "about 5.9 bits per weight: hardly different from the original",
        _OUR_FALLBACKS,
    ),
    # llama.cpp's
    "q8_0": _llama("Q8_0", 7),
    "q6_k": _llama("Q6_K", 18),
    "q5_k_m": _llama(
        "Q5_K",
        17,
        rule("attn_v", "Q6_K", "more_bits"),
        rule("ffn_down", "Q6_K", "more_bits"),
    ),
    "q5_k_s": _llama("Q5_K", 16),
    "q4_k_m": _llama(
        "Q4_K",
        15,
        rule("attn_v", "Q6_K", "more_bits"),
        rule("ffn_down", "Q6_K", "falcon first_sixteenth"),
        rule("ffn_down", "Q5_K", "falcon more_bits"),
        rule("ffn_down", "Q6_K", "not_falcon more_bits"),
        _EXPERT_OUTPUT,
    ),
    "q4_k_s": _llama(
        "Q4_K",
        14,
        rule("attn_v", "Q5_K", "first_4"),
        rule("ffn_down", "Q5_K", "not_falcon first_eighth"),
        _EXPERT_OUTPUT,
    ),
    "q4_0": _llama("Q4_0", 2, rule("ffn_down", "Q4_1", "imatrix first_eighth")),
    "q4_1": _llama("Q4_1", 3),
    "q5_0": _llama("Q5_0", 8, rule("ffn_down", "Q5_1", "imatrix first_eighth")),
    "q5_1": _llama("Q5_1", 9),
    "iq4_nl": _llama(
        "IQ4_NL",
        25,
        rule("attn_v", "Q5_K", "gqa_4"),
        rule("ffn_down", "Q5_K", "no_imatrix first_eighth"),
        _EXPERT_OUTPUT,
    ),
    "iq4_xs": _llama(
        "IQ4_XS",
        30,
        rule("attn_v", "Q5_K", "gqa_4"),
        rule("ffn_down", "Q5_K", "no_imatrix first_eighth"),
        _EXPERT_OUTPUT,
    ),
    "q3_k_l": _llama(
        "Q3_K",
        13,
        rule("attn_v", "Q5_K"),
        rule("ffn_down", "Q4_K", "falcon"),
        rule("ffn_down", "Q5_K"),
        rule("attn_output", "Q4_K", "falcon"),
        rule("attn_output", "Q5_K", "not_8_experts"),
    ),
    "q3_k_m": _llama(
        "Q3_K",
        12,
        rule("attn_v", "Q5_K", "first_2"),
        rule("attn_v", "Q4_K"),
        rule("ffn_down", "Q5_K", "first_sixteenth"),
        rule("ffn_down", "Q4_K", "not_falcon"),
        rule("ffn_down", "Q4_K", "more_bits"),
        _EXPERT_OUTPUT,
        rule("attn_output", "Q4_K", "not_falcon"),
    ),
    "q3_k_s": _llama("Q3_K", 11, _EXPERT_OUTPUT),
    "q2_k": _llama(
        "Q2_K",
        10,
        rule("attn_v", "Q4_K", "gqa_4"),
        rule("attn_v", "Q3_K"),
        rule("ffn_down", "Q3_K"),
        _EXPERT_OUTPUT,
        rule("attn_output", "Q3_K", "not_falcon"),
    ),
    "tq2_0": _llama("TQ2_0", 37, rule("token_embd", "Q4_K")),
    "q1_0": _llama("Q1_0", 40),
    "bf16": Recipe("BF16", 32, (), "the original precision of most checkpoints"),
    "f16": Recipe("F16", 1, (), "half precision"),
    "f32": Recipe("F32", 0, (), "for tests"),
    "copy": Recipe(None, None, (), "the types of the source"),
}

# Recipes whose attn_v matrices get more bits in models of 70B: 8 heads share them, so they are small.
_MODELS_70B: Final = ("llama", "qwen2", "deci", "olmo")

# ---- choosing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """The type of every tensor, and those that cannot have the recipe's type, each with the reason."""

    types: dict[str, str]
    fallbacks: dict[str, str] = field(default_factory=dict)
    file_type: int | None = None  # the key general.file_type; None: as in the source


@dataclass(frozen=True)
class Override:
    """``--tensor-type PATTERN=TYPE``: a regular expression that is searched in the names of tensors."""

    pattern: re.Pattern[str]
    type: str


def parse_override(text: str) -> Override:
    """Raises InvalidArgumentError."""
    pattern, separator, name = text.rpartition("=")
    if not separator or not pattern or name.upper() not in DECODED:
        raise InvalidArgumentError(
            f"--tensor-type {text!r}: expected PATTERN=TYPE with a type such as q6_k or f16"
        )
    try:
        return Override(re.compile(pattern), name.upper())
    except re.error as error:
        raise InvalidArgumentError(f"--tensor-type {text!r}: {error} in the regular expression") from None


def choose_types(
    draft: Draft, recipe: Recipe, *, imatrix: bool = False, overrides: Sequence[Override] = ()
) -> Choice:
    """Returns the type of every tensor of ``draft``. ``imatrix``: the encoders use importance.

    An override counts before the recipe; the first that fits counts. Raises InvalidArgumentError if an
    override fits no tensor that can be quantized.
    """
    quantizable = [tensor for tensor in draft.tensors if is_quantizable(tensor)]
    wanted = {tensor.name: recipe.type or tensor.type for tensor in quantizable}
    if recipe.type and recipe.rules:
        wanted = _types_of_rules(draft, quantizable, recipe.type, recipe.rules, imatrix)
    wanted |= overridden_types(quantizable, overrides)
    choice = Choice({tensor.name: tensor.type for tensor in draft.tensors}, file_type=recipe.file_type)
    for tensor in quantizable:
        chosen = fitting_type(wanted[tensor.name], tensor.columns, recipe.fallbacks)
        if chosen != wanted[tensor.name]:
            block, length = BLOCKS[wanted[tensor.name]][0], tensor.columns
            choice.fallbacks[tensor.name] = (
                f"{chosen}, not {wanted[tensor.name]}: row length {length} is not a multiple of {block}"
            )
        choice.types[tensor.name] = chosen
    return choice


def fitting_type(wanted: str, columns: int, fallbacks: Mapping[str, str]) -> str:
    """Returns ``wanted``, or the type to use instead if its blocks do not fit in rows of ``columns``."""
    if columns % BLOCKS[wanted][0] == 0:
        return wanted
    fallback = fallbacks.get(wanted, "F16")
    return fallback if columns % BLOCKS[fallback][0] == 0 else "F16"


def overridden_types(tensors: Iterable[DraftTensor], overrides: Sequence[Override]) -> dict[str, str]:
    """Returns the types that overrides give tensors. Raises InvalidArgumentError if one fits none."""
    types: dict[str, str] = {}
    unused = list(overrides)
    for tensor in tensors:
        fitting = [override for override in overrides if override.pattern.search(tensor.name)]
        unused = [override for override in unused if override not in fitting]
        if fitting:
            types[tensor.name] = fitting[0].type
    if unused:
        raise InvalidArgumentError(
            f"--tensor-type {unused[0].pattern.pattern}={unused[0].type}: no tensor that can be quantized has"
            " such a name; binhdan info --json lists the names"
        )
    return types


def _types_of_rules(
    draft: Draft, tensors: Sequence[DraftTensor], base: str, rules: Sequence[Rule], imatrix: bool
) -> dict[str, str]:
    names = {tensor.name for tensor in draft.tensors}
    layers, experts = draft.integer("block_count"), draft.integer("expert_count")
    heads = draft.integer("attention.head_count")
    key_heads = draft.integer("attention.head_count_kv", heads)
    queries_per_key = heads // key_heads if key_heads else 0
    falcon = draft.architecture == "falcon"
    is_70b = draft.architecture in _MODELS_70B and layers == 80 and heads != key_heads
    attention_layers = sum(role_of(name, names) == "attn_v" for name in names)
    seen: Counter[str] = Counter()
    types = {}
    for tensor in sorted(tensors, key=lambda tensor: _order(tensor.name)):
        role = role_of(tensor.name, names)
        # the layers of a role count in order, because not every layer has each tensor
        layer = seen[role] if experts <= 1 or role == "attn_v" else _order(tensor.name)[0]
        seen[role] += 1
        count = attention_layers if role == "attn_v" else layers
        partial = tensor.columns % BLOCKS[base][0] != 0
        place = _Place(layer, count, queries_per_key, experts, falcon, imatrix, partial)
        chosen = _first_fit(rules, role, place) or base
        if role == "attn_v" and is_70b and chosen in ("Q3_K", "Q4_K"):
            chosen = "Q5_K"
        types[tensor.name] = chosen
    return types


def _first_fit(rules: Iterable[Rule], role: str, place: _Place) -> str | None:
    for row in rules:
        if row.role == role and all(_CONDITIONS[name](place) for name in row.when):
            return row.type
    return None


def role_of(name: str, names: Iterable[str]) -> str:
    """Returns the role of a tensor in the rules; "" if no rule can name it. ``names``: of all tensors."""
    if name == "output.weight" or (name in _EMBEDDINGS and "output.weight" not in names):
        return "output"
    if name in _EMBEDDINGS:
        return "token_embd"
    return next((role for part, role in _ROLES if part in name), "")


def _order(name: str) -> tuple[int, str]:
    """The order of llama-quantize: by layer, then by name; tensors outside the layers first."""
    match = re.match(r"blk\.(\d+)\.", name)
    return (int(match[1]) if match else -1), name
