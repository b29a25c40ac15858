"""Block codecs, kernels and logits on numpy arrays, for the quantizer and the tests.

Every function raises ValueError for arguments that do not fit, with what was expected and what came, and
MemoryError when there is not enough memory. `type` is a GGUF type name ("Q4_0"); `isa` is one of isas(), or
"" for the fastest. Weights are file blocks, row after row.
"""

from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from binhdan.runtime.options import KvType as _KvType

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]
_Bytes = bytes | bytearray | memoryview | _Array  # in one piece

def dtypes() -> dict[str, tuple[int, int]]:
    """Elements and bytes of a block of each type that binhdan reads."""

def decode(type: str, blocks: _Bytes, n: int) -> _Floats:
    """The `n` elements of `blocks`, bit for bit what gguf-py's dequantize gives: (n,)."""

def encode(type: str, values: _Array) -> npt.NDArray[np.uint8]:
    """File blocks of `values` (..., n): (..., bytes of n elements). F32, F16, BF16, Q8_0 and Q4_0."""

def isas() -> list[str]:
    """Kernel tables that this machine can run, from the simplest to the fastest."""

def pack(isa: str, type: str, weights: _Bytes, rows: int, cols: int) -> npt.NDArray[np.uint8]:
    """A weight matrix as a table's kernel wants it; the file blocks themselves where it packs nothing."""

def unpack(isa: str, type: str, packed: _Bytes, rows: int, cols: int) -> _Floats:
    """The rows of a packed matrix: (rows, cols)."""

def matmul(isa: str, type: str, weights: _Bytes, rows: int, cols: int, x: _Array, gemm: bool) -> _Floats:
    """x (m, cols) times the transposed weights: (m, rows). `gemm` chooses gemm, else gemv."""

class Matmul:
    """The same product made ready once, with its weights packed, to be run many times on one thread."""

    def __init__(
        self, isa: str, type: str, weights: _Bytes, rows: int, cols: int, x: _Array, gemm: bool
    ) -> None: ...
    def run(self) -> None: ...
    def result(self) -> _Floats:
        """Of the last run: (m, rows)."""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the packed weights."""

def quantize(isa: str, x: _Array) -> tuple[_Floats, npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """`x` as blocks of 32 int8: scales (blocks,), sums of the codes (blocks,), codes (blocks, 32)."""

def rms_norm(isa: str, x: _Array, weight: _Array, eps: float) -> _Floats:
    """x / sqrt(mean(x^2) + eps) * weight: (n,)."""

def rope(isa: str, x: _Array, cos_sin: _Array, neox: bool) -> _Floats:
    """One head (dim,) rotated by cos_sin (dim / 2, 2): pairs (i, i + dim/2) for neox, else (2i, 2i + 1)."""

def silu_mul(isa: str, gate: _Array, up: _Array) -> _Floats:
    """gate / (1 + e^-gate) * up: (n,)."""

def attention(isa: str, q: _Array, k: _Array, v: _Array, kv_type: _KvType = "f16") -> _Floats:
    """softmax(q k^T) v: q (heads, head_dim) already scaled, k and v (n, head_dim), which the table rounds."""

def logits(
    model: int, tokens: _Array, threads: int, decode: bool = False, kv_type: _KvType = "f16"
) -> _Floats:
    """Logits after each of `tokens` on an open model of the C ABI: (n, vocabulary). `decode` chooses the
    numeric class of rows that are decoded, else that of rows of prompts."""

def sample(
    logits: _Floats, temperature: float = 0, top_k: int = 0, top_p: float = 1, min_p: float = 0, seed: int = 0
) -> int:
    """The first token that a request with these settings draws from `logits`, (vocabulary); they stay."""

class _Op(TypedDict):
    name: str  # "qkv", "attention", ..., "wait" for the time in barriers
    calls: int
    ns: int  # of one of the threads
    bytes: int  # of weights, keys and values that all threads together must read
    macs: int  # multiply-adds of all threads

class _Pass(TypedDict):
    ns: int
    ops: list[_Op]

class _Profile(TypedDict):
    prompt: _Pass
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
    """What the forward pass costs, operation by operation, once warm: a prompt of one sequence, and steps in
    which each of `sequences` gets a token. All start behind `depth` positions, which are blank."""

def peaks(isa: str, threads: int) -> dict[str, float]:
    """Multiply-adds per second that `threads` threads reach in registers, by the format of activations: "q8",
    "f32", "bf16"; without those that the table does not use. Takes about a fifth of a second for each."""

# Which compiled it, and the core with it: name and version.
compiler: str
