"""Block codecs, kernels and logits on numpy arrays, for quantize, bench and tests.

These are the functions of csrc/api/binhdan_tools.h. Every function raises ValueError for invalid arguments
and MemoryError if memory is not sufficient. `type` is a GGUF type name ("Q4_0"). `isa` is one of isas(), or
"" for the fastest. Weights are blocks of a GGUF file, row by row. Other Python threads run during a call.
"""

from binhdan._native.codecs import decode, dtypes, encode, encode_feedback
from binhdan._native.kernels import (
    Matmul,
    apply,
    attention,
    delta_rule,
    isas,
    layer_norm,
    matmul,
    pack,
    quantize,
    rms_norm,
    rope,
    softcap,
    unpack,
)
from binhdan._native.measurements import compiler, peaks, profile
from binhdan._native.models import logits, observe_inputs, sample, score_tokens
from binhdan._native.text import Tokenizer, pretokenizer_names, pretokenizer_patterns, split_words

__all__ = [
    "Matmul",
    "Tokenizer",
    "apply",
    "attention",
    "compiler",
    "decode",
    "delta_rule",
    "dtypes",
    "encode",
    "encode_feedback",
    "isas",
    "layer_norm",
    "logits",
    "matmul",
    "observe_inputs",
    "pack",
    "peaks",
    "pretokenizer_names",
    "pretokenizer_patterns",
    "profile",
    "quantize",
    "rms_norm",
    "rope",
    "sample",
    "score_tokens",
    "softcap",
    "split_words",
    "unpack",
]
