"""The plan: from a measured board and a country's demand to boards, watts and đồng.

The fleet is sized for the busiest hour. Then each hour of the day is simulated separately, because an answer
is short compared with an hour. Boards are on all day. A board is busy while it computes, with one answer or
with many. The busy share is the utilisation that spreads the cost of the hardware over the answers, and a
busy board takes `busy_watts`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import binhdan
from binhdan.bench.common.ranges import check_range
from binhdan.bench.common.statistics import Spread
from binhdan.bench.plan.demand import DAY, VIETNAM, Demand
from binhdan.bench.plan.service import MeasuredService
from binhdan.bench.plan.simulate import Run, Work
from binhdan.bench.plan.sizing import MAX_LOAD, Fleet, boards_needed
from binhdan.runtime.cost.cost_model import MONTH, Cost, CostModel
from binhdan.runtime.cost.figures import Tariff

SCHEMA = "binhdan.bench.plan/2"
P95_S = 15.0  # limit of the latency of a complete answer
SPREAD = 0.5
SPARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All inputs of a plan."""

    demand: Demand
    service: MeasuredService
    cost: CostModel  # its utilisation is replaced by the simulated utilisation
    p95_s: float = P95_S
    spread: float = SPREAD
    spare: float = SPARE  # spare boards per needed board; they are on and idle
    speed: float = 1.0  # of a board, relative to the measured board
    cell: int = 16
    max_load: float = MAX_LOAD
    answers: int = 4_000
    seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("p95_s", self.p95_s, 1e-3, 1e6)
        check_range("spare", self.spare, 0.0, 10.0)
        check_range("speed", self.speed, 1e-3, 1e3)
        self.fleet()

    def fleet(self) -> Fleet:
        return Fleet(
            speeds=tuple(speed * self.speed for speed in self.service.speeds()),
            work=Work(samples=self.service.work(), spread=self.spread),
            cell=self.cell,
            max_load=self.max_load,
            answers=self.answers,
            seeds=self.seeds,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of the day, in local time."""

    hour: int
    rate: float  # requests per second
    load: float  # share of the highest answer rate of the boards
    busy: float  # share of the boards' time in which they compute
    p95_s: float  # latency of complete answers
    megawatts: float | None  # None: rented boards, whose power is unknown


@dataclass(frozen=True, slots=True)
class Variant:
    """The plan with one changed input; None: no number of boards is enough."""

    change: str
    boards: int | None
    megawatts_peak: float | None
    vnd_per_1000: float | None
    ratio: float | None  # of the cost to the cost of the plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The boards that serve the demand, and their cost."""

    schema: str = SCHEMA
    version: str  # of binhdan
    server: str
    model: str
    machine: str
    users: float
    answers_per_day: float
    mean_rate: float  # requests per second
    peak_rate: float
    target_p95_s: float
    boards: int
    min_boards: int  # that the load alone requires
    spare_boards: int
    cells: int
    board_rate: float  # answers per second of a board at the peak
    max_board_rate: float  # answers per second of a full board
    wait_peak_p50_s: float
    wait_peak_p95_s: float
    latency_peak_p50_s: float
    latency_peak_p95_s: Spread  # over the seeds
    utilisation_peak: float  # without the spare boards
    utilisation_mean: float  # with the spare boards
    busy_s_per_answer: float
    board: str
    cost: Cost  # per answer
    cost_per_month_vnd: float
    capital_vnd: float | None  # None: rented
    megawatts_peak: float | None
    megawatts_mean: float | None
    kwh_per_1000: float | None
    hours: list[Hour]
    assumptions: list[tuple[str, float, str]]  # name, value, note
    sensitivity: list[Variant]


def make_plan(
    scenario: Scenario,
    *,
    tariffs: Sequence[Tariff] = (),
    sensitivity: bool = True,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Plan:
    """Makes the plan and, with `sensitivity`, its variants. `tariffs` are tariffs of variants.

    Calls `progress(step, name)` before each simulated plan. Raises InvalidArgumentError when no number of
    boards is enough.
    """
    variants = _variants(scenario, tariffs) if sensitivity else []
    progress(0, "the plan")
    plan = _plan(scenario)
    rows = []
    for step, (change, variant) in enumerate(variants, 1):
        progress(step, change)
        rows.append(_variant(change, variant, plan))
    return replace(plan, sensitivity=rows)


def count_steps(scenario: Scenario, tariffs: Sequence[Tariff] = (), sensitivity: bool = True) -> int:
    """How often `make_plan` calls `progress`."""
    return 1 + (len(_variants(scenario, tariffs)) if sensitivity else 0)


def _plan(scenario: Scenario) -> Plan:
    demand, fleet = scenario.demand, scenario.fleet()
    boards = boards_needed(fleet, demand.peak_rate, scenario.p95_s)
    spare = math.ceil(boards * scenario.spare)
    peak = fleet.runs(boards, demand.peak_rate)
    hours = [_hour(scenario, fleet, hour, boards, spare) for hour in range(len(demand.shape))]
    mean_busy = fmean(hour.busy for hour in hours)
    per_day = demand.mean_rate * DAY
    busy_s = mean_busy * boards * DAY / per_day
    model = replace(scenario.cost, utilisation=max(1e-6, mean_busy * boards / (boards + spare)))
    cost = model.answer(busy_s)
    watts = [hour.megawatts for hour in hours if hour.megawatts is not None]
    mean_watts = fmean(watts) if watts else None
    return Plan(
        version=binhdan.__version__,
        server=scenario.service.server,
        model=scenario.service.model,
        machine=scenario.service.machine,
        users=demand.users,
        answers_per_day=demand.answers_per_day,
        mean_rate=demand.mean_rate,
        peak_rate=demand.peak_rate,
        target_p95_s=scenario.p95_s,
        boards=boards,
        min_boards=fleet.min_boards(demand.peak_rate),
        spare_boards=spare,
        cells=math.ceil(boards / scenario.cell),
        board_rate=demand.peak_rate / boards,
        max_board_rate=fleet.speeds[-1],
        wait_peak_p50_s=_median(peak, lambda run: run.wait.p50),
        wait_peak_p95_s=_median(peak, lambda run: run.wait.p95),
        latency_peak_p50_s=_median(peak, lambda run: run.latency.p50),
        latency_peak_p95_s=fleet.p95(boards, demand.peak_rate),
        utilisation_peak=_median(peak, lambda run: run.busy),
        utilisation_mean=model.utilisation,
        busy_s_per_answer=busy_s,
        board=model.board.name,
        cost=cost,
        cost_per_month_vnd=cost.vnd * per_day * MONTH / DAY,
        capital_vnd=None if model.board.rented else model.hardware_vnd * (boards + spare),
        megawatts_peak=max(watts) if watts else None,
        megawatts_mean=mean_watts,
        kwh_per_1000=None if mean_watts is None else mean_watts * 1e3 * 24 / per_day * 1e3,
        hours=hours,
        assumptions=_assumptions(scenario, model),
        sensitivity=[],
    )


def _hour(scenario: Scenario, fleet: Fleet, hour: int, boards: int, spare: int) -> Hour:
    rate = scenario.demand.rates()[hour]
    if rate <= 0:
        return Hour(hour, 0.0, 0.0, 0.0, 0.0, _megawatts(scenario.cost, 0.0, boards, spare))
    if rate < scenario.demand.peak_rate:  # the runs of the peak hour are cached
        fleet = replace(fleet, seeds=1)
    runs = fleet.runs(boards, rate)
    busy = _median(runs, lambda run: run.busy)
    return Hour(
        hour=hour,
        rate=rate,
        load=rate / (boards * fleet.speeds[-1]),
        busy=busy,
        p95_s=fleet.p95(boards, rate).median,
        megawatts=_megawatts(scenario.cost, busy, boards, spare),
    )


def _megawatts(cost: CostModel, busy: float, boards: int, spare: int) -> float | None:
    if cost.board.rented:
        return None
    watts = boards * (busy * cost.busy_watts + (1 - busy) * cost.idle_watts) + spare * cost.idle_watts
    return watts * cost.pue / 1e6


def _median(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    return median(map(of, runs))


def _variants(scenario: Scenario, tariffs: Sequence[Tariff]) -> list[tuple[str, Scenario]]:
    """The scenarios of the sensitivity analysis: one changed input each, and its description."""

    def demand(peak: float) -> Demand:
        return replace(scenario.demand, peak_factor=peak)

    found: list[tuple[str, Scenario]] = []
    base_peak = scenario.demand.peak_rate / scenario.demand.mean_rate
    found += [
        (f"busiest hour {peak:g} times the mean", replace(scenario, demand=demand(peak)))
        for peak in (1.5, 3.0)
        if abs(peak - base_peak) > 1e-6
    ]
    found += [
        (f"p95 within {p95:.3g} s", replace(scenario, p95_s=p95))
        for p95 in (scenario.p95_s * 2 / 3, scenario.p95_s * 4 / 3)
    ]
    found += [
        (f"spread of the work {spread:g}", replace(scenario, spread=spread))
        for spread in (0.0, 1.0)
        if spread != scenario.spread
    ]
    found += [(f"cells of {cell}", replace(scenario, cell=cell)) for cell in (1, 64) if cell != scenario.cell]
    found += [
        (f"boards {speed:g} times as fast", replace(scenario, speed=scenario.speed * speed))
        for speed in (0.75, 1.5)
    ]
    found += [
        (f"spare boards {spare:.0%}", replace(scenario, spare=spare))
        for spare in (0.0, 0.2)
        if spare != scenario.spare
    ]
    cost = scenario.cost
    if not cost.board.rented:
        found += [
            (f"life of {life:g} years", replace(scenario, cost=replace(cost, life_years=life)))
            for life in (3.0, 8.0)
            if life != cost.years
        ]
        found += [
            (tariff.name, replace(scenario, cost=replace(cost, tariff=tariff)))
            for tariff in tariffs
            if tariff.name != cost.tariff.name
        ]
    return found


def _variant(change: str, scenario: Scenario, base: Plan) -> Variant:
    try:
        plan = _plan(scenario)
    except binhdan.InvalidArgumentError:
        return Variant(change, None, None, None, None)
    ratio = plan.cost.vnd / base.cost.vnd if base.cost.vnd > 0 else 1.0
    return Variant(
        change, plan.boards + plan.spare_boards, plan.megawatts_peak, plan.cost.vnd_per_1000, ratio
    )


def _assumptions(scenario: Scenario, model: CostModel) -> list[tuple[str, float, str]]:
    demand = scenario.demand
    shape = "assumed for Vietnam" if demand.shape == VIETNAM else "given"
    return [
        ("users", demand.users, "given"),
        ("answers_per_day", demand.answers_per_day, "per user; given"),
        (
            "peak_factor",
            demand.peak_rate / demand.mean_rate,
            f"busiest hour divided by the mean; hours {shape}",
        ),
        ("spread", scenario.spread, "coefficient of variation of the work, in addition to the measured one"),
        (
            "cell",
            scenario.cell,
            "boards behind one load balancer; cells get equal parts of the requests",
        ),
        ("max_load", scenario.max_load, "highest share of a full board's answer rate, at the peak"),
        ("spare", scenario.spare, "spare boards per needed board, on and idle"),
        ("pue", model.pue, "energy of the site divided by the energy of the boards"),
        ("network_vnd_per_month", model.network_vnd_per_month, "per board"),
        ("staff_vnd_per_month", model.staff_vnd_per_month, "per board"),
        *(one for one in model.assumptions() if one[0] != "utilisation"),
    ]
