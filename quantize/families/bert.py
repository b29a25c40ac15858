"""BERT and XLM-R: encoders with learned positions, LayerNorm and GELU, for embeddings and reranking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from binhdan.quantize.checkpoint import CheckpointError
from binhdan.quantize.config import Config
from binhdan.quantize.families.family import Constant, Family, Labels, Layer, Number, Size, Sizes, Tensor
from binhdan.quantize.families.sizes import head_sizes


def _encoder_sizes(padded_positions: bool, reranker: bool = False) -> Callable[[Config], Sizes]:
    """Returns a sizes function. With ``padded_positions``, positions start after the padding token's id.

    A ``reranker`` must have one class: with more, the configuration does not say which is the score.
    """

    def sizes(c: Config) -> Sizes:
        width = c.integer("hidden_size", 1, 1 << 20)
        heads = c.integer("num_attention_heads", 1, 1 << 14)
        layers = c.integer("num_hidden_layers", 1, 4096)
        stored = c.integer("max_position_embeddings", 1, 1 << 24)
        offset = 1 + c.integer("pad_token_id", 0, 1 << 24, 1) if padded_positions else 0
        if offset >= stored:
            raise CheckpointError(
                f"config.json: expected max_position_embeddings above pad_token_id + 1, got {stored}"
                f" and {offset - 1}"
            )
        if width % heads:
            raise CheckpointError(
                "config.json: expected hidden_size to be a multiple of num_attention_heads,"
                f" got {width} and {heads}"
            )
        labels = c.part("id2label").values
        if reranker and len(labels) != 1:
            raise CheckpointError(
                f"config.json: id2label: expected one class, the score of a reranker; got {len(labels) or 2}:"
                " a classifier of texts is not supported"
            )
        model = {
            "vocabulary": c.integer("vocab_size", 1, 1 << 24),
            "width": width,
            "layers": layers,
            "stored_positions": stored,
            "position_offset": offset,
            "context": stored - offset,
            "token_types": c.integer("type_vocab_size", 1, 1 << 10, 2),
            "labels": 1,
        }
        feed_forward = c.integer("intermediate_size", 1, 1 << 22)
        dims = {**head_sizes(heads, heads, width // heads), "feed_forward": feed_forward}
        return Sizes(model, [Layer(dims)] * layers)

    return sizes


def _linear(source: str, target: str, rows: str, columns: str) -> tuple[Tensor, Tensor]:
    weight = Tensor(f"{source}.weight", f"{target}.weight", (rows, columns))
    return weight, Tensor(f"{source}.bias", f"{target}.bias", (rows,))


def _norm(source: str, target: str) -> tuple[Tensor, Tensor]:
    weight = Tensor(f"{source}.weight", f"{target}.weight", ("width",))
    return weight, Tensor(f"{source}.bias", f"{target}.bias", ("width",))


_KEYS: Final = (
    Size("block_count", "layers"),
    Size("context_length", "context"),
    Size("embedding_length", "width"),
    Size("feed_forward_length", "feed_forward"),
    Size("attention.head_count", "heads"),
    Number("attention.layer_norm_epsilon", "layer_norm_eps", 1e-12),
    Constant("attention.causal", False),
    Size("tokenizer.ggml.token_type_count", "token_types"),
)
_LAYER: Final = (
    *_linear("attention.self.query", "attn_q", "width", "width"),
    *_linear("attention.self.key", "attn_k", "width", "width"),
    *_linear("attention.self.value", "attn_v", "width", "width"),
    *_linear("attention.output.dense", "attn_output", "width", "width"),
    *_norm("attention.output.LayerNorm", "attn_output_norm"),
    *_linear("intermediate.dense", "ffn_up", "feed_forward", "width"),
    *_linear("output.dense", "ffn_down", "width", "feed_forward"),
    *_norm("output.LayerNorm", "layer_output_norm"),
)
_MODEL: Final = (
    Tensor("embeddings.word_embeddings.weight", "token_embd.weight", ("vocabulary", "width")),
    Tensor(
        "embeddings.position_embeddings.weight",
        "position_embd.weight",
        ("stored_positions", "width"),
        ("cut_positions",),
        f32=True,
    ),
    Tensor(
        "embeddings.token_type_embeddings.weight", "token_types.weight", ("token_types", "width"), f32=True
    ),
    *_norm("embeddings.LayerNorm", "token_embd_norm"),
)
_EXPECTS: Final = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
}

_HEAD: Final = "the head for masked tokens"
_LEFT_OUT: Final = {"pooler.": "the pooler", "cls.": _HEAD, "lm_head.": _HEAD}

BERT: Final = Family(
    "bert",
    classes=("BertModel", "BertForMaskedLM"),
    keys=_KEYS,
    model=_MODEL,
    layer=_LAYER,
    layer_prefix="encoder.layer.",
    sizes=_encoder_sizes(padded_positions=False),
    expects=_EXPECTS,
    rope=False,
    left_out=_LEFT_OUT,
)

XLM_ROBERTA: Final = Family(
    "bert",
    classes=("XLMRobertaModel", "XLMRobertaForMaskedLM"),
    keys=_KEYS,
    model=_MODEL,
    layer=_LAYER,
    layer_prefix="encoder.layer.",
    sizes=_encoder_sizes(padded_positions=True),
    expects=_EXPECTS,
    rope=False,
    left_out=_LEFT_OUT,
)

_RANK_KEYS: Final = (
    *_KEYS,
    Constant("pooling_type", 4),  # rank
    Labels("classifier.output_labels", "id2label"),
)

XLM_ROBERTA_RANK: Final = replace(
    XLM_ROBERTA,
    classes=("XLMRobertaForSequenceClassification",),
    keys=_RANK_KEYS,
    model=(
        *_MODEL,
        *_linear("classifier.dense", "cls", "width", "width"),
        *_linear("classifier.out_proj", "cls.output", "labels", "width"),
    ),
    sizes=_encoder_sizes(padded_positions=True, reranker=True),
)

# llama.cpp's converter leaves the pooler out, so its files of this class give other scores than transformers.
BERT_RANK: Final = replace(
    BERT,
    classes=("BertForSequenceClassification",),
    keys=_RANK_KEYS,
    model=(
        *_MODEL,
        *_linear("pooler.dense", "cls", "width", "width"),
        *_linear("classifier", "cls.output", "labels", "width"),
    ),
    sizes=_encoder_sizes(padded_positions=False, reranker=True),
    left_out={},
)
