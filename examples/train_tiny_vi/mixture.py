"""The training mixture: turns documents into plain text and examples of tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from random import Random

from train_tiny_vi.config import Mixture
from train_tiny_vi.corpus import Document
from train_tiny_vi.tasks.about import about, about_given, about_unknown
from train_tiny_vi.tasks.example import Example
from train_tiny_vi.tasks.extract import extract_json
from train_tiny_vi.tasks.restore import restore
from train_tiny_vi.tasks.rewrite import rewrite
from train_tiny_vi.tasks.spelling import fix_spelling
from train_tiny_vi.tasks.talk import talk
from train_tiny_vi.tasks.teencode import expand_teencode
from train_tiny_vi.tasks.titles import title_paragraphs
from train_tiny_vi.tasks.words import Lexicon, restore_spaces, segment_words
from train_tiny_vi.text import segments

_SINGLE_LINES = {"common-voice", "everyday-sentences", "software-ui", "public-information", "game-text"}


def examples(
    documents: Collection[Document], mixture: Mixture, longest: int, share: float, seed: int
) -> Iterator[str | Example]:
    """Yields plain documents and examples of tasks, from one pass over `share` of the documents, in order.

    `mixture.registers` multiplies the share of a source; above 1, a document is read several times.

    The stream depends on the arguments only. Raises ValueError for an unknown task in `mixture.segments`.
    """
    titles = {document.title.lower() for document in documents if document.title}
    lexicon = Lexicon.mine(document.text for document in documents)
    makers: dict[str, Callable[[Random, str], Example | None]] = {
        "restore": restore,
        "spelling": fix_spelling,
        "teencode": expand_teencode,
        "extract": extract_json,
        "words": lambda rng, text: segment_words(rng, text, lexicon),
        "spaces": restore_spaces,
        "rewrite": rewrite,
    }
    names, weights = list(mixture.segments), list(mixture.segments.values())
    if unknown := set(names) - makers.keys():
        raise ValueError(f"mixture.segments: expected {', '.join(makers)}; got {', '.join(sorted(unknown))}")
    for number, document in enumerate(documents):
        rng = Random(f"{seed} {number}")
        for _ in range(_times(rng, share * mixture.registers.get(document.source, 1.0))):
            yield from _article_examples(rng, document, titles, mixture)
            if rng.random() < mixture.plain:
                yield document.text
                continue
            for text in _paragraph_groups(document):
                for segment in segments(text, rng, longest=longest):
                    for name in rng.choices(names, weights):
                        # Use `restore` if the text is not suitable for the task.
                        if example := makers[name](rng, segment) or restore(rng, segment):
                            yield example


def _times(rng: Random, rate: float) -> int:
    return int(rate) + (rng.random() < rate % 1)


def _paragraph_groups(document: Document) -> Iterator[str]:
    """Yields long paragraphs, and groups of short ones (verses, single sentences)."""
    run = ""
    for line in document.paragraphs:
        if len(line) >= 80:
            yield line
            continue
        run = f"{run}\n{line}" if run else line
        if len(run) > 120 or document.source in _SINGLE_LINES:
            yield run
            run = ""
    if run:
        yield run


def _article_examples(
    rng: Random, document: Document, titles: Collection[str], mixture: Mixture
) -> Iterator[Example]:
    makers: tuple[tuple[float, Callable[[], Example | None]], ...] = (
        (mixture.about, lambda: about(rng, document)),
        (mixture.about_given, lambda: about_given(rng, document)),
        (mixture.about_unknown, lambda: about_unknown(rng, document, titles)),
        (mixture.talk, lambda: talk(rng)),
    )
    for rate, make in makers:
        for _ in range(_times(rng, rate)):
            if example := make():
                yield example
    for example in title_paragraphs(rng, document):
        if rng.random() < mixture.titles:
            yield example
