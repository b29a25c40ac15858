"""Embeddings and scores of texts, by a loaded model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack, overload

from binhdan.runtime.client.base import ModelBase
from binhdan.runtime.client.embedding import MakePrompt, NameText, Vector, async_embeddings, embeddings
from binhdan.runtime.errors import InvalidArgumentError
from binhdan.runtime.options import EmbeddingOptions, Pooling
from binhdan.runtime.prompting.tokenizer import Prompt


class EmbeddingSettings(TypedDict, total=False):
    """Keyword arguments of embed, aembed and embed_each."""

    prefix: str  # precedes each text, such as "query: " or "passage: " for e5 models
    truncate: bool  # cut a text that the context cannot hold; False: TooLargeError
    dimensions: int | None  # keep the first values; for models that were trained for it (Matryoshka)
    normalize: bool  # scale to length 1, the default
    pooling: Pooling | None  # instead of the one that the model file specifies


def _text_name(position: int) -> str:
    return f"text {position + 1}"


class Embedder(ModelBase):
    """The methods that compute embeddings and rerank."""

    @overload
    def embed(self, text: str, **settings: Unpack[EmbeddingSettings]) -> list[float]: ...
    @overload
    def embed(
        self, text: list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[list[float]]: ...
    def embed(
        self, text: str | list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[float] | list[list[float]]:
        """The embedding of a text, or of each of several texts, which share batches.

        It is made of the final hidden states as the model file specifies (mean, first or last token), and
        scaled to length 1. Raises TooLargeError for a text that the context cannot hold, InvalidArgumentError
        for more dimensions than the model has, and for a reranker.
        """
        options, make_prompt = self._embedding(settings)
        if isinstance(text, str):
            return next(self._embeddings([partial(make_prompt, text)], options, None)).tolist()
        prompts = (partial(make_prompt, one) for one in text)
        return [vector.tolist() for vector in self._embeddings(prompts, options)]

    def embed_each(
        self,
        texts: Iterable[str],
        *,
        name: NameText = _text_name,
        **settings: Unpack[EmbeddingSettings],
    ) -> Iterator[Vector[float]]:
        """`embed` for any number of texts: reads a few texts ahead, and returns arrays of type "f" in order.

        `name` maps the position of a text to its name in error messages.
        """
        options, make_prompt = self._embedding(settings)
        return self._embeddings((partial(make_prompt, text) for text in texts), options, name)

    @overload
    async def aembed(self, text: str, **settings: Unpack[EmbeddingSettings]) -> list[float]: ...
    @overload
    async def aembed(
        self, text: list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[list[float]]: ...
    async def aembed(
        self, text: str | list[str] | tuple[str, ...], **settings: Unpack[EmbeddingSettings]
    ) -> list[float] | list[list[float]]:
        """`embed` for asyncio."""
        options, make_prompt = self._embedding(settings)
        single = isinstance(text, str)
        prompts = [partial(make_prompt, one) for one in ([text] if isinstance(text, str) else text)]
        name = None if single else _text_name
        each = async_embeddings(self._library, self._engine, prompts, options, name)
        vectors = [vector.tolist() async for vector in each]
        return vectors[0] if single else vectors

    def rerank(self, query: str, documents: Sequence[str], *, truncate: bool = False) -> list[float]:
        """How well each document answers the query: scores of a reranker from 0 to 1, higher is better.

        `truncate` cuts documents that the context cannot hold. Raises TooLargeError, and InvalidArgumentError
        for a model that is not a reranker.
        """
        self.check_reranker()
        prompts = (
            partial(self.tokenizer.pair_prompt, query, document, truncate=truncate) for document in documents
        )
        return [vector[0] for vector in self._embeddings(prompts, EmbeddingOptions(pooling="rank"))]

    def check_reranker(self) -> None:
        """Raises InvalidArgumentError if this model is not a reranker."""
        if self.info.pooling != "rank":
            raise InvalidArgumentError(
                f"this model is not a reranker: its file specifies pooling {self.info.pooling}, and rerank "
                "needs rank; use a reranker such as bge-reranker-v2-m3",
                param="model",
            )

    def check_embedder(self, pooling: Pooling | None = None) -> None:
        """Raises InvalidArgumentError if this model is a reranker, unless `pooling` chooses an embedding."""
        if self.info.pooling == "rank" and pooling in (None, "rank"):
            raise InvalidArgumentError(
                "this model is a reranker, which scores a query and a document; use rerank", param="model"
            )

    # ---- internals ---------------------------------------------------------------------------------------

    def _embedding(self, settings: EmbeddingSettings) -> tuple[EmbeddingOptions, Callable[[str], Prompt]]:
        """The options of embeddings, and the function that makes the prompt of a text."""
        changes: dict[str, Any] = {**settings}
        prefix, truncate = changes.pop("prefix", ""), changes.pop("truncate", False)
        options = EmbeddingOptions(**changes)
        self.check_embedder(options.pooling)
        return options, lambda text: self.tokenizer.embedding_prompt(prefix + text, truncate=truncate)

    def _embeddings(
        self, prompts: Iterable[MakePrompt], options: EmbeddingOptions, name: NameText = _text_name
    ) -> Iterator[Vector[float]]:
        return embeddings(self._library, self._engine, prompts, options, name)
