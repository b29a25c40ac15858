"""The tensors of each supported architecture: their names in a checkpoint and in GGUF, and their shapes.

An architecture is one row of ARCHITECTURES: data, no code. GGUF names and keys are those of llama.cpp
(gguf-py/gguf/constants.py), so llama.cpp reads our files too. A row is enough for a family whose config.json
passes hyperparameters.read_hyperparameters; a family with other constants or GGUF keys also needs a field
there and its key in convert._write_metadata.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.hyperparameters import Hyperparameters

Dim = Literal["vocabulary", "width", "feed_forward", "q_width", "kv_width", "head_dim"]
Heads = Literal["heads", "kv_heads"]


@dataclass(frozen=True)
class Weight:
    """One tensor: its name in the checkpoint, its name in GGUF and its shape, rows first."""

    source: str
    target: str
    shape: tuple[Dim, ...]
    optional: bool = False
    rope_heads: Heads | None = None  # the number of heads whose rows RoPE rotates; None: RoPE does not apply

    def shape_in(self, hp: Hyperparameters) -> tuple[int, ...]:
        return tuple(getattr(hp, dim) for dim in self.shape)


# Parts of a layer, without the prefixes "model.layers.0." and "blk.0.".
_QKV: Final = (
    Weight("input_layernorm.weight", "attn_norm.weight", ("width",)),
    Weight("self_attn.q_proj.weight", "attn_q.weight", ("q_width", "width"), rope_heads="heads"),
    Weight("self_attn.k_proj.weight", "attn_k.weight", ("kv_width", "width"), rope_heads="kv_heads"),
    Weight("self_attn.v_proj.weight", "attn_v.weight", ("kv_width", "width")),
)
_QKV_BIAS: Final = (
    Weight("self_attn.q_proj.bias", "attn_q.bias", ("q_width",), rope_heads="heads"),
    Weight("self_attn.k_proj.bias", "attn_k.bias", ("kv_width",), rope_heads="kv_heads"),
    Weight("self_attn.v_proj.bias", "attn_v.bias", ("kv_width",)),
)
_QKV_BIAS_OPTIONAL: Final = tuple(replace(bias, optional=True) for bias in _QKV_BIAS)
_QK_NORM: Final = (
    Weight("self_attn.q_norm.weight", "attn_q_norm.weight", ("head_dim",)),
    Weight("self_attn.k_norm.weight", "attn_k_norm.weight", ("head_dim",)),
)
_OUTPUT_AND_FEED_FORWARD: Final = (
    Weight("self_attn.o_proj.weight", "attn_output.weight", ("width", "q_width")),
    Weight("post_attention_layernorm.weight", "ffn_norm.weight", ("width",)),
    Weight("mlp.gate_proj.weight", "ffn_gate.weight", ("feed_forward", "width")),
    Weight("mlp.up_proj.weight", "ffn_up.weight", ("feed_forward", "width")),
    Weight("mlp.down_proj.weight", "ffn_down.weight", ("width", "feed_forward")),
)


@dataclass(frozen=True)
class Architecture:
    """A family of checkpoints and its GGUF name."""

    name: str  # general.architecture
    classes: tuple[str, ...]  # config.json's "architectures"
    # RoPE rotates the pairs (0, 1), (2, 3)… of a head in GGUF; Hugging Face has (0, d/2), (1, d/2 + 1)…
    interleaved_rope: bool
    layer: tuple[Weight, ...]  # tensors of one layer, in the order in which they are written

    def weights(self, hp: Hyperparameters) -> Iterator[Weight]:
        """Yields every tensor of a checkpoint, optional ones included."""
        yield Weight("model.embed_tokens.weight", "token_embd.weight", ("vocabulary", "width"))
        yield Weight("model.norm.weight", "output_norm.weight", ("width",))
        if not hp.tied:
            yield Weight("lm_head.weight", "output.weight", ("vocabulary", "width"))
        for i in range(hp.layers):
            for weight in self.layer:
                yield replace(
                    weight,
                    source=f"model.layers.{i}.{weight.source}",
                    target=f"blk.{i}.{weight.target}",
                    rope_heads=weight.rope_heads if self.interleaved_rope else None,
                )


ARCHITECTURES: Final = (
    Architecture(
        "llama",
        classes=("LlamaForCausalLM", "MistralForCausalLM"),
        interleaved_rope=True,
        layer=(*_QKV, *_QKV_BIAS_OPTIONAL, *_OUTPUT_AND_FEED_FORWARD),
    ),
    Architecture(
        "qwen2",
        classes=("Qwen2ForCausalLM",),
        interleaved_rope=False,
        layer=(*_QKV, *_QKV_BIAS, *_OUTPUT_AND_FEED_FORWARD),
    ),
    Architecture(
        "qwen3",
        classes=("Qwen3ForCausalLM",),
        interleaved_rope=False,
        layer=(*_QKV, *_QK_NORM, *_OUTPUT_AND_FEED_FORWARD),
    ),
)

# Buffers in old checkpoints. The runtime computes them from the config.
IGNORED_SUFFIXES: Final = (".rotary_emb.inv_freq",)


def find_architecture(config: dict[str, Any]) -> Architecture:
    """Returns the row of ARCHITECTURES for a config.json. Raises CheckpointError if there is none."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    for architecture in ARCHITECTURES:
        if name in architecture.classes:
            return architecture
    known = ", ".join(c for a in ARCHITECTURES for c in a.classes)
    raise CheckpointError(f"config.json: architecture {name!r} is not supported; expected one of {known}")
