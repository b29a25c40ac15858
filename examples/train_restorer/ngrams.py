"""Interpolated Kneser-Ney (Chen and Goodman 1998), then pruning by the loss of likelihood (Stolcke 1998).

A key of an n-gram has 14 bits per id, the last word lowest. END is only the first or last word of an n-gram.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BITS = 14
_MIN_P = 1e-7
_MIN_DOUBT = 0.1

Keys = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass
class Order:
    """N-grams of one order. p: of the last word. backoff: factor of the lower order after this n-gram."""

    keys: Keys
    p: Values
    backoff: Values


def low_words(keys: Keys, n: int) -> Keys:
    """The last n words of each key."""
    return keys & ((1 << (BITS * n)) - 1)


def sum_equal(keys: Keys, values: NDArray[np.floating]) -> tuple[Keys, Values]:
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(values, starts)


def find(sorted_keys: Keys, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The index of each key, and whether it is there."""
    index = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return index, sorted_keys[index] == keys


def count(ids: NDArray[np.int64], weights: NDArray[np.float32], order: int) -> list[tuple[Keys, Values]]:
    """Weighted counts of n-grams, n = 1 to order."""
    counts = []
    for n in range(1, order + 1):
        size = len(ids) - n + 1
        keys, valid = np.zeros(size, np.int64), np.ones(size, bool)
        for j in range(n):
            words = ids[j : j + size]
            keys = keys << BITS | words
            if 0 < j < n - 1:
                valid &= words != 0
        counts.append(sum_equal(keys[valid], weights[n - 1 :][valid]))
    return counts


def _adjusted(counts: list[tuple[Keys, Values]], n: int) -> tuple[Keys, Values]:
    """Kneser-Ney's counts: how many words precede an n-gram. One that starts a sentence has its own count."""
    if n == len(counts):
        return counts[n - 1]
    keys, values = counts[n]
    keys, values = low_words(keys, n), np.minimum(values, 1.0)
    if n > 1:
        own_keys, own = counts[n - 1]
        starts = own_keys >> (BITS * (n - 1)) == 0
        keys, values = np.concatenate([keys, own_keys[starts]]), np.concatenate([values, own[starts]])
    return sum_equal(keys, values)


def estimate(counts: list[tuple[Keys, Values]], discounts: list[list[float]]) -> list[Order]:
    """discounts[n - 2]: of counts 1, 2 and more of order n; linear between, since counts are weighted."""
    keys, values = _adjusted(counts, 1)
    p = np.maximum(values - 0.5, 0.02) / values.sum()
    orders = [Order(keys, p + (1 - p.sum()) / len(p), np.ones(len(p)))]
    for n in range(2, len(counts) + 1):
        keys, values = _adjusted(counts, n)
        points = [0.0, *discounts[n - 2]]
        discounted = np.maximum(values - np.interp(values, [0.0, 1.0, 2.0, 3.0], points), 0)
        contexts = keys >> BITS
        starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
        lengths = np.diff(np.concatenate([starts, [len(keys)]]))
        total = np.add.reduceat(values, starts)
        left = 1 - np.add.reduceat(discounted, starts) / total
        lower = orders[-1]
        index, found = find(lower.keys, low_words(keys, n - 1))
        assert found.all()
        p = discounted / np.repeat(total, lengths) + np.repeat(left, lengths) * lower.p[index]
        index, found = find(lower.keys, contexts[starts])
        assert found.all()
        lower.backoff[index] = left
        orders.append(Order(keys, p, np.ones(len(p))))
    return orders


def forms_given_letters(keys: Keys, values: Values, n: int, letters: Keys) -> Values:
    """The share of each n-gram among those with the same bare letters. letters: a number per id."""
    bare = np.zeros_like(keys)
    for j in range(n):
        bare |= letters[keys >> (BITS * j) & ((1 << BITS) - 1)] << (BITS * j)
    sums_keys, sums = sum_equal(bare, values)
    return values / sums[find(sums_keys, bare)[0]]


def prune(
    orders: list[Order], counts: list[tuple[Keys, Values]], sizes: list[int], letters: Keys
) -> list[Order]:
    """Keeps about sizes[n - 2] n-grams of order n.

    These are the n-grams without which the text would lose the most likelihood, and those that a kept longer
    n-gram starts or ends with. The loss weighs less where the bare letters of the two shorter n-grams leave
    no doubt about the forms: a longer one cannot change the result there.
    """
    needed: Keys = np.zeros(0, np.int64)
    kept: list[NDArray[np.bool_]] = []
    shares = [forms_given_letters(*counts[n - 1], n, letters) for n in range(1, len(orders))]
    for n in range(len(orders), 1, -1):
        order, lower = orders[n - 1], orders[n - 2]
        index, _ = find(lower.keys, low_words(order.keys, n - 1))
        context, _ = find(lower.keys, order.keys >> BITS)
        raw, _ = find(counts[n - 1][0], order.keys)
        loss = np.log(order.p) - np.log(lower.backoff[context] * lower.p[index])
        loss = np.abs(loss) * (counts[n - 1][1][raw] - 0.7)
        begin, _ = find(counts[n - 2][0], order.keys >> BITS)
        end, _ = find(counts[n - 2][0], low_words(order.keys, n - 1))
        loss *= 1 + _MIN_DOUBT - shares[n - 2][begin] * shares[n - 2][end]
        required = np.isin(order.keys, needed)
        loss[required] = np.inf
        size = sizes[n - 2]
        limit = np.partition(loss, len(loss) - size)[len(loss) - size] if size < len(loss) else -np.inf
        kept.append((loss >= limit) | required)
        keys = order.keys[kept[-1]]
        needed = np.unique(np.concatenate([keys >> BITS, low_words(keys, n - 1)]))
    pruned = [Order(orders[0].keys, orders[0].p, np.ones(len(orders[0].keys)))]
    for order, mask in zip(orders[1:], reversed(kept), strict=True):
        _set_backoff(pruned, order.keys[mask], order.p[mask])
        pruned.append(Order(order.keys[mask], order.p[mask], np.ones(int(mask.sum()))))
    return pruned


def _set_backoff(orders: list[Order], keys: Keys, p: Values) -> None:
    """What the kept n-grams leave of a context's probability, over what they leave of the lower order's."""
    n = len(orders) + 1
    low = probability(orders, low_words(keys, n - 1), n - 1)
    contexts = keys >> BITS
    starts = np.flatnonzero(np.concatenate([[True], contexts[1:] != contexts[:-1]]))
    left = np.maximum(1 - np.add.reduceat(p, starts), 1e-4)
    left_low = np.maximum(1 - np.add.reduceat(low, starts), 1e-4)
    index, _ = find(orders[-1].keys, contexts[starts])
    orders[-1].backoff[index] = left / left_low


def probability(orders: list[Order], keys: Keys, n: int) -> Values:
    """The probability of the last word of each n-gram after the words before it."""
    index, found = find(orders[n - 1].keys, keys)
    p = np.where(found, orders[n - 1].p[index], _MIN_P)
    if n > 1 and not found.all():
        missing = keys[~found]
        context, known = find(orders[n - 2].keys, missing >> BITS)
        backoff = np.where(known, orders[n - 2].backoff[context], 1.0)
        p[~found] = probability(orders, low_words(missing, n - 1), n - 1) * backoff
    return p
