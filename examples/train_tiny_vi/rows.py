"""Items of all lengths → rows of one length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Item = tuple[NDArray[np.uint16], int]  # tokens, and how many of them come before what is to be learnt


def fill_rows(
    items: list[Item], width: int, window: int = 32
) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Rows of `width` tokens. Of the next `window` items the longest that fits is taken."""
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
            # An empty row takes what has waited longest, so that order stays nearly as shuffled.
            i = max(fitting, key=lambda i: len(ahead[i][0])) if at else fitting[0]
            ids, skip = ahead.pop(i)
            row[at : at + len(ids)] = ids
            mask[at + max(skip, 1) : at + len(ids)] = 1  # nothing says what an item begins with
            at += len(ids)
            if at < width:
                continue
        if at:
            tokens.append(row)
            masks.append(mask)
            row, mask, at = np.zeros(width, np.uint16), np.zeros(width, np.uint8), 0
        elif not ahead:
            return np.array(tokens), np.array(masks)
