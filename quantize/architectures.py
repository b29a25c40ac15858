"""What each supported architecture's checkpoint holds, and what GGUF calls it.

An architecture is a table, not a class: its tensors with their shapes in terms of the hyperparameters, and
three facts. GGUF names and keys are those of llama.cpp (gguf-py/gguf/constants.py), so that either runtime
reads our files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.hyperparameters import Hyperparameters

Dim = Literal["vocabulary", "width", "feed_forward", "q_width", "kv_width", "head_dim"]
Heads = Literal["heads", "kv_heads"]


@dataclass(frozen=True)
class Weight:
    """One tensor: ``{i}`` in a name stands for the layer."""

    source: str
    target: str
    shape: tuple[Dim, ...]
    optional: bool = False
    rotated: Heads | None = None  # rows that RoPE turns, in heads

    def shape_in(self, hp: Hyperparameters) -> tuple[int, ...]:
        return tuple(getattr(hp, dim) for dim in self.shape)


@dataclass(frozen=True)
class Architecture:
    """A family of checkpoints and its GGUF name."""

    name: str  # general.architecture
    classes: tuple[str, ...]  # config.json's "architectures"
    # RoPE turns pairs (0, 1), (2, 3)… of a head in GGUF, where Hugging Face has (0, d/2), (1, d/2 + 1)…
    interleaved_rope: bool
    qkv_bias: bool | None  # None: where the checkpoint has them
    qk_norm: bool = False

    def weights(self, hp: Hyperparameters) -> Iterator[Weight]:
        """Every tensor of a checkpoint, optional ones included."""
        yield Weight("model.embed_tokens.weight", "token_embd.weight", ("vocabulary", "width"))
        yield Weight("model.norm.weight", "output_norm.weight", ("width",))
        if not hp.tied:
            yield Weight("lm_head.weight", "output.weight", ("vocabulary", "width"))
        for i in range(hp.layers):
            for weight in self._layer():
                yield Weight(
                    f"model.layers.{i}.{weight.source}",
                    f"blk.{i}.{weight.target}",
                    weight.shape,
                    weight.optional,
                    weight.rotated if self.interleaved_rope else None,
                )

    def _layer(self) -> Iterator[Weight]:
        yield Weight("input_layernorm.weight", "attn_norm.weight", ("width",))
        yield Weight("self_attn.q_proj.weight", "attn_q.weight", ("q_width", "width"), rotated="heads")
        yield Weight("self_attn.k_proj.weight", "attn_k.weight", ("kv_width", "width"), rotated="kv_heads")
        yield Weight("self_attn.v_proj.weight", "attn_v.weight", ("kv_width", "width"))
        if self.qkv_bias is not False:
            optional = self.qkv_bias is None
            yield Weight("self_attn.q_proj.bias", "attn_q.bias", ("q_width",), optional, "heads")
            yield Weight("self_attn.k_proj.bias", "attn_k.bias", ("kv_width",), optional, "kv_heads")
            yield Weight("self_attn.v_proj.bias", "attn_v.bias", ("kv_width",), optional)
        if self.qk_norm:
            yield Weight("self_attn.q_norm.weight", "attn_q_norm.weight", ("head_dim",))
            yield Weight("self_attn.k_norm.weight", "attn_k_norm.weight", ("head_dim",))
        yield Weight("self_attn.o_proj.weight", "attn_output.weight", ("width", "q_width"))
        yield Weight("post_attention_layernorm.weight", "ffn_norm.weight", ("width",))
        yield Weight("mlp.gate_proj.weight", "ffn_gate.weight", ("feed_forward", "width"))
        yield Weight("mlp.up_proj.weight", "ffn_up.weight", ("feed_forward", "width"))
        yield Weight("mlp.down_proj.weight", "ffn_down.weight", ("width", "feed_forward"))


ARCHITECTURES: Final = (
    Architecture("llama", ("LlamaForCausalLM", "MistralForCausalLM"), interleaved_rope=True, qkv_bias=None),
    Architecture("qwen2", ("Qwen2ForCausalLM",), interleaved_rope=False, qkv_bias=True),
    Architecture("qwen3", ("Qwen3ForCausalLM",), interleaved_rope=False, qkv_bias=False, qk_norm=True),
)

# Buffers that old checkpoints carry; they follow from the config.
IGNORED_SUFFIXES: Final = (".rotary_emb.inv_freq",)


def find_architecture(config: dict[str, Any]) -> Architecture:
    """The entry of ARCHITECTURES for a config.json. Raises CheckpointError naming what is supported."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    for architecture in ARCHITECTURES:
        if name in architecture.classes:
            return architecture
    known = ", ".join(c for a in ARCHITECTURES for c in a.classes)
    raise CheckpointError(f"config.json: architecture {name!r} is not supported; expected one of {known}")
