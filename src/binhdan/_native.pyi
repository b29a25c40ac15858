"""Block codecs, kernels and logits on numpy arrays, for quantize, bench and tests.

Every function raises ValueError for invalid arguments and MemoryError if memory is not sufficient. `type` is
a GGUF type name ("Q4_0"). `isa` is one of isas(), or "" for the fastest. Weights are blocks of a GGUF file,
row by row.
"""

from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from binhdan.runtime.options import KvType as _KvType

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]
_Bytes = bytes | bytearray | memoryview | _Array  # contiguous

def dtypes() -> dict[str, tuple[int, int]]:
    """For each type that binhdan reads: elements and bytes of a block."""

def decode(type: str, blocks: _Bytes, n: int) -> _Floats:
    """The `n` elements of `blocks`, (n,). Equal to gguf-py's dequantize bit for bit."""

def encode(
    type: str,
    values: _Array,
    importance: _Array | None = None,
    threads: int = 0,
    search: bool = True,
    isa: str = "",
) -> npt.NDArray[np.uint8]:
    """Blocks of `values` (..., n), (..., bytes of n elements), with a small sum of importance times the
    square of the difference. `importance` (n,): None stands for ones. `values` with one axis are rows of the
    size of `importance`. `threads`: 0 for all usable cores; `isa`: "" for the fastest kernel table. The
    blocks depend on neither. F32, F16, BF16 and Q8_0 are rounded in any case; `search=False` rounds Q4_0,
    too."""

def encode_feedback(
    type: str, values: _Array, factor: _Array, threads: int = 0, isa: str = ""
) -> npt.NDArray[np.uint8]:
    """Blocks of `values` (rows, cols), with a small sum over rows of (x - x')^T H (x - x'). `factor` (cols,
    cols) is the upper triangular R with H = R R^T and a positive diagonal (csrc/encode/feedback.h)."""

def isas() -> list[str]:
    """Kernel tables that this machine can run, the fastest last."""

def pack(isa: str, type: str, weights: _Bytes, rows: int, cols: int) -> npt.NDArray[np.uint8]:
    """A weight matrix in the layout of a kernel table; the blocks of the file if the table does not pack."""

def unpack(isa: str, type: str, packed: _Bytes, rows: int, cols: int) -> _Floats:
    """The weights of a packed matrix, (rows, cols)."""

def matmul(isa: str, type: str, weights: _Bytes, rows: int, cols: int, x: _Array, gemm: bool) -> _Floats:
    """x (m, cols) times the transposed weights, (m, rows). `gemm` selects gemm, else gemv."""

class Matmul:
    """The same product with weights that are packed once, for repeated runs on one thread."""

    def __init__(
        self, isa: str, type: str, weights: _Bytes, rows: int, cols: int, x: _Array, gemm: bool
    ) -> None: ...
    def run(self) -> None: ...
    def result(self) -> _Floats:
        """The product of the last run, (m, rows)."""

    @property
    def weight_bytes(self) -> int:
        """Size of the packed weights."""

def quantize(isa: str, x: _Array) -> tuple[_Floats, npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """`x` in blocks of 32 int8: scales (blocks,), sums of the quants (blocks,), quants (blocks, 32)."""

def rms_norm(isa: str, x: _Array, weight: _Array | None, eps: float) -> _Floats:
    """x / sqrt(mean(x^2) + eps) * weight, (n,)."""

def layer_norm(isa: str, x: _Array, weight: _Array, bias: _Array | None, eps: float) -> _Floats:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, (n,)."""

def rope(isa: str, x: _Array, cos_sin: _Array, neox: bool) -> _Floats:
    """One head (dim,) rotated by cos_sin (dim / 2, 2): pairs (i, i + dim/2) for neox, else (2i, 2i + 1)."""

def apply(isa: str, function: str, x: _Array, factor: _Array | None = None) -> _Floats:
    """f(x) * factor, (n,). `function`: silu, gelu_tanh, gelu, relu2, sigmoid."""

def softcap(isa: str, x: _Array, cap: float) -> _Floats:
    """cap * tanh(x / cap), (n,)."""

def attention(
    isa: str, q: _Array, k: _Array, v: _Array, kv_type: _KvType = "f16", begin: int = 0, softcap: float = 0.0
) -> _Floats:
    """softmax(q k^T) v over the positions from `begin` on. q (heads, head_dim) is scaled already. The table
    rounds k and v (n, head_dim). With a softcap, a score x becomes softcap * tanh(x / softcap)."""

def delta_rule(
    isa: str,
    q: _Floats,
    k: _Floats,
    v: _Floats,
    decay: _Floats,
    beta: _Floats,
    state: _Floats,
    chunks: bool,
) -> tuple[_Array, _Array]:
    """The gated delta rule for one head: the outputs (rows, value_dim) and the state (key_dim, value_dim)
    after the last row. q, k: (rows, key_dim), normalised and q scaled; v: (rows, value_dim); decay (natural
    logarithm, <= 0), beta: (rows,). chunks: the kernel of prefill, in chunks from row 0 on; otherwise the
    kernel of decode."""

def logits(
    model: int, tokens: _Array, threads: int, decode: bool = False, kv_type: _KvType = "f16"
) -> _Floats:
    """Logits after each of `tokens` on an open model of the C ABI, (n, vocabulary). `decode` selects the
    numeric class of decode, else that of prefill."""

def observe_inputs(
    model: int,
    tokens: _Array,
    threads: int,
    visit: Callable[[set[str], _Floats], None],
    tensors: set[str] = ...,
) -> None:
    """Runs `tokens` and calls visit(names, rows) with the inputs, (rows, columns), of the matrices of the
    tensors `names`: one call for each input and part of the tokens, in the order of the forward pass. Only
    for `tensors`, if there are any. All layers compute all rows."""

class _Scores(TypedDict, total=False):
    nll: npt.NDArray[np.float64]  # -log of the probability of the token, in nats
    best: npt.NDArray[np.int32]  # the most probable token
    # with a reference:
    kl: npt.NDArray[np.float64]  # KL divergence from the reference, in nats
    same_best: npt.NDArray[np.bool_]  # the most probable token is that of the reference
    kept: npt.NDArray[np.float64]  # part of the reference's probability that is in `columns`

def score_tokens(
    model: int,
    tokens: _Array,
    first: int,
    threads: int,
    kv_type: _KvType = "f16",
    record: tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]] | None = None,
    reference: tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]] | None = None,
    columns: _Array | None = None,
) -> _Scores:
    """Scores the predictions of the n tokens after position `first`, each from all tokens before it.

    `record` gets the logits and `reference` has those of another model: codes (n, vocabulary), which divide
    the range of a row into 65,535 steps, and factors (n, 4). `columns` has the reference's column of each
    token, if its vocabulary is larger."""

def pretokenizer_names() -> list[str]:
    """Names of tokenizer.ggml.pre that the byte-level BPE supports."""

def pretokenizer_patterns(name: str) -> list[str]:
    """The regular expressions of a pre-tokenizer."""

def split_words(pretokenizer: str, text: bytes) -> list[int]:
    """The ends, in bytes, of the words into which a pre-tokenizer cuts UTF-8 text."""

class Tokenizer:
    """The tokenizer of a GGUF file, which needs the tokenizer.* keys only, and no tensor."""

    def __init__(self, path: str) -> None: ...
    def encode(self, text: str | bytes, parse_special: bool = False) -> list[int]:
        """Without BOS and EOS. `parse_special`: the text of a control token becomes the token."""

    def decode(self, tokens: list[int], special: bool = False) -> bytes:
        """The bytes of the tokens; those of control tokens only if `special`."""

def sample(
    logits: _Floats, temperature: float = 0, top_k: int = 0, top_p: float = 1, min_p: float = 0, seed: int = 0
) -> int:
    """The first token that a request with these settings samples from `logits` (vocabulary,)."""

class _Op(TypedDict):
    name: str  # "qkv", "attention", ...; "wait" is the time in barriers
    calls: int
    ns: int  # of one thread
    bytes: int  # of weights, keys and values that all threads together read
    macs: int  # multiply-adds of all threads

class _Pass(TypedDict):
    ns: int
    ops: list[_Op]

class _Profile(TypedDict):
    prefill: _Pass
    decode: _Pass

def profile(
    model: int,
    threads: int,
    prompt_tokens: int,
    decode_tokens: int,
    depth: int = 0,
    sequences: int = 1,
    kv_type: _KvType = "f16",
) -> _Profile:
    """Time of each operation of the forward pass after a warm-up: prefill of one sequence, and decode steps
    of `sequences` sequences. All start after `depth` positions without content."""

def peaks(isa: str, threads: int) -> dict[str, float]:
    """Multiply-adds per second that `threads` threads reach in registers, for each format of activations that
    the table uses: "q8", "f32", "bf16". Takes about 0.2 s per format."""

# Name and version of the compiler of this module and the core.
compiler: str
