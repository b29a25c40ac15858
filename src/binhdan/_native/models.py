"""Logits, inputs and scores of open models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from binhdan._native.arguments import (
    TOO_SMALL,
    Array,
    Floats,
    c_string,
    check,
    expect_axes,
    ffi,
    floats,
    lib,
    pointer,
    string,
    tokens_of,
)
from binhdan.runtime.options import KvType


def logits(model: int, tokens: Array, threads: int, decode: bool = False, kv_type: KvType = "f16") -> Floats:
    """Logits after each of `tokens` on an open model of the C ABI, (n, vocabulary). `decode` selects the
    numeric class of decode, else that of prefill."""
    ids = tokens_of(tokens)
    size = ffi.new("size_t *")
    arguments = (model, pointer(ids, "int32_t"), ids.size, threads, decode, c_string(kv_type))
    status = lib.binhdan_tools_logits(*arguments, ffi.NULL, 0, size)
    if status != TOO_SMALL:
        check(status)
    out = np.empty((ids.size, size[0] // ids.size), np.float32)
    check(lib.binhdan_tools_logits(*arguments, pointer(out), out.size, size))
    return out


def observe_inputs(
    model: int,
    tokens: Array,
    threads: int,
    visit: Callable[[set[str], Floats], None],
    tensors: set[str] = frozenset(),  # type: ignore[assignment]
) -> None:
    """Runs `tokens` and calls visit(names, rows) with the inputs, (rows, columns), of the matrices of the
    tensors `names`: one call for each input and part of the tokens, in the order of the forward pass. Only
    for `tensors`, if there are any. All layers compute all rows. An exception of visit ends the run."""
    ids = tokens_of(tokens)
    raised: list[BaseException] = []

    def forward(_user: Any, names: Any, n_names: int, x: Any, rows: int, cols: int) -> int:
        try:
            values = np.frombuffer(ffi.buffer(x, 4 * rows * cols), np.float32).reshape(rows, cols).copy()
            visit({string(names[i]) for i in range(n_names)}, values)
        except BaseException as error:
            raised.append(error)
            return 1
        return 0

    # A signal between the call of forward and its try would be printed and lost, and the run would go on.
    callback = ffi.callback(
        "binhdan_tools_visit", forward, error=1, onerror=lambda _kind, error, _trace: raised.append(error)
    )
    names = [c_string(name) for name in sorted(tensors)]
    status = lib.binhdan_tools_observe_inputs(
        model, pointer(ids, "int32_t"), ids.size, threads, names, len(names), callback, ffi.NULL
    )
    if raised:
        raise raised[0]
    check(status)


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
        return ffi.NULL
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
    store = {"codes": pointer(codes, "uint16_t"), "factors": pointer(factors, "double")}
    return ffi.new("binhdan_tools_logit_store *", store | {"rows": codes.shape[0], "columns": codes.shape[1]})


def score_tokens(
    model: int,
    tokens: Array,
    first: int,
    threads: int,
    kv_type: KvType = "f16",
    record: _LogitStore | None = None,
    reference: _LogitStore | None = None,
    columns: Array | None = None,
) -> _Scores:
    """Scores the predictions of the n tokens after position `first`, each from all tokens before it.

    `record` gets the logits and `reference` has those of another model: codes (n, vocabulary), which divide
    the range of a row into 65,535 steps, and factors (n, 4). `columns` has the reference's column of each
    token, if its vocabulary is larger."""
    ids = tokens_of(tokens)
    if not 0 <= first < ids.size:
        raise ValueError(f"first: expected 0 to {ids.size - 1}, got {first}")
    chosen = None if columns is None else tokens_of(columns)
    scores = np.empty(ids.size - 1 - first, _SCORE)
    check(
        lib.binhdan_tools_score_tokens(
            model,
            pointer(ids, "int32_t"),
            ids.size,
            first,
            threads,
            c_string(kv_type),
            _logit_store("record", record, True),
            _logit_store("reference", reference, False),
            pointer(chosen, "int32_t"),
            0 if chosen is None else chosen.size,
            pointer(scores, "binhdan_tools_score"),
        )
    )
    found: _Scores = {"nll": scores["nll"].copy(), "best": scores["best"].copy()}
    if reference is not None:
        found["kl"], found["kept"] = scores["kl"].copy(), scores["kept"].copy()
        found["same_best"] = scores["same_best"] != 0
    return found


def sample(
    logits: Floats, temperature: float = 0, top_k: int = 0, top_p: float = 1, min_p: float = 0, seed: int = 0
) -> int:
    """The first token that a request with these settings samples from `logits` (vocabulary,)."""
    expect_axes(logits, "logits", 1)
    values = floats(logits)
    token = ffi.new("int32_t *")
    check(
        lib.binhdan_tools_sample(pointer(values), values.size, temperature, top_k, top_p, min_p, seed, token)
    )
    return int(token[0])
