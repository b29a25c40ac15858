"""MPT (PhoGPT): ALiBi instead of RoPE, LayerNorm, Q, K and V in one matrix."""

from __future__ import annotations

from typing import Final

from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Constant, Family, Layer, Number, Size, Sizes, Tensor
from binhdan.quantize.families.sizes import OUTPUT, head_sizes, optional


def _mpt_sizes(c: Config) -> Sizes:
    width = c.integer("d_model", 1, 1 << 20)
    heads = c.integer("n_heads", 1, 1 << 14)
    kv_heads = c.part("attn_config").integer("kv_n_heads", 1, heads, heads)
    layers = c.integer("n_layers", 1, 4096)
    dims = {
        **head_sizes(heads, kv_heads, width // heads),
        "feed_forward": c.integer("expansion_ratio", 1, 64, 4) * width,
    }
    model = {"vocabulary": c.integer("vocab_size", 1, 1 << 24), "width": width, "layers": layers}
    return Sizes(model, [Layer(dims)] * layers)


def _check_attention(c: Config, sizes: Sizes) -> None:
    attention = c.part("attn_config")
    attention.expect("qk_ln", False)
    attention.expect("prefix_lm", False)
    attention.expect("softmax_scale")
    attention.expect("clip_qkv")
    attention.expect("alibi", True)
    attention.expect("alibi_bias_max", 8)


MPT: Final = Family(
    "mpt",
    classes=("MPTForCausalLM", "MptForCausalLM"),
    keys=(
        Size("block_count", "layers"),
        Size("context_length", "context"),
        Size("embedding_length", "width"),
        Size("feed_forward_length", "feed_forward"),
        Size("attention.head_count", "heads"),
        Size("attention.head_count_kv", "kv_heads"),
        Number("attention.layer_norm_epsilon", "layer_norm_epsilon", 1e-5),
        Constant("attention.max_alibi_bias", 8.0),
    ),
    model=(
        Tensor("wte.weight", "token_embd.weight", ("vocabulary", "width")),
        Tensor("norm_f.weight", "output_norm.weight", ("width",)),
        *optional((Tensor("norm_f.bias", "output_norm.bias", ("width",)),)),
        OUTPUT,
    ),
    layer=(
        Tensor("norm_1.weight", "attn_norm.weight", ("width",)),
        Tensor("attn.Wqkv.weight", "attn_qkv.weight", ("qkv_width", "width")),
        Tensor("attn.out_proj.weight", "attn_output.weight", ("width", "q_width")),
        Tensor("norm_2.weight", "ffn_norm.weight", ("width",)),
        Tensor("ffn.up_proj.weight", "ffn_up.weight", ("feed_forward", "width")),
        Tensor("ffn.down_proj.weight", "ffn_down.weight", ("width", "feed_forward")),
        *optional(
            (
                Tensor("norm_1.bias", "attn_norm.bias", ("width",)),
                Tensor("attn.Wqkv.bias", "attn_qkv.bias", ("qkv_width",)),
                Tensor("attn.out_proj.bias", "attn_output.bias", ("width",)),
                Tensor("norm_2.bias", "ffn_norm.bias", ("width",)),
                Tensor("ffn.up_proj.bias", "ffn_up.bias", ("feed_forward",)),
                Tensor("ffn.down_proj.bias", "ffn_down.bias", ("width",)),
            )
        ),
    ),
    layer_prefix="blocks.",
    sizes=_mpt_sizes,
    expects={"logit_scale": (), "embedding_fraction": (1.0, 1)},
    defaults={"tie_word_embeddings": True},
    context_field="max_seq_len",
    check=_check_attention,
    rope=False,
)
