"""runtime/options.py, runtime/errors.py: options and errors are values."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pytest

import binhdan
from binhdan.runtime.errors import from_status
from binhdan.runtime.options import GenerationChanges, with_changes


def test_options_are_picklable_values() -> None:
    options = binhdan.GenerationOptions(temperature=0.7, stop=["\n"], logit_bias={3: -1.0}, seed=7)
    assert pickle.loads(pickle.dumps(options)) == options
    load = binhdan.LoadOptions(threads=2, deterministic=True)
    assert pickle.loads(pickle.dumps(load)) == load
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.seed = 8  # type: ignore[misc]


def test_keyword_arguments_are_the_fields() -> None:
    names = {field.name for field in dataclasses.fields(binhdan.GenerationOptions)}
    assert set(GenerationChanges.__annotations__) == names


def test_changes() -> None:
    options = binhdan.GenerationOptions(seed=1)
    assert with_changes(options, {}) is options
    assert with_changes(options, {"top_k": 3}) == binhdan.GenerationOptions(seed=1, top_k=3)
    with pytest.raises(TypeError, match="topk"):
        with_changes(None, {"topk": 3})


def test_stop_accepts_one_text() -> None:
    assert tuple(binhdan.GenerationOptions(stop="ab").stop) == ("ab",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": -1},
        {"seed": -1},
        {"seed": 2**64},
        {"logprobs": 21},
        {"top_k": -1},
        {"max_tokens": 2**31},
    ],
)
def test_ranges(wrong: dict[str, Any]) -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match=next(iter(wrong))):
        binhdan.GenerationOptions(**wrong)


def test_load_ranges() -> None:
    with pytest.raises(binhdan.InvalidArgumentError, match="threads"):
        binhdan.LoadOptions(threads=0)


@pytest.mark.parametrize(
    ("status", "kind", "also"),
    [
        (1, binhdan.InvalidArgumentError, ValueError),
        (2, binhdan.ClosedError, binhdan.BinhdanError),
        (3, binhdan.ModelNotFoundError, FileNotFoundError),
        (4, binhdan.FileReadError, OSError),
        (5, binhdan.BadFormatError, ValueError),
        (6, binhdan.UnsupportedError, binhdan.BinhdanError),
        (7, binhdan.OutOfMemoryError, MemoryError),
        (8, binhdan.TooLargeError, ValueError),
        (9, binhdan.BusyError, binhdan.BinhdanError),
        (10, binhdan.ClosedError, binhdan.BinhdanError),
        (11, binhdan.InternalError, binhdan.BinhdanError),
        (99, binhdan.InternalError, binhdan.BinhdanError),
    ],
)
def test_errors(status: int, kind: type[binhdan.BinhdanError], also: type[Exception]) -> None:
    error = from_status(status, "a message")
    assert type(error) is kind and isinstance(error, also) and str(error) == "a message"
    assert isinstance(pickle.loads(pickle.dumps(error)), kind)
