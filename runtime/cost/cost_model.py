"""The cost of an answer, in đồng and US dollars.

An answer keeps the machine busy for s seconds. The machine is always on, but busy only for the fraction U of
the time, its utilisation. Each busy second therefore pays for 1/U seconds:

    cost        = hardware + electricity + idle + network + staff
    hardware    = (price + extras) / life * s/U              a board that is bought; or rent / month * s/U
    electricity = k * E * tariff                             while the machine computes
    idle        = k * idle_watts * s * (1-U)/U * tariff      its share of the idle time
    network     = fee / month * s/U
    staff       = wages / month * s/U                        both for one machine

    E           = measured joules, plus rest_watts * s when the meter measures the processor alone;
                  without a meter, declared watts * s or the board's busy_watts * s
    tariff      = price of a kWh with VAT, at the machine's consumption of a month (idle and busy)
    k           = energy of the site per energy of the machine (cooling): PUE, 1 at home
    life, month = in seconds; a year has 365.25 days, a month is a twelfth of it

Rent includes electricity. `assumptions` lists every value without a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from binhdan.runtime.cost.figures import Board, Figure, Tariff, load_board, load_tariff
from binhdan.runtime.errors import InvalidArgumentError

YEAR = 365.25 * 86_400.0  # seconds
MONTH = YEAR / 12
KWH = 3.6e6  # joules

# Near the rate of Vietnamese banks in 2026. It matters for boards priced in dollars.
USD_VND = Figure(value=26_400.0, assumed=True, note="đồng per US dollar")
# A machine of a family or an office that computes 7 hours a day.
UTILISATION = 0.3

DEFAULT_BOARD = "unknown"
DEFAULT_TARIFF = "evn-household"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one answer. `parts` are in đồng and sum to `vnd`."""

    vnd: float
    usd: float
    basis: str
    parts: dict[str, float]

    @property
    def vnd_per_1000(self) -> float:
        return self.vnd * 1000.0

    @property
    def usd_per_1000(self) -> float:
        return self.usd * 1000.0


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The cost under other assumptions."""

    utilisation: float
    tariff: str
    life_years: float | None  # None: rented
    vnd_per_1000: float
    ratio: float  # to the cost under the model's assumptions


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Costs on one board under one tariff. Raises InvalidArgumentError for a value out of range.

    `watts`: declared watts, instead of the board's busy_watts. `whole_meter`: the joules given to `answer`
    are of the whole machine, not of the processor alone. Fees are for one machine. `pue` is k above.
    """

    board: Board = field(default_factory=lambda: load_board(DEFAULT_BOARD))
    tariff: Tariff = field(default_factory=lambda: load_tariff(DEFAULT_TARIFF))
    utilisation: float = UTILISATION
    watts: float | None = None
    whole_meter: bool = True
    network_vnd_per_month: float = 0.0
    staff_vnd_per_month: float = 0.0
    pue: float = 1.0
    usd_vnd: Figure = USD_VND
    life_years: float | None = None  # instead of the board's

    def __post_init__(self) -> None:
        ranges: Sequence[tuple[str, float | None, float, float]] = (
            ("utilisation", self.utilisation, 1e-6, 1.0),
            ("watts", self.watts, 1e-3, 1e4),
            ("network_vnd_per_month", self.network_vnd_per_month, 0.0, 1e12),
            ("staff_vnd_per_month", self.staff_vnd_per_month, 0.0, 1e12),
            ("pue", self.pue, 1.0, 10.0),
            ("usd_vnd", self.usd_vnd.value, 1.0, 1e9),
            ("life_years", self.life_years, 1e-3, 100.0),
        )
        for name, value, low, high in ranges:
            if value is not None and not low <= value <= high:
                raise InvalidArgumentError(f"{name}: expected {low:g} to {high:g}, got {value}")

    @cached_property
    def hardware_vnd(self) -> float:
        """Price of the board with its extras; 0 when it is rented."""
        return sum(money.vnd(self.usd_vnd.value) for money in (self.board.price, self.board.extras) if money)

    @property
    def years(self) -> float | None:
        """The board's life in years; None when it is rented."""
        if self.board.life_years is None:
            return None
        return self.life_years or self.board.life_years.value

    @property
    def busy_watts(self) -> float:
        """Watts used without a meter; 0 when the board is rented, because rent includes electricity."""
        if self.board.busy_watts is None:
            return 0.0
        return self.watts or self.board.busy_watts.value

    @property
    def idle_watts(self) -> float:
        return self.board.idle_watts.value if self.board.idle_watts else 0.0

    @cached_property
    def vnd_per_kwh(self) -> float:
        """Price with VAT at the machine's consumption of a month."""
        watts = self.busy_watts * self.utilisation + self.idle_watts * (1.0 - self.utilisation)
        return self.tariff.vnd_per_kwh_with_vat(watts * self.pue * MONTH / KWH)

    def answer(self, seconds_busy: float, joules: float | None = None) -> Cost:
        """The cost of an answer that kept the machine busy for `seconds_busy` and used `joules`.

        `joules`: None when energy was not measured. Raises InvalidArgumentError for negative values.
        """
        if not seconds_busy >= 0 or (joules is not None and not joules >= 0):
            given = f"{seconds_busy} and {joules}"
            raise InvalidArgumentError(f"seconds_busy, joules: expected 0 or more, got {given}")
        seconds = seconds_busy / self.utilisation
        parts: dict[str, float] = {}
        if self.board.rent_per_month is not None:
            parts["rent"] = self.board.rent_per_month.vnd(self.usd_vnd.value) / MONTH * seconds
        elif self.years is not None:
            parts["hardware"] = self.hardware_vnd / (self.years * YEAR) * seconds
            vnd_per_joule = self.pue * self.vnd_per_kwh / KWH
            parts["electricity"] = self._energy(seconds_busy, joules) * vnd_per_joule
            parts["idle"] = self.idle_watts * (seconds - seconds_busy) * vnd_per_joule
        parts["network"] = self.network_vnd_per_month / MONTH * seconds
        parts["staff"] = self.staff_vnd_per_month / MONTH * seconds
        vnd = sum(parts.values())
        basis = self.basis_declared if joules is None else self.basis_measured
        return Cost(vnd, vnd / self.usd_vnd.value, basis, parts)

    def sensitivity(
        self,
        seconds_busy: float,
        joules: float | None = None,
        *,
        utilisations: Sequence[float] = (0.05, 0.1, 0.3, 0.6, 0.9),
        tariffs: Sequence[Tariff] | None = None,
        lives: Sequence[float] = (2.0, 4.0, 6.0),
    ) -> list[Sensitivity]:
        """The cost of the same answer under all combinations. `tariffs`: None for the model's own."""
        own = self.answer(seconds_busy, joules).vnd
        years: Sequence[float | None] = (None,) if self.board.rented else lives
        rows = []
        for utilisation in utilisations:
            for tariff in (self.tariff,) if tariffs is None else tariffs:
                for life in years:
                    other = replace(self, utilisation=utilisation, tariff=tariff, life_years=life)
                    cost = other.answer(seconds_busy, joules)
                    ratio = cost.vnd / own if own > 0 else 1.0
                    rows.append(Sensitivity(utilisation, tariff.name, life, cost.vnd_per_1000, ratio))
        return rows

    @cached_property
    def basis_measured(self) -> str:
        """What the cost of an answer with measured joules is based on, in one line."""
        return self._basis(True)

    @cached_property
    def basis_declared(self) -> str:
        """What it is based on without measured joules: declared watts or the board's."""
        return self._basis(False)

    def _basis(self, measured: bool) -> str:
        parts = [self.board.name]
        if self.years is not None:
            parts.append(f"{self.hardware_vnd:,.0f} đ over {self.years:g} years")
            parts.append(f"{self.tariff.name} {self.vnd_per_kwh:,.0f} đ/kWh")
            parts.append(self._energy_basis(measured))
        else:
            parts.append("rented")
        parts.append(f"{self.utilisation:.0%} utilisation")
        if self.assumptions():
            parts.append("partly assumed")
        return "; ".join(parts)

    def assumptions(self) -> list[tuple[str, float, str]]:
        """Values without a source, as (name, value, note). The utilisation is always one of them."""
        figures = [*self.board.figures(), ("usd_vnd", self.usd_vnd)]
        if not self.board.rented:
            figures.append(("vat", self.tariff.vat))
            if self.tariff.base_kwh_per_month is not None:
                figures.append(("base_kwh_per_month", self.tariff.base_kwh_per_month))
        found = [(name, figure.value, figure.note) for name, figure in figures if figure.assumed]
        if self.tariff.assumed and not self.board.rented:
            found.append(("vnd_per_kwh", self.vnd_per_kwh, self.tariff.note))
        return [*found, ("utilisation", self.utilisation, "share of the time in which the machine computes")]

    def _energy(self, seconds_busy: float, joules: float | None) -> float:
        if joules is None:
            return self.busy_watts * seconds_busy
        if self.whole_meter or self.board.rest_watts is None:
            return joules
        return joules + self.board.rest_watts.value * seconds_busy

    def _energy_basis(self, measured: bool) -> str:
        if not measured:
            return f"{self.busy_watts:g} W {'declared' if self.watts else 'of the board'}"
        if self.whole_meter:
            return "energy measured"
        if self.board.rest_watts is None:
            return "energy of the processor alone, measured: a lower bound"
        return f"energy of the processor measured, {self.board.rest_watts.value:g} W added for the rest"
