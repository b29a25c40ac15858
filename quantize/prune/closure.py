"""Which tokens a tokenizer needs to produce other tokens.

The argument for exactness. A BPE encoder executes, at each step, the merge of lowest cost that is possible.
If the tokens of all merges that it executes on a text are kept, then these merges stay possible, and no merge
is added; so it executes the same merges, and the tokens of the text stay the same. The merges inside of a
token do not depend on the text around it: a merge across its border is never executed. So the merges that
build a token from its own text are those that build it in any text. For Unigram and WordPiece a token needs
no other token: the best path, or the longest match, stays possible.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from binhdan.quantize.prune.vocabulary import VocabularyView

Cost = Callable[[str, str], float | None]


def with_parts(vocabulary: VocabularyView, used: Iterable[int]) -> set[int]:
    """Returns ``used`` and the tokens through which the encoder builds them."""
    kept = set(used)
    cost = _cost(vocabulary)
    if cost is None:
        return kept
    index = vocabulary.index
    for token in tuple(kept):
        if vocabulary.is_text(token):
            kept.update(index[part] for part in build(vocabulary.tokens[token], cost) if part in index)
    return kept


def build(text: str, cost: Cost) -> list[str]:
    """The characters of ``text`` and the results of the merges that BPE executes on them, in order."""
    parts = list(text)
    seen = list(parts)
    while len(parts) > 1:
        best: float | None = None
        at = 0
        for i in range(len(parts) - 1):
            found = cost(parts[i], parts[i + 1])
            if found is not None and (best is None or found < best):
                best, at = found, i
        if best is None:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        seen.append(parts[at])
    return seen


def _cost(vocabulary: VocabularyView) -> Cost | None:
    """The cost of merging two parts, None where they do not merge; None if the encoder does not merge."""
    if vocabulary.merges:
        ranks: dict[tuple[str, str], float] = {}
        for rank, (left, right) in enumerate(vocabulary.merges):
            token = vocabulary.index.get(left + right)
            if token is not None and vocabulary.is_text(token):
                ranks.setdefault((left, right), rank)
        return lambda left, right: ranks.get((left, right))
    if vocabulary.model == "llama":
        scores = {
            text: -vocabulary.scores[token]
            for text, token in vocabulary.index.items()
            if vocabulary.is_text(token)
        }
        return lambda left, right: scores.get(left + right)
    return None
