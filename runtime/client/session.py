"""Conversations that can be kept on disk with their keys and values."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from binhdan.runtime.errors import BadFormatError, BinhdanError, InvalidArgumentError
from binhdan.runtime.prompting.chat import AnyMessage
from binhdan.runtime.results import Answer, Piece

if TYPE_CHECKING:
    from binhdan.runtime.client.adapter import Adapter
    from binhdan.runtime.client.answers import ChatSettings
    from binhdan.runtime.client.base import PathLike
    from binhdan.runtime.client.model import Model

_VERSION = 1  # of the note in a session file


class Session:
    """A conversation with a model. After `save`, another process continues it with `Model.load_session`,
    without computing it again.

        session = model.session(system="Trả lời ngắn.")
        print(session.ask("Huế ở đâu?"))
        session.save("huế.session")

    `messages` are the turns so far; they may be changed. Use a session in one thread at a time.
    """

    def __init__(
        self, model: Model, messages: Sequence[AnyMessage] = (), adapter: Adapter | None = None
    ) -> None:
        self.model = model
        self.adapter = adapter
        self.messages: list[dict[str, Any]] = [dict(message) for message in messages]
        self._tokens: list[int] = []  # of the last prompt and its answer

    def ask(self, text: str, **settings: Unpack[ChatSettings]) -> Answer:
        """The answer to the next message of the user. An error leaves the conversation unchanged."""
        *_, answer = self._turn(text, settings)
        assert isinstance(answer, Answer)
        return answer

    def stream(self, text: str, **settings: Unpack[ChatSettings]) -> Iterator[Piece]:
        """`ask` in pieces. If the loop is left early, the conversation is unchanged."""
        for part in self._turn(text, settings):
            if isinstance(part, Piece):
                yield part

    def save(self, path: PathLike) -> None:
        """Writes the conversation, and its keys and values as far as the prefix cache holds them, to a file.

        The file appears whole or not at all. It reveals the texts. Raises FileReadError, for example when the
        disk is full.
        """
        tokens = self._tokens or self.model.chat_tokens(self.messages or [{"role": "user", "content": ""}])
        note = {"version": _VERSION, "messages": self.messages, "tokens": tokens}
        library, engine = self.model.native_handles()
        library.save_session(engine, os.fspath(path), tokens, json.dumps(note).encode(), _salt(self.adapter))

    @classmethod
    def load(cls, model: Model, path: PathLike, adapter: Adapter | None = None) -> Session:
        """Model.load_session."""
        library, engine = model.native_handles()
        try:
            note = json.loads(library.load_session(engine, os.fspath(path), _salt(adapter)))
            session = cls(model, note["messages"], adapter)
            session._tokens = [int(token) for token in note["tokens"]]
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, BinhdanError):
                raise
            raise BadFormatError(
                f"{os.fspath(path)} is not a session that Session.save has written"
            ) from error
        return session

    def _turn(self, text: str, settings: ChatSettings) -> Iterator[Any]:
        """The pieces of the answer, then the answer."""
        messages = [*self.messages, {"role": "user", "content": text}]
        if settings.get("adapter") not in (None, self.adapter):
            raise InvalidArgumentError(
                "adapter: a session has one adapter for all turns; pass it to model.session()",
                param="adapter",
            )
        if self.adapter is not None:
            settings = {**settings, "adapter": self.adapter}
        with self.model.chat(messages, stream=True, **settings) as stream:
            yield from stream
            answer = stream.answer()
        self.messages = [*messages, answer.message()]
        self._tokens = [*stream.prompt_tokens, *answer.tokens]
        yield answer


def _salt(adapter: Adapter | None) -> int:
    """What separates the keys and values of this adapter from others in the prefix cache."""
    return 0 if adapter is None else adapter.cache_salt
