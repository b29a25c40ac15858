"""Boards and tariffs as TOML files, in which each figure names its source.

    [busy_watts]
    value = 9.7
    source = "https://github.com/geerlingguy/sbc-reviews/issues/21"
    date = 2026-04-10

A figure without source and date must have `assumed = true`. Files may be hostile: their size is bounded, and
errors name the file and the key.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from binhdan.runtime.errors import BinhdanError
from binhdan.runtime.reasons import file_reason, value_reason

BOARDS = Path(__file__).parent / "boards"
TARIFFS = Path(__file__).parent / "tariffs"
HOURS_PER_WEEK = 168.0

_MAX_BYTES = 65_536
_Amount = Annotated[float, Field(ge=0, le=1e12)]
_Positive = Annotated[float, Field(gt=0, le=1e12)]


class FigureError(BinhdanError, ValueError):
    """A board or tariff file that cannot be used. The message names the file and the key."""

    code = 1


class _Strict(BaseModel):
    """Strict types, no unknown keys, no infinities."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class _Sourced(_Strict):
    source: str | None = Field(default=None, max_length=500)
    date: datetime.date | None = None
    assumed: bool = False
    note: str = Field(default="", max_length=1000)

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if not self.assumed and (self.source is None or self.date is None):
            raise ValueError("expected source and date, or assumed = true")
        return self


class Figure(_Sourced):
    """A non-negative number with its source."""

    value: _Amount


class Money(Figure):
    """An amount in đồng or US dollars."""

    unit: Literal["VND", "USD"]

    def vnd(self, usd_vnd: float) -> float:
        return self.value * usd_vnd if self.unit == "USD" else self.value


def _as_tuples(data: object) -> object:
    """TOML has lists; frozen models have tuples."""
    if isinstance(data, dict):
        return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return data


_Cache = Annotated[int, Field(gt=0, le=1 << 30)]  # KiB


class Cores(_Strict):
    """The cores of one kind."""

    kind: str = Field(min_length=1, max_length=50)  # such as "cortex-a76", as compilers name it
    count: int = Field(gt=0, le=1024)
    ghz: Annotated[float, Field(gt=0, le=10)]  # that all of them sustain together
    l1d_kib: _Cache | None = None  # of each core
    l2_kib: _Cache | None = None  # of each core, unless l2_shared
    l2_shared: bool = False


class Hardware(_Sourced):
    """What a board computes with."""

    cores: tuple[Cores, ...] = Field(min_length=1, max_length=8)  # the fastest kind first
    l3_kib: _Cache | None = None  # shared
    memory: str = Field(min_length=1, max_length=100)  # type, transfers per second, width
    memory_gb_per_s: Annotated[float, Field(gt=0, le=1e5)]  # transfers times width

    _lists_are_tuples = model_validator(mode="before")(staticmethod(_as_tuples))


class Board(_Strict):
    """A machine that serves answers: bought, with price, life and watts; or rented, electricity included."""

    name: str = Field(min_length=1, max_length=100)
    price: Money | None = None
    extras: Money | None = None  # required extras: power supply, storage, cooling, case
    life_years: Figure | None = None
    idle_watts: Figure | None = None  # at the wall, idle
    busy_watts: Figure | None = None  # at the wall, all cores busy
    rest_watts: Figure | None = None  # the part of busy_watts that RAPL does not measure
    rent_per_month: Money | None = None
    hardware: Hardware | None = None

    @property
    def rented(self) -> bool:
        return self.rent_per_month is not None

    @model_validator(mode="after")
    def _is_bought_or_rented(self) -> Self:
        bought = {
            "price": self.price,
            "life_years": self.life_years,
            "idle_watts": self.idle_watts,
            "busy_watts": self.busy_watts,
        }
        if self.rented:
            if wrong := [name for name, figure in bought.items() if figure is not None]:
                raise ValueError(f"expected rent_per_month or {', '.join(wrong)}, got both")
            return self
        if missing := [name for name, figure in bought.items() if figure is None]:
            raise ValueError(f"expected {', '.join(missing)}, or rent_per_month")
        if self.life_years is not None and self.life_years.value <= 0:
            raise ValueError("life_years: expected more than 0")
        return self

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """The figures of the file, by key."""
        for name in type(self).model_fields:
            figure = getattr(self, name)
            if isinstance(figure, Figure):
                yield name, figure


class Step(_Strict):
    """One price step of a tariff by monthly consumption."""

    upto_kwh: _Positive | None = None  # None in the last step
    vnd_per_kwh: _Positive


class Band(_Strict):
    """One price band of a tariff by the hour of the week."""

    name: str = Field(max_length=100)
    hours_per_week: _Positive
    vnd_per_kwh: _Positive


class Tariff(_Sourced):
    """Electricity prices before VAT, in one of three forms: flat, steps, bands."""

    name: str = Field(min_length=1, max_length=100)
    vat: Figure
    vnd_per_kwh: _Positive | None = None
    steps: tuple[Step, ...] | None = Field(default=None, min_length=1, max_length=50)
    base_kwh_per_month: Figure | None = None  # for steps: the household's other consumption
    bands: tuple[Band, ...] | None = Field(default=None, min_length=1, max_length=50)

    _lists_are_tuples = model_validator(mode="before")(staticmethod(_as_tuples))

    @model_validator(mode="after")
    def _is_one_of_three(self) -> Self:
        if sum(form is not None for form in (self.vnd_per_kwh, self.steps, self.bands)) != 1:
            raise ValueError("expected exactly one of vnd_per_kwh, steps and bands")
        if self.bands is not None:
            hours = sum(band.hours_per_week for band in self.bands)
            if abs(hours - HOURS_PER_WEEK) > 1e-6:
                raise ValueError(f"bands: expected 168 hours per week in total, got {hours:g}")
        if self.steps is not None:
            if self.base_kwh_per_month is None:
                raise ValueError("steps: expected base_kwh_per_month, the household's other consumption")
            ends = [step.upto_kwh for step in self.steps]
            known = [end for end in ends[:-1] if end is not None]
            if ends[-1] is not None or len(known) != len(ends) - 1 or known != sorted(set(known)):
                raise ValueError("steps: expected an increasing upto_kwh in each step, and none in the last")
        return self

    def vnd_per_kwh_with_vat(self, kwh_per_month: float) -> float:
        """Price of one kWh for a machine that uses `kwh_per_month`, evenly over the hours of the week.

        With steps, the machine's consumption comes on top of the base, at the highest prices.
        """
        if self.vnd_per_kwh is not None:
            price = self.vnd_per_kwh
        elif self.bands is not None:
            price = sum(band.vnd_per_kwh * band.hours_per_week for band in self.bands) / HOURS_PER_WEEK
        else:
            base = self.base_kwh_per_month.value if self.base_kwh_per_month else 0.0
            more = max(kwh_per_month, 1e-3)  # the limit for a machine that uses almost nothing
            price = (self._month(base + more) - self._month(base)) / more
        return price * (1.0 + self.vat.value)

    def _month(self, kwh: float) -> float:
        """The monthly bill by steps, in đồng."""
        total = start = 0.0
        for step in self.steps or ():
            end = kwh if step.upto_kwh is None else min(kwh, step.upto_kwh)
            total += max(end - start, 0.0) * step.vnd_per_kwh
            start = max(start, end)
        return total


_Kind = TypeVar("_Kind", Board, Tariff)


def load_board(name_or_path: str | Path) -> Board:
    """A board by its name in boards/, such as "raspberry-pi-5", or from a file. Raises FigureError."""
    return _load(Board, name_or_path, BOARDS)


def load_tariff(name_or_path: str | Path) -> Tariff:
    """A tariff by its name in tariffs/, such as "evn-household", or from a file. Raises FigureError."""
    return _load(Tariff, name_or_path, TARIFFS)


def tariff_names() -> list[str]:
    return sorted(path.stem for path in TARIFFS.glob("*.toml"))


def _load(kind: type[_Kind], name_or_path: str | Path, folder: Path) -> _Kind:
    text = str(name_or_path)
    path = Path(name_or_path)
    if re.fullmatch(r"[a-z0-9-]+", text):
        path = folder / f"{text}.toml"
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in folder.glob("*.toml")))
            what = kind.__name__.lower()
            raise FigureError(f"unknown {what} {text!r}; expected a .toml file or one of {known}")
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise FigureError(f"{path}: expected up to {_MAX_BYTES:,} bytes, got more")
        return kind.model_validate(tomllib.loads(data.decode()))
    except OSError as error:
        raise FigureError(file_reason(error, path)) from error
    except ValidationError as error:
        raise FigureError(f"{path}: {_wrong(error)}") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested too deep
        raise FigureError(f"{path}: {error}") from error


def _wrong(error: ValidationError) -> str:
    """The first three errors, each with its key."""
    mistakes = []
    for mistake in error.errors(include_url=False)[:3]:
        key = ".".join(map(str, mistake["loc"]))
        reason = value_reason(mistake)
        mistakes.append(f"{key}: {reason}" if key else reason)
    return "; ".join(mistakes)
