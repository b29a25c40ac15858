"""LoRA adapters of a loaded model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from binhdan.runtime.errors import BinhdanError, InvalidArgumentError

if TYPE_CHECKING:
    from binhdan.runtime.client.base import ModelBase, PathLike


class Adapter:
    """A LoRA adapter that Model.load_adapter has opened. Pass it as `adapter` to ask, chat, complete, score,
    choose and logits; requests with different adapters, and without one, run together.

    `rank` is the largest of its tensors, `parameters` counts the weights in the file, `bytes` is its memory.
    `close()`, or the end of a `with` block, frees the memory when no request uses it.
    """

    _handle = 0

    def __init__(self, model: ModelBase, path: PathLike) -> None:
        self.model = model
        self.path = Path(path)
        if self.path.is_dir():
            raise InvalidArgumentError(
                f"{os.fspath(path)} is a folder; convert the adapter first: "
                f"binhdan quantize {os.fspath(path)} adapter.gguf"
            )
        self._library, model_handle = model._library, model._handle
        self._handle = self._library.open_adapter(model_handle, os.fspath(path))
        facts = self._library.describe_adapter(self._handle)
        self.rank: int = facts["rank"]
        self.parameters: int = facts["parameters"]
        self.bytes: int = facts["bytes"]
        self.cache_salt: int = facts["cache_salt"]  # of its sessions; see binhdan_adapter_info

    def close(self) -> None:
        """Frees the memory when no request uses it. A second call does nothing."""
        handle, self._handle = self._handle, 0
        if handle:
            with suppress(BinhdanError):
                self._library.close_adapter(handle)

    def __enter__(self) -> Adapter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not finalizing():
            self.close()

    def __repr__(self) -> str:
        return f"<binhdan.Adapter {self.path.name}: rank {self.rank}, {self.parameters:,} parameters>"


def handle_of(adapter: Adapter | None, model: ModelBase) -> int:
    """The handle of an adapter for a request to `model`; 0 for None. Raises InvalidArgumentError for a closed
    one, and for one of another model."""
    if adapter is None:
        return 0
    if adapter.model is not model:
        raise InvalidArgumentError(
            f"adapter: {adapter.path.name} was loaded for {adapter.model.path.name}, not for this model; use "
            "load_adapter of the same model",
            param="adapter",
        )
    if not adapter._handle:
        raise InvalidArgumentError(f"adapter: {adapter.path.name} is closed", param="adapter")
    return adapter._handle
