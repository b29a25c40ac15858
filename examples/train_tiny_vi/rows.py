"""Packs items of different lengths into rows of one length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Item = tuple[NDArray[np.uint16], int]  # tokens, and the number of leading tokens without loss


def fill_rows(
    items: list[Item], width: int, window: int = 32
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Returns tokens (rows, width) and loss mask (rows, width); best fit among the next `window` items."""
    tokens: list[NDArray[np.uint16]] = []
    masks: list[NDArray[np.uint8]] = []
    ahead: list[Item] = []
    source = iter(items)
    row, mask, at = np.zeros(width, np.uint16), np.zeros(width, np.uint8), 0
    while True:
        while len(ahead) < window and (item := next(source, None)) is not None:
            ahead.append(item)
        fitting = [i for i, item in enumerate(ahead) if len(item[0]) <= width - at]
        if fitting:
            # An empty row takes the oldest item, so the order stays nearly random.
            i = max(fitting, key=lambda i: len(ahead[i][0])) if at else fitting[0]
            ids, skip = ahead.pop(i)
            row[at : at + len(ids)] = ids
            mask[at + max(skip, 1) : at + len(ids)] = 1  # the first token of an item has no context
            at += len(ids)
            if at < width:
                continue
        if at:
            tokens.append(row)
            masks.append(mask)
            row, mask, at = np.zeros(width, np.uint16), np.zeros(width, np.uint8), 0
        elif not ahead:
            return np.array(tokens), np.array(masks)
