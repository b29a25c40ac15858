"""Writes the n-gram file. csrc/text/restore/model.h describes the format."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train_restorer.ngrams import BITS, Order
from train_restorer.syllables import write
from train_restorer.tokens import FIRST_FORM

MAGIC, VERSION, MAX_ORDER = b"BDNGRAM\n", 1, 4
SCORE_UNIT = 512  # units of a score per nat
_HEADER = struct.Struct("<8sIIQQIIIi")
_ORDER = struct.Struct("<IIII")
_CHECKED_FROM = 32  # the checksum covers the bytes after itself
_BUCKETS_PER_BASE = 64
_ENTRIES_PER_BUCKET = 6


@dataclass(frozen=True)
class Bits:
    """Bits of an entry: the fingerprint of its key, the codes of its probability and of its backoff."""

    fingerprint: int
    p: int
    backoff: int


def scores(values: NDArray[np.floating]) -> NDArray[np.int16]:
    return np.clip(np.round(np.log(np.maximum(values, 1e-20)) * SCORE_UNIT), -32000, 32000).astype(np.int16)


def codebook(values: NDArray[np.float64], bits: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """2^bits means of equally many values each, in order, and the code of each value."""
    size = 1 << bits
    ordered = np.sort(values)
    parts = np.array_split(ordered, size) if len(ordered) else []
    centers = np.array([part.mean() if len(part) else 0.0 for part in parts] + [0.0] * (size - len(parts)))
    for i in range(1, size):  # fewer values than codes: repeat, so that the book stays in order
        centers[i] = max(centers[i], centers[i - 1]) if i < len(parts) and len(parts[i]) else centers[i - 1]
    edges = (centers[1:] + centers[:-1]) / 2
    return centers, np.searchsorted(edges, values)


def hash_keys(keys: NDArray[np.int64]) -> NDArray[np.uint64]:
    x = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x ^= x >> np.uint64(32)
    x *= np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


def _pack(values: NDArray[np.uint64], width: int) -> bytes:
    bits = (values[:, None] >> np.arange(width, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes() + bytes(8)


def _table(order: Order, bits: Bits) -> tuple[bytes, list[bytes]]:
    """The record of an order in the header, and its sections."""
    hashed = hash_keys(order.keys)
    buckets = max(1, len(hashed) // _ENTRIES_PER_BUCKET)
    bucket = (hashed >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)
    by_bucket = np.argsort(bucket, kind="stable")
    log_p, log_backoff = np.log(order.p), np.log(order.backoff)
    p_book, p_codes = codebook(log_p, bits.p)
    # Code 0 of the backoff is 0: no longer n-gram starts with this one.
    inner = order.backoff != 1.0
    backoff_book, backoff_codes = np.zeros(1), np.zeros(len(hashed), np.int64)
    if bits.backoff:
        rest, codes = codebook(log_backoff[inner], bits.backoff)
        rest = rest[:-1]  # one code less
        codes = np.searchsorted((rest[1:] + rest[:-1]) / 2, log_backoff[inner])
        backoff_book, backoff_codes[inner] = np.concatenate([[0.0], rest]), codes + 1
    entries = hashed & np.uint64((1 << bits.fingerprint) - 1)
    entries |= p_codes.astype(np.uint64) << np.uint64(bits.fingerprint)
    entries |= backoff_codes.astype(np.uint64) << np.uint64(bits.fingerprint + bits.p)
    starts = np.searchsorted(bucket[by_bucket], np.arange(buckets + 1, dtype=np.uint64)).astype(np.int64)
    bases = starts[::_BUCKETS_PER_BASE]
    width = bits.fingerprint + bits.p + bits.backoff
    record = _ORDER.pack(len(hashed), buckets, bits.fingerprint | bits.p << 8 | bits.backoff << 16, 0)
    to_scores = [np.round(book * SCORE_UNIT).astype("<i2").tobytes() for book in (p_book, backoff_book)]
    relative = starts - np.repeat(bases, _BUCKETS_PER_BASE)[: buckets + 1]
    sections = [*to_scores, bases.astype("<u4").tobytes(), relative.astype("<u2").tobytes()]
    return record, [*sections, _pack(entries[by_bucket], width)]


def checksum(data: bytes) -> int:
    words = np.frombuffer(data, "<u8")
    odd = 2 * np.arange(len(words), dtype=np.uint64) + np.uint64(1)
    return int((words * odd * np.uint64(0x9E3779B97F4A7C15)).sum(dtype=np.uint64))


def build(
    orders: list[Order],
    forms: list[tuple[str, int]],
    capital: NDArray[np.float64],
    bits: list[Bits],
    other_penalty: float,
    card: dict[str, Any],
) -> bytes:
    """The bytes of the file.

    forms: sorted by bare letters. capital: factor of the probability of a form with a capital inside a
    sentence.
    """
    count = FIRST_FORM + len(forms)
    if count > 1 << BITS or not 2 <= len(orders) <= MAX_ORDER:
        raise ValueError(
            f"expected at most {1 << BITS} ids and order 2 to {MAX_ORDER}, got {count}, {len(orders)}"
        )
    unigram_p, unigram_backoff = np.full(count, 1e-9), np.ones(count)
    unigram_p[orders[0].keys], unigram_backoff[orders[0].keys] = orders[0].p, orders[0].backoff
    text = "".join(f"{write(*form)}\n" for form in forms).encode()
    described = json.dumps(card, ensure_ascii=False, indent=1).encode()
    sections = [described, text, *(scores(v).tobytes() for v in (capital, unigram_p, unigram_backoff))]
    records = [_ORDER.pack(0, 0, 0, 0)] * (MAX_ORDER - 1)
    for n, (order, widths) in enumerate(zip(orders[1:], bits, strict=True)):
        records[n], added = _table(order, widths)
        sections += added
    body = b"".join(records) + b"".join(part + bytes(-len(part) % 8) for part in sections)
    size = _HEADER.size + len(body)
    penalty = round(other_penalty * SCORE_UNIT)
    tail = (len(forms), len(text), len(described), penalty)
    head = _HEADER.pack(MAGIC, VERSION, len(orders), size, 0, *tail)
    data = head + body
    return head[:24] + struct.pack("<Q", checksum(data[_CHECKED_FROM:])) + data[_CHECKED_FROM:]
