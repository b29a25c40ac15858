"""The models that the server knows by name: loaded when asked for, unloaded when idle or for others' sake."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from binhdan.runtime.client.model import Model, find_model
from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.options import LoadOptions
from binhdan.runtime.server.http.errors import ApiError
from binhdan.runtime.server.models.dispatcher import Dispatcher
from binhdan.runtime.structured.constraints import Constraints
from binhdan.runtime.structured.grammar_trial import GrammarTrial

_log = logging.getLogger("binhdan.server")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from: a path, an id that was pulled, or None for the embedded model."""

    path_or_id: str | None
    options: LoadOptions

    def least_bytes(self) -> int:
        """What it will hold at least. Raises ModelNotFoundError."""
        return find_model(self.path_or_id).stat().st_size

    def load(self) -> Model:
        model = Model(find_model(self.path_or_id), self.options)
        with suppress(BinhdanError):  # a broken template is told to who uses it; a good one is compiled here
            model.tokenizer.chat_prompt([{"role": "user", "content": "xin chào"}])
        return model


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory with its connection to the event loop."""

    name: str
    model: Model
    dispatcher: Dispatcher
    constraints: Constraints

    @property
    def bytes(self) -> int:
        """What it holds at most: weights, keys and values."""
        return _bytes(self.model)


def _bytes(model: Model) -> int:
    return model.info.weight_bytes + model.load_report()["max_kv_bytes"]


@dataclass(slots=True)
class _Slot:
    source: Source
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    loaded: LoadedModel | None = None
    users: int = 0
    last_use: float = 0.0


class ModelPool:
    """Belongs to one event loop. The first of `sources`, by name, is the default.

    `most_bytes` is what all loaded models may hold together, weights with their keys and values; None: any.
    `idle_seconds`: a model that nobody used for so long is unloaded; None: never.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        most_bytes: int | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        self._slots = {name: _Slot(source) for name, source in sources.items()}
        self._most_bytes = most_bytes
        self._idle_seconds = idle_seconds
        self._room = asyncio.Lock()  # one model is loaded at a time
        self._sweeper: asyncio.Task[None] | None = None
        self._trial = GrammarTrial()
        self.created = int(time.time())
        self.ready = False  # the default model has been loaded once
        self.failed: ApiError | None = None  # why it could not be loaded
        self.draining = False  # no new requests

    @property
    def names(self) -> list[str]:
        return list(self._slots)

    @property
    def default(self) -> str:
        return next(iter(self._slots))

    def loaded(self) -> list[LoadedModel]:
        """The models in memory now."""
        return [slot.loaded for slot in self._slots.values() if slot.loaded is not None]

    async def start(self) -> None:
        """Loads the default model. Raises what its loader raises."""
        async with self.use(self.default):
            self.ready = True
        if self._idle_seconds is not None:
            self._sweeper = asyncio.create_task(self._sweep(self._idle_seconds))

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[LoadedModel]:
        """A model for as long as the context lasts; None or "" is the default.

        Raises ApiError: 404 for a name there is none of, 503 when there is no room, or while closing.
        """
        slot = self._slots.get(name or self.default)
        if slot is None:
            known = ", ".join(self._slots)
            raise ApiError(
                404, f"there is no such model here; there is: {known}", code="model_not_found", param="model"
            )
        if self.draining:
            raise ApiError(503, "the server is shutting down", type="server_error", code="shutting_down")
        slot.users += 1
        try:
            async with slot.lock:
                if slot.loaded is None:
                    slot.loaded = await self._load(name or self.default, slot)
            yield slot.loaded
        finally:
            slot.users -= 1
            slot.last_use = time.monotonic()

    async def close(self) -> None:
        """Ends what runs and gives all memory back."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for slot in self._slots.values():
            async with slot.lock:
                await self._unload(slot)
        await asyncio.to_thread(self._trial.close)

    async def _load(self, name: str, slot: _Slot) -> LoadedModel:
        async with self._room:
            start = time.monotonic()
            try:
                await self._make_room(await asyncio.to_thread(slot.source.least_bytes))
                model = await asyncio.to_thread(slot.source.load)
            except (BinhdanError, OSError) as error:
                _log.error("model not loaded", extra={"model": name, "reason": type(error).__name__})
                raise ApiError(
                    503, "this model could not be loaded", type="server_error", code="not_loaded"
                ) from error
            try:
                await self._make_room(_bytes(model))
                constraints = Constraints(model, self._trial)
                await asyncio.to_thread(constraints.prepare)
                loaded = LoadedModel(name, model, Dispatcher(model), constraints)
            except BaseException:
                await asyncio.to_thread(model.close)
                raise
            _log.info("model loaded", extra={"model": name, "seconds": round(time.monotonic() - start, 3)})
            return loaded

    async def _make_room(self, newcomer: int) -> None:
        """Unloads models that nobody uses, the longest unused first, until `newcomer` bytes fit."""
        if self._most_bytes is None:
            return
        while sum(loaded.bytes for loaded in self.loaded()) + newcomer > self._most_bytes:
            idle = [slot for slot in self._slots.values() if slot.loaded is not None and not slot.users]
            if not idle:
                raise ApiError(
                    503,
                    "there is no room for this model beside those in use; try again later",
                    type="server_error",
                    code="no_room",
                    headers={"Retry-After": "5"},
                )
            await self._unload(min(idle, key=lambda slot: slot.last_use))

    async def _unload(self, slot: _Slot) -> None:
        loaded, slot.loaded = slot.loaded, None
        if loaded is None:
            return
        loaded.dispatcher.close()
        await asyncio.to_thread(loaded.model.close)
        _log.info("model unloaded", extra={"model": loaded.name})

    async def _sweep(self, idle_seconds: float) -> None:
        while True:
            await asyncio.sleep(min(1.0, idle_seconds / 4))
            for slot in self._slots.values():
                late = time.monotonic() - slot.last_use >= idle_seconds
                if slot.loaded is not None and not slot.users and late and not slot.lock.locked():
                    async with slot.lock:
                        if not slot.users:
                            await self._unload(slot)
