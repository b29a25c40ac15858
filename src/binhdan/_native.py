"""Block codecs, kernels and logits on numpy arrays, for quantize, bench and tests.

These are the functions of csrc/api/binhdan_tools.h. Every function raises ValueError for invalid arguments
and MemoryError if memory is not sufficient. `type` is a GGUF type name ("Q4_0"). `isa` is one of isas(), or
"" for the fastest. Weights are blocks of a GGUF file, row by row. Other Python threads run during a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypedDict

import cffi
import numpy as np
import numpy.typing as npt

from binhdan.runtime.errors import OutOfMemoryError
from binhdan.runtime.ffi import declarations, library
from binhdan.runtime.files import package_file
from binhdan.runtime.options import KvType

_Array = npt.NDArray[Any]
_Floats = npt.NDArray[np.float32]
_Bytes = bytes | bytearray | memoryview | _Array  # contiguous

_NOT_FOUND, _OUT_OF_MEMORY, _TOO_SMALL = 3, 7, 12  # of binhdan_status


def _open() -> tuple[Any, Any]:
    path = library().path
    ffi = cffi.FFI()
    for name in ("binhdan.h", "binhdan_tools.h"):
        header = package_file(f"include/{name}")
        if header is None:
            raise ImportError(f"found no include/{name} in the package binhdan; install it again")
        ffi.cdef(declarations(header.read_text(encoding="utf-8")))
    return ffi, ffi.dlopen(str(path))


_ffi, _lib = _open()


# ---- arguments and results ---------------------------------------------------------------------------------


def _check(status: int) -> None:
    if status:
        message = _string(_lib.binhdan_last_error())
        raise OutOfMemoryError(message) if status == _OUT_OF_MEMORY else ValueError(message)


def _string(c_string: Any) -> str:
    return bytes(_ffi.string(c_string)).decode("utf-8", "replace")


def _c_string(text: str) -> Any:
    if "\0" in text:
        raise ValueError(f"expected a string without NUL characters, got {text!r}")
    return _ffi.new("char[]", text.encode("utf-8", "surrogateescape"))


def _floats(values: _Array) -> _Floats:
    return np.ascontiguousarray(values, dtype=np.float32)


def _tokens(values: _Array | Sequence[int]) -> npt.NDArray[np.int32]:
    tokens = np.ascontiguousarray(values, dtype=np.int32)
    if tokens.ndim != 1 or tokens.size == 0:
        raise ValueError(
            "tokens: expected one axis and at least one token, "
            f"got {tokens.ndim} axes and {tokens.size} tokens"
        )
    return tokens


def _pointer(array: _Array | None, kind: str = "float") -> Any:
    """The data of a contiguous array, which must stay alive during the call. None is NULL."""
    if array is None:
        return _ffi.NULL
    return _ffi.cast(f"{kind} *", _ffi.from_buffer(array)) if array.size else _ffi.NULL


def _bytes(what: str, data: Any) -> tuple[Any, int]:
    view = memoryview(data)
    if not view.c_contiguous:
        raise ValueError(f"{what}: expected contiguous bytes")
    return (_ffi.from_buffer(view), view.nbytes) if view.nbytes else (_ffi.NULL, 0)


def _expect_axes(array: _Array, what: str, axes: int) -> None:
    if array.ndim != axes:
        raise ValueError(f"{what}: expected {axes} axes, got {array.ndim}")


def _expect_size(what: str, expected: int, got: int) -> None:
    if expected != got:
        raise ValueError(f"{what}: expected {expected}, got {got}")


def _optional_row(what: str, x: _Floats, row: _Array | None) -> _Floats | None:
    """A row of the size of x, or None."""
    if row is None:
        return None
    _expect_size(what, x.size, row.size)
    return _floats(row)


def _grow(kind: str, first: int, function: Any, *arguments: Any) -> Any:
    """The result of a function that ends with (buffer, capacity, size), as a cffi buffer."""
    size = _ffi.new("size_t *")
    capacity = first
    while True:
        out = _ffi.new(f"{kind}[]", max(capacity, 1))
        status = function(*arguments, out, capacity, size)
        if status != _TOO_SMALL:
            _check(status)
            return _ffi.unpack(out, size[0])
        capacity = int(size[0])


def _listed(function: Any, *arguments: Any) -> Iterator[str]:
    """Names by index, until the function reports NOT_FOUND."""
    name = _ffi.new("char **")
    index = 0
    while (status := function(*arguments, index, name)) != _NOT_FOUND:
        _check(status)
        yield _string(name[0])
        index += 1


# ---- codecs ------------------------------------------------------------------------------------------------


def dtypes() -> dict[str, tuple[int, int]]:
    """For each type that binhdan reads: elements and bytes of a block."""
    entry = _ffi.new("binhdan_tools_type *")
    found: dict[str, tuple[int, int]] = {}
    while (status := _lib.binhdan_tools_type_at(len(found), entry)) != _NOT_FOUND:
        _check(status)
        found[_string(entry.name)] = (entry.block, entry.block_bytes)
    return found


_BLOCKS = dtypes()


def _block(type: str) -> tuple[int, int]:
    if type not in _BLOCKS:
        raise ValueError(f"tensor type: expected one of {', '.join(_BLOCKS)}; got {type}")
    return _BLOCKS[type]


def decode(type: str, blocks: _Bytes, n: int) -> _Floats:
    """The `n` elements of `blocks`, (n,). Equal to gguf-py's dequantize bit for bit."""
    data, size = _bytes("blocks", blocks)
    out = np.empty(max(n, 0), np.float32)
    _check(_lib.binhdan_tools_decode(_c_string(type), data, size, _pointer(out), n))
    return out


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
    block, block_bytes = _block(type)
    if values.ndim < 1:
        raise ValueError("values: expected at least one axis")
    values = _floats(values)
    size = cols = values.shape[-1]
    if importance is not None:
        if values.ndim == 1 and importance.size > 0 and size % importance.size == 0:
            cols = importance.size
        _expect_size("size of importance", cols, importance.size)
        if not search:
            raise ValueError("importance: expected None without a search")
        importance = _floats(importance)
    for columns in (size, cols):
        if columns % block:
            raise ValueError(f"{type}: expected rows of a multiple of {block} elements, got {columns}")
    out = np.empty((*values.shape[:-1], size // block * block_bytes), np.uint8)
    source, target, name = _pointer(values), _pointer(out, "void"), _c_string(type)
    if search:
        rows = values.size // cols if cols else 0
        weights = _pointer(importance)
        _check(_lib.binhdan_tools_encode(name, source, rows, cols, weights, target, threads, _c_string(isa)))
    else:
        _check(_lib.binhdan_tools_round(name, source, values.size, target))
    return out


def encode_feedback(
    type: str, values: _Array, factor: _Array, threads: int = 0, isa: str = ""
) -> npt.NDArray[np.uint8]:
    """Blocks of `values` (rows, cols), with a small sum over rows of (x - x')^T H (x - x'). `factor` (cols,
    cols) is the upper triangular R with H = R R^T and a positive diagonal (csrc/encode/feedback.h)."""
    block, block_bytes = _block(type)
    _expect_axes(values, "values", 2)
    _expect_axes(factor, "factor", 2)
    values, factor = _floats(values), _floats(factor)
    rows, cols = values.shape
    _expect_size("rows of factor", cols, factor.shape[0])
    _expect_size("columns of factor", cols, factor.shape[1])
    out = np.empty((rows, cols // block * block_bytes), np.uint8)
    _check(
        _lib.binhdan_tools_encode_feedback(
            _c_string(type),
            _pointer(values),
            rows,
            cols,
            _pointer(factor),
            _pointer(out, "void"),
            threads,
            _c_string(isa),
        )
    )
    return out


# ---- matrices ----------------------------------------------------------------------------------------------


def isas() -> list[str]:
    """Kernel tables that this machine can run, the fastest last."""
    return list(_listed(_lib.binhdan_tools_isa))


def pack(isa: str, type: str, weights: _Bytes, rows: int, cols: int) -> npt.NDArray[np.uint8]:
    """A weight matrix in the layout of a kernel table; the blocks of the file if the table does not pack."""
    data, size = _bytes("weights", weights)
    packed_size = _ffi.new("size_t *")
    arguments = (_c_string(isa), _c_string(type), data, size, rows, cols)
    status = _lib.binhdan_tools_pack(*arguments, _ffi.NULL, 0, packed_size)
    if status != _TOO_SMALL:
        _check(status)
    out = np.empty(packed_size[0], np.uint8)
    _check(_lib.binhdan_tools_pack(*arguments, _pointer(out, "uint8_t"), out.size, packed_size))
    return out


def unpack(isa: str, type: str, packed: _Bytes, rows: int, cols: int) -> _Floats:
    """The weights of a packed matrix, (rows, cols)."""
    data, size = _bytes("packed", packed)
    out = np.empty((max(rows, 0), max(cols, 0)), np.float32)
    _check(_lib.binhdan_tools_unpack(_c_string(isa), _c_string(type), data, size, rows, cols, _pointer(out)))
    return out


class Matmul:
    """x (m, cols) times the transposed weights, with weights that are packed once, for repeated runs on one
    thread. `gemm` selects gemm, else gemv."""

    def __init__(
        self, isa: str, type: str, weights: _Bytes, rows: int, cols: int, x: _Array, gemm: bool
    ) -> None:
        _expect_axes(x, "x", 2)
        _expect_size("columns of x", cols, x.shape[1])
        x = _floats(x)
        data, size = _bytes("weights", weights)
        self._shape = (x.shape[0], rows)
        product = _ffi.new("binhdan_tools_product **")
        _check(
            _lib.binhdan_tools_product_create(
                _c_string(isa),
                _c_string(type),
                data,
                size,
                rows,
                cols,
                _pointer(x),
                x.shape[0],
                gemm,
                product,
            )
        )
        self._product = _ffi.gc(product[0], _lib.binhdan_tools_product_free)

    def run(self) -> None:
        _lib.binhdan_tools_product_run(self._product)

    def result(self) -> _Floats:
        """The product of the last run, (m, rows)."""
        m, rows = self._shape
        result = _lib.binhdan_tools_product_result(self._product)
        found: _Floats = np.frombuffer(_ffi.buffer(result, 4 * m * rows), np.float32).reshape(m, rows).copy()
        return found

    @property
    def weight_bytes(self) -> int:
        """Size of the packed weights."""
        return int(_lib.binhdan_tools_product_weight_bytes(self._product))


def matmul(isa: str, type: str, weights: _Bytes, rows: int, cols: int, x: _Array, gemm: bool) -> _Floats:
    """x (m, cols) times the transposed weights, (m, rows). `gemm` selects gemm, else gemv."""
    product = Matmul(isa, type, weights, rows, cols, x, gemm)
    product.run()
    return product.result()


# ---- the other kernels -------------------------------------------------------------------------------------


def quantize(isa: str, x: _Array) -> tuple[_Floats, npt.NDArray[np.int32], npt.NDArray[np.int8]]:
    """`x` in blocks of 32 int8: scales (blocks,), sums of the quants (blocks,), quants (blocks, 32)."""
    x = _floats(x)
    blocks = x.size // 32
    scales, sums = np.empty(blocks, np.float32), np.empty(blocks, np.int32)
    quants = np.empty((blocks, 32), np.int8)
    _check(
        _lib.binhdan_tools_quantize(
            _c_string(isa),
            _pointer(x),
            x.size,
            _pointer(scales),
            _pointer(sums, "int32_t"),
            _pointer(quants, "int8_t"),
        )
    )
    return scales, sums, quants


def rms_norm(isa: str, x: _Array, weight: _Array | None, eps: float) -> _Floats:
    """x / sqrt(mean(x^2) + eps) * weight, (n,)."""
    _expect_axes(x, "x", 1)
    x = _floats(x)
    factor = _optional_row("weight", x, weight)
    out = np.empty_like(x)
    _check(
        _lib.binhdan_tools_rms_norm(_c_string(isa), _pointer(x), _pointer(factor), x.size, eps, _pointer(out))
    )
    return out


def layer_norm(isa: str, x: _Array, weight: _Array, bias: _Array | None, eps: float) -> _Floats:
    """(x - mean(x)) / sqrt(variance(x) + eps) * weight + bias, (n,)."""
    _expect_axes(x, "x", 1)
    x = _floats(x)
    factor, summand = _optional_row("weight", x, weight), _optional_row("bias", x, bias)
    out = np.empty_like(x)
    _check(
        _lib.binhdan_tools_layer_norm(
            _c_string(isa), _pointer(x), _pointer(factor), _pointer(summand), x.size, eps, _pointer(out)
        )
    )
    return out


def rope(isa: str, x: _Array, cos_sin: _Array, neox: bool) -> _Floats:
    """One head (dim,) rotated by cos_sin (dim / 2, 2): pairs (i, i + dim/2) for neox, else (2i, 2i + 1)."""
    _expect_axes(x, "x", 1)
    out = np.array(x, np.float32)
    _expect_size("cos_sin", out.size, cos_sin.size)
    table = _floats(cos_sin)
    _check(_lib.binhdan_tools_rope(_c_string(isa), _pointer(out), _pointer(table), out.size, neox))
    return out


def apply(isa: str, function: str, x: _Array, factor: _Array | None = None) -> _Floats:
    """f(x) * factor, (n,). `function`: silu, gelu_tanh, gelu, relu2, sigmoid."""
    _expect_axes(x, "x", 1)
    out = np.array(x, np.float32)
    factors = _optional_row("factor", out, factor)
    _check(
        _lib.binhdan_tools_apply(
            _c_string(isa), _c_string(function), _pointer(out), _pointer(factors), out.size
        )
    )
    return out


def softcap(isa: str, x: _Array, cap: float) -> _Floats:
    """cap * tanh(x / cap), (n,)."""
    _expect_axes(x, "x", 1)
    out = np.array(x, np.float32)
    _check(_lib.binhdan_tools_softcap(_c_string(isa), _pointer(out), cap, out.size))
    return out


def attention(
    isa: str, q: _Array, k: _Array, v: _Array, kv_type: KvType = "f16", begin: int = 0, softcap: float = 0.0
) -> _Floats:
    """softmax(q k^T) v over the positions from `begin` on. q (heads, head_dim) is scaled already. The table
    rounds k and v (n, head_dim). With a softcap, a score x becomes softcap * tanh(x / softcap)."""
    for name, array in (("q", q), ("k", k), ("v", v)):
        _expect_axes(array, name, 2)
    q, k, v = _floats(q), _floats(k), _floats(v)
    heads, dim = q.shape
    _expect_size("columns of k", dim, k.shape[1])
    _expect_size("size of v", k.size, v.size)
    out = np.empty((heads, dim), np.float32)
    _check(
        _lib.binhdan_tools_attention(
            _c_string(isa),
            _pointer(q),
            _pointer(k),
            _pointer(v),
            heads,
            dim,
            k.shape[0],
            _c_string(kv_type),
            begin,
            softcap,
            _pointer(out),
        )
    )
    return out


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
    _expect_axes(k, "k", 2)
    _expect_axes(v, "v", 2)
    (rows, key_dim), value_dim = k.shape, v.shape[1]
    _expect_size("size of q", k.size, q.size)
    _expect_size("rows of v", rows, v.shape[0])
    _expect_size("decay", rows, decay.size)
    _expect_size("beta", rows, beta.size)
    next_state = np.array(state, np.float32)
    # The library checks the divisors of the dimensions, with which the size of the state is meaningful.
    for name, columns in (("k", key_dim), ("v", value_dim)):
        if columns <= 0 or columns % 8:
            raise ValueError(f"columns of {name}: expected a positive multiple of 8, got {columns}")
    _expect_size("state", key_dim * value_dim, next_state.size)
    out = np.empty((rows, value_dim), np.float32)
    arrays = {
        "q": _floats(q),
        "k": _floats(k),
        "v": _floats(v),
        "decay": _floats(decay),
        "beta": _floats(beta),
    }
    args = _ffi.new(
        "binhdan_tools_delta *",
        {name: _pointer(array) for name, array in arrays.items()}
        | {"state": _pointer(next_state), "out": _pointer(out)}
        | {"rows": rows, "key_dim": key_dim, "value_dim": value_dim},
    )
    _check(_lib.binhdan_tools_delta_rule(_c_string(isa), args, chunks))
    return out, next_state.reshape(key_dim, value_dim)


# ---- models ------------------------------------------------------------------------------------------------


def logits(
    model: int, tokens: _Array, threads: int, decode: bool = False, kv_type: KvType = "f16"
) -> _Floats:
    """Logits after each of `tokens` on an open model of the C ABI, (n, vocabulary). `decode` selects the
    numeric class of decode, else that of prefill."""
    ids = _tokens(tokens)
    size = _ffi.new("size_t *")
    arguments = (model, _pointer(ids, "int32_t"), ids.size, threads, decode, _c_string(kv_type))
    status = _lib.binhdan_tools_logits(*arguments, _ffi.NULL, 0, size)
    if status != _TOO_SMALL:
        _check(status)
    out = np.empty((ids.size, size[0] // ids.size), np.float32)
    _check(_lib.binhdan_tools_logits(*arguments, _pointer(out), out.size, size))
    return out


def observe_inputs(
    model: int,
    tokens: _Array,
    threads: int,
    visit: Callable[[set[str], _Floats], None],
    tensors: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    """Runs `tokens` and calls visit(names, rows) with the inputs, (rows, columns), of the matrices of the
    tensors `names`: one call for each input and part of the tokens, in the order of the forward pass. Only
    for `tensors`, if there are any. All layers compute all rows. An exception of visit ends the run."""
    ids = _tokens(tokens)
    raised: list[BaseException] = []

    def forward(_user: Any, names: Any, n_names: int, x: Any, rows: int, cols: int) -> int:
        try:
            values = np.frombuffer(_ffi.buffer(x, 4 * rows * cols), np.float32).reshape(rows, cols).copy()
            visit({_string(names[i]) for i in range(n_names)}, values)
        except BaseException as error:
            raised.append(error)
            return 1
        return 0

    # A signal between the call of forward and its try would be printed and lost, and the run would go on.
    callback = _ffi.callback(
        "binhdan_tools_visit", forward, error=1, onerror=lambda _kind, error, _trace: raised.append(error)
    )
    names = [_c_string(name) for name in sorted(tensors)]
    status = _lib.binhdan_tools_observe_inputs(
        model, _pointer(ids, "int32_t"), ids.size, threads, names, len(names), callback, _ffi.NULL
    )
    if raised:
        raise raised[0]
    _check(status)


class _Scores(TypedDict, total=False):
    nll: npt.NDArray[np.float64]  # -log of the probability of the token, in nats
    best: npt.NDArray[np.int32]  # the most probable token
    # with a reference:
    kl: npt.NDArray[np.float64]  # KL divergence from the reference, in nats
    same_best: npt.NDArray[np.bool_]  # the most probable token is that of the reference
    kept: npt.NDArray[np.float64]  # part of the reference's probability that is in `columns`


_LogitStore = tuple[npt.NDArray[np.uint16], npt.NDArray[np.float64]]
_SCORE = np.dtype([("nll", "f8"), ("kl", "f8"), ("kept", "f8"), ("best", "i4"), ("same_best", "i4")])


def _logit_store(what: str, logits: _LogitStore | None, writable: bool) -> Any:
    if logits is None:
        return _ffi.NULL
    codes, factors = logits
    if codes.ndim != 2 or factors.shape != (codes.shape[0], 4):
        raise ValueError(f"{what}: expected arrays of the shapes (n, vocabulary) and (n, 4)")
    if codes.dtype != np.uint16 or factors.dtype != np.float64:
        raise ValueError(
            f"{what}: expected arrays of uint16 and float64, got {codes.dtype} and {factors.dtype}"
        )
    if not (codes.flags.c_contiguous and factors.flags.c_contiguous):
        raise ValueError(f"{what}: expected contiguous arrays")
    if writable and not (codes.flags.writeable and factors.flags.writeable):
        raise ValueError(f"{what}: expected arrays that can be written to")
    store = {"codes": _pointer(codes, "uint16_t"), "factors": _pointer(factors, "double")}
    return _ffi.new(
        "binhdan_tools_logit_store *", store | {"rows": codes.shape[0], "columns": codes.shape[1]}
    )


def score_tokens(
    model: int,
    tokens: _Array,
    first: int,
    threads: int,
    kv_type: KvType = "f16",
    record: _LogitStore | None = None,
    reference: _LogitStore | None = None,
    columns: _Array | None = None,
) -> _Scores:
    """Scores the predictions of the n tokens after position `first`, each from all tokens before it.

    `record` gets the logits and `reference` has those of another model: codes (n, vocabulary), which divide
    the range of a row into 65,535 steps, and factors (n, 4). `columns` has the reference's column of each
    token, if its vocabulary is larger."""
    ids = _tokens(tokens)
    if not 0 <= first < ids.size:
        raise ValueError(f"first: expected 0 to {ids.size - 1}, got {first}")
    chosen = None if columns is None else _tokens(columns)
    scores = np.empty(ids.size - 1 - first, _SCORE)
    _check(
        _lib.binhdan_tools_score_tokens(
            model,
            _pointer(ids, "int32_t"),
            ids.size,
            first,
            threads,
            _c_string(kv_type),
            _logit_store("record", record, True),
            _logit_store("reference", reference, False),
            _pointer(chosen, "int32_t"),
            0 if chosen is None else chosen.size,
            _pointer(scores, "binhdan_tools_score"),
        )
    )
    found: _Scores = {"nll": scores["nll"].copy(), "best": scores["best"].copy()}
    if reference is not None:
        found["kl"], found["kept"] = scores["kl"].copy(), scores["kept"].copy()
        found["same_best"] = scores["same_best"] != 0
    return found


def sample(
    logits: _Floats, temperature: float = 0, top_k: int = 0, top_p: float = 1, min_p: float = 0, seed: int = 0
) -> int:
    """The first token that a request with these settings samples from `logits` (vocabulary,)."""
    _expect_axes(logits, "logits", 1)
    values = _floats(logits)
    token = _ffi.new("int32_t *")
    _check(
        _lib.binhdan_tools_sample(
            _pointer(values), values.size, temperature, top_k, top_p, min_p, seed, token
        )
    )
    return int(token[0])


# ---- text --------------------------------------------------------------------------------------------------


def pretokenizer_names() -> list[str]:
    """Names of tokenizer.ggml.pre that the byte-level BPE supports."""
    return list(_listed(_lib.binhdan_tools_pretokenizer))


def pretokenizer_patterns(name: str) -> list[str]:
    """The regular expressions of a pre-tokenizer."""
    if name not in pretokenizer_names():
        raise ValueError(f'pretokenizer: expected one of pretokenizer_names(), got "{name}"')
    patterns: list[str] = []
    size = _ffi.new("size_t *")
    arguments = (_lib.binhdan_tools_pretokenizer_pattern, _c_string(name))
    while arguments[0](arguments[1], len(patterns), _ffi.NULL, 0, size) == _TOO_SMALL:
        patterns.append(_grow("char", size[0], *arguments, len(patterns)).decode())
    return patterns


def split_words(pretokenizer: str, text: bytes) -> list[int]:
    """The ends, in bytes, of the words into which a pre-tokenizer cuts UTF-8 text."""
    data, size = _bytes("text", text)
    return list(_grow("size_t", size, _lib.binhdan_tools_split_words, _c_string(pretokenizer), data, size))


class Tokenizer:
    """The tokenizer of a GGUF file, which needs the tokenizer.* keys only, and no tensor."""

    def __init__(self, path: str) -> None:
        opened = _ffi.new("binhdan_tools_tokenizer **")
        _check(_lib.binhdan_tools_tokenizer_open(_c_string(path), opened))
        self._tokenizer = _ffi.gc(opened[0], _lib.binhdan_tools_tokenizer_free)

    def encode(self, text: str | bytes, parse_special: bool = False) -> list[int]:
        """Without BOS and EOS. `parse_special`: the text of a control token becomes the token."""
        data, size = _bytes("text", text.encode() if isinstance(text, str) else text)
        function = _lib.binhdan_tools_tokenizer_encode
        return list(_grow("int32_t", size + 8, function, self._tokenizer, data, size, parse_special))

    def decode(self, tokens: Sequence[int], special: bool = False) -> bytes:
        """The bytes of the tokens; those of control tokens only if `special`."""
        ids = np.ascontiguousarray(tokens, dtype=np.int32)
        function = _lib.binhdan_tools_tokenizer_decode
        first = 16 * ids.size + 256
        found = _grow("char", first, function, self._tokenizer, _pointer(ids, "int32_t"), ids.size, special)
        return bytes(found)


# ---- measurements ------------------------------------------------------------------------------------------


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


def _measured_pass(measured: Any) -> _Pass:
    ops: list[_Op] = [
        {"name": _string(op.name), "calls": op.calls, "ns": op.ns, "bytes": op.bytes, "macs": op.macs}
        for op in measured.ops[0 : measured.n_ops]
    ]
    return {"ns": measured.ns, "ops": ops}


def profile(
    model: int,
    threads: int,
    prompt_tokens: int,
    decode_tokens: int,
    depth: int = 0,
    sequences: int = 1,
    kv_type: KvType = "f16",
) -> _Profile:
    """Time of each operation of the forward pass after a warm-up: prefill of one sequence, and decode steps
    of `sequences` sequences. All start after `depth` positions without content."""
    passes = _ffi.new("binhdan_tools_pass[2]")
    _check(
        _lib.binhdan_tools_profile(
            model,
            threads,
            prompt_tokens,
            decode_tokens,
            depth,
            sequences,
            _c_string(kv_type),
            passes,
            passes + 1,
        )
    )
    return {"prefill": _measured_pass(passes[0]), "decode": _measured_pass(passes[1])}


def peaks(isa: str, threads: int) -> dict[str, float]:
    """Multiply-adds per second that `threads` threads reach in registers, for each format of activations that
    the table uses: "q8", "f32", "bf16". Takes about 0.2 s per format."""
    rate = _ffi.new("double *")
    found: dict[str, float] = {}
    for name in ("f32", "q8", "bf16"):
        _check(_lib.binhdan_tools_peak(_c_string(isa), _c_string(name), threads, rate))
        if rate[0] > 0:
            found[name] = rate[0]
    return found


# Name and version of the compiler of the core.
compiler: str = _string(_lib.binhdan_tools_compiler())
