"""The pool of models: loads a model for its first request, unloads it when it is idle or memory is needed."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from binhdan.runtime.client import hub
from binhdan.runtime.client.adapter import Adapter
from binhdan.runtime.client.model import Model, find_model
from binhdan.runtime.errors import BadFormatError, BinhdanError, UnsupportedError
from binhdan.runtime.ffi import library
from binhdan.runtime.options import LoadOptions
from binhdan.runtime.server.errors import (
    ApiError,
    ShuttingDownError,
    quoted,
    shutting_down,
    without_paths,
)
from binhdan.runtime.server.models.dispatcher import Dispatcher
from binhdan.runtime.structured.constraints import Constraints
from binhdan.runtime.structured.grammar_trial import GrammarTrial

_log = logging.getLogger("binhdan.server")
# A load that failed is tried again after this time, or when the file has changed.
_RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a model: a path, the id of a pulled model, or None for the embedded model."""

    path_or_id: str | None
    options: LoadOptions

    def min_bytes(self) -> int:
        """A lower bound of its memory: the size of its file. Raises ModelNotFoundError."""
        return find_model(self.path_or_id).stat().st_size

    def paths(self) -> list[str]:
        """The paths of its file that an error message may contain."""
        known = [self.path_or_id] if self.path_or_id and not hub.is_id(self.path_or_id) else []
        with suppress(BinhdanError, OSError):
            known.append(str(find_model(self.path_or_id)))
        return known

    def fingerprint(self) -> tuple[int, int] | None:
        """Size and time of its file; None if there is none."""
        with suppress(BinhdanError, OSError):
            found = find_model(self.path_or_id).stat()
            return found.st_size, found.st_mtime_ns
        return None

    def load(self) -> Model:
        model = Model(find_model(self.path_or_id), self.options)
        # Compiles the chat template. An invalid one is an error only for requests that use it.
        with suppress(BinhdanError):
            model.tokenizer.chat_prompt([{"role": "user", "content": "xin chào"}])
        return model


def check_models(sources: Iterable[str | None]) -> None:
    """Reads the headers of all models, so that a server does not start with one that it cannot load.

    Raises ModelNotFoundError, BadFormatError for a damaged file, UnsupportedError for one that this build
    cannot run.
    """
    for source in sources:
        path = find_model(source)
        facts = json.loads(library().inspect(str(path)))
        if facts["damaged"]:
            raise BadFormatError(facts["reason"])
        if not facts["supported"]:
            raise UnsupportedError(facts["reason"])


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory, and its dispatcher in the event loop."""

    name: str
    model: Model
    dispatcher: Dispatcher
    constraints: Constraints
    adapters: Mapping[str, Adapter] = field(default_factory=dict)  # by the names of the API

    def named(self, name: str) -> LoadedModel:
        """The same model under another name: an alias, or with an adapter."""
        if name == self.name:
            return self
        adapter = self.adapters.get(name)
        dispatcher = self.dispatcher if adapter is None else self.dispatcher.with_adapter(adapter)
        return replace(self, name=name, dispatcher=dispatcher)

    @property
    def bytes(self) -> int:
        """The maximum memory that it uses: weights, keys and values."""
        return _bytes(self.model) + sum(adapter.bytes for adapter in self.adapters.values())


def _bytes(model: Model) -> int:
    return model.info.weight_bytes + model.engine_info()["max_kv_bytes"]


@dataclass(frozen=True, slots=True)
class _Failure:
    """A load that failed."""

    reason: str
    fingerprint: tuple[int, int] | None  # of the file
    time: float

    def may_try_again(self, source: Source) -> bool:
        """True if the file has changed, or after some time, because memory may be free now."""
        return source.fingerprint() != self.fingerprint or time.monotonic() - self.time > _RETRY_SECONDS


def _not_loaded(reason: str) -> ApiError:
    return ApiError(
        503,
        f"the server could not load this model: {reason}",
        type="server_error",
        code="not_loaded",
        param="model",
    )


@dataclass(slots=True)
class _Slot:
    """The state of one model."""

    source: Source
    adapters: dict[str, str] = field(default_factory=dict)  # names of the API -> paths
    failure: _Failure | None = None  # of the last load
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    loaded: LoadedModel | None = None
    users: int = 0  # contexts of `use` that are open
    last_use: float = 0.0

    def load(self) -> tuple[Model, dict[str, Adapter]]:
        model = self.source.load()
        try:
            return model, {name: model.load_adapter(path) for name, path in self.adapters.items()}
        except BaseException:
            model.close()
            raise

    def paths(self) -> dict[str, str]:
        """The paths of files that an error message may contain, each with the name that clients see; "" for
        that of the model."""
        return dict.fromkeys(self.source.paths(), "") | {path: name for name, path in self.adapters.items()}


class ModelPool:
    """Use it from one event loop. `sources`: name -> source; the first one is the default model. `aliases`:
    name -> an earlier name of the same source, whose load it shares. `adapters`: "MODEL:NAME" -> the file of
    a LoRA adapter, which is loaded with its model.

    `max_bytes` limits the memory of all loaded models together, weights with keys and values; None: no limit.
    A model that is unused for `idle_seconds` is unloaded; None: never.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        *,
        aliases: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
        idle_seconds: float | None = None,
    ) -> None:
        self._slots: dict[str, _Slot] = {}
        for name, source in sources.items():
            other = (aliases or {}).get(name)
            self._slots[name] = _Slot(source) if other is None else self._slots[other]
        for name, path in (adapters or {}).items():
            slot = self._slots[name] = self._slots[name.rpartition(":")[0]]
            slot.adapters[name] = path
        self._max_bytes = max_bytes
        self._idle_seconds = idle_seconds
        self._loading = asyncio.Lock()  # one model loads at a time
        self._sweeper: asyncio.Task[None] | None = None
        self._trial = GrammarTrial()
        self.created = int(time.time())
        self.ready = False  # the default model has been loaded
        self.failed: ApiError | None = None  # the error of loading it
        self.draining = False  # refuse new requests

    @property
    def names(self) -> list[str]:
        return list(self._slots)

    def base(self, name: str) -> str:
        """The name of a model without that of its adapter."""
        return name.rpartition(":")[0] if name in self._slots[name].adapters else name

    @property
    def default(self) -> str:
        return next(iter(self._slots))

    def unknown(self, name: str) -> ApiError:
        """The error for a model that this server does not have."""
        message = f"model: expected one of {', '.join(self._slots)}, got {quoted(name)}"
        return ApiError(404, message, code="model_not_found", param="model")

    def loaded(self) -> list[LoadedModel]:
        """The models in memory now."""
        slots = {id(slot): slot for slot in self._slots.values()}  # an alias has the slot of its model
        return [slot.loaded for slot in slots.values() if slot.loaded is not None]

    def state(self, name: str) -> tuple[Model | None, str]:
        """The loaded model of a name, and why its last load failed ("" if it did not)."""
        slot = self._slots[name]
        failure = "" if slot.failure is None else slot.failure.reason
        return (None if slot.loaded is None else slot.loaded.model), failure

    async def start(self) -> None:
        """Loads the default model. Raises ApiError."""
        async with self.use(self.default):
            self.ready = True
        if self._idle_seconds is not None:
            self._sweeper = asyncio.create_task(self._sweep(self._idle_seconds))

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[LoadedModel]:
        """Loads a model and keeps it loaded inside the context. `name` None or "": the default model.

        Raises ApiError: 404 for an unknown name; 503 if loading fails, memory is short, or the server closes.
        """
        slot = self._slots.get(name or self.default)
        if slot is None:
            raise self.unknown(name or "")
        if self.draining:
            raise shutting_down()
        slot.users += 1
        try:
            async with slot.lock:
                if slot.loaded is None:
                    slot.loaded = await self._load(name or self.default, slot)
            loaded = slot.loaded
            yield loaded.named(name) if name else loaded
        finally:
            slot.users -= 1
            slot.last_use = time.monotonic()

    def end_requests(self) -> None:
        """Refuses new requests and ends the running ones with an error."""
        self.draining = True
        for loaded in self.loaded():
            loaded.dispatcher.end_all(ShuttingDownError("the server is shutting down"))

    async def close(self) -> None:
        """Ends all requests and unloads all models."""
        self.draining = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for slot in self._slots.values():
            async with slot.lock:
                await self._unload(slot)
        await asyncio.to_thread(self._trial.close)

    async def _load(self, name: str, slot: _Slot) -> LoadedModel:
        async with self._loading:
            start = time.monotonic()
            if slot.failure is not None and not slot.failure.may_try_again(slot.source):
                raise _not_loaded(slot.failure.reason)
            slot.failure = None
            try:
                await self._free(await asyncio.to_thread(slot.source.min_bytes))
                model, adapters = await asyncio.to_thread(slot.load)
            except (BinhdanError, OSError) as error:
                paths = slot.paths()
                reason = f"{type(error).__name__}: {without_paths(str(error), *paths)}"
                _log.error("model not loaded", extra={"model": name, "reason": reason})
                for path, visible in paths.items():  # clients see the name of the model, not of its file
                    reason = reason.replace(PurePath(path).name, visible or name)
                slot.failure = _Failure(reason, slot.source.fingerprint(), time.monotonic())
                raise _not_loaded(reason) from error
            try:
                await self._free(_bytes(model))
                constraints = Constraints(model, self._trial)
                if model.info.causal:  # an encoder generates no text
                    await asyncio.to_thread(constraints.prepare)
                loaded = LoadedModel(self.base(name), model, Dispatcher(model), constraints, adapters)
            except BaseException:
                await asyncio.to_thread(model.close)
                raise
            _log.info("model loaded", extra={"model": name, "seconds": round(time.monotonic() - start, 3)})
            return loaded

    async def _free(self, needed: int) -> None:
        """Unloads unused models, the least recently used first, until `needed` bytes fit. Raises ApiError."""
        if self._max_bytes is None:
            return
        if needed > self._max_bytes:
            raise ApiError(
                503,
                f"this model needs {needed:,} bytes of memory, and the limit of this server is "
                f"{self._max_bytes:,} bytes; its operator can raise max_model_memory_bytes or lower "
                "max_kv_bytes",
                type="server_error",
                code="insufficient_memory",
            )
        while sum(loaded.bytes for loaded in self.loaded()) + needed > self._max_bytes:
            idle = [slot for slot in self._slots.values() if slot.loaded is not None and not slot.users]
            if not idle:
                raise ApiError(
                    503,
                    "not enough memory for this model while other models are in use; try again later",
                    type="server_error",
                    code="insufficient_memory",
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
        """Unloads idle models, until it is cancelled."""
        while True:
            await asyncio.sleep(min(1.0, idle_seconds / 4))
            for slot in self._slots.values():
                idle = time.monotonic() - slot.last_use >= idle_seconds
                if slot.loaded is not None and not slot.users and idle and not slot.lock.locked():
                    async with slot.lock:
                        if not slot.users:
                            await self._unload(slot)
