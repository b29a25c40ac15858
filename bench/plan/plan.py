"""From a measured board and a country's demand to boards, watts and đồng.

The fleet is sized for the busiest hour; each hour of the day is then simulated by itself, since an answer is
short beside an hour. Boards stay on all day. A board is busy while it computes at all, with one answer or
with all its places: that is the utilisation by which answers pay for the hardware, and the time in which it
takes busy_watts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

import binhdan
from binhdan.bench.common.statistics import Spread
from binhdan.bench.plan.demand import DAY, VIETNAM, Demand
from binhdan.bench.plan.service import MeasuredService
from binhdan.bench.plan.simulate import Run, Work
from binhdan.bench.plan.sizing import MOST_LOAD, Fleet, boards_needed
from binhdan.runtime.cost.cost_model import MONTH, Cost, CostModel
from binhdan.runtime.cost.figures import Tariff

SCHEMA = "binhdan.bench.plan/1"
P95_S = 15.0  # seconds to a whole answer
SPREAD = 0.5
SPARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """All that a plan depends on."""

    demand: Demand
    service: MeasuredService
    cost: CostModel  # its utilisation is replaced by the simulated one
    p95_s: float = P95_S
    spread: float = SPREAD
    spare: float = SPARE  # boards beyond those that are needed, per one that is; on, and idle
    speed: float = 1.0  # a board's, of the measured one
    cell: int = 16
    most_load: float = MOST_LOAD
    answers: int = 4_000
    seeds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("p95_s", self.p95_s, 1e-3, 1e6),
            ("spare", self.spare, 0.0, 10.0),
            ("speed", self.speed, 1e-3, 1e3),
        ):
            if not least <= value <= most:
                raise binhdan.InvalidArgumentError(f"{name} is {value:g}; expected {least:g} to {most:g}")
        self.fleet()

    def fleet(self) -> Fleet:
        return Fleet(
            speeds=tuple(speed * self.speed for speed in self.service.speeds()),
            work=Work(samples=self.service.work(), spread=self.spread),
            cell=self.cell,
            most_load=self.most_load,
            answers=self.answers,
            seeds=self.seeds,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True)
class Hour:
    """Of the day, in local time. Powers in megawatts; None: rented boards, whose watts nobody tells."""

    hour: int
    rate: float  # requests a second
    load: float  # of the most that the boards can answer
    busy: float  # part of their time in which they compute
    p95_s: float  # of whole answers
    megawatts: float | None


@dataclass(frozen=True, slots=True)
class Other:
    """The plan when one thing is otherwise; None: no number of boards is enough."""

    change: str
    boards: int | None
    megawatts_peak: float | None
    vnd_per_1000: float | None
    ratio: float | None  # of the cost to the plan's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What serves the demand."""

    schema: str = SCHEMA
    version: str  # of binhdan
    server: str
    model: str
    machine: str
    users: float
    answers_per_day: float
    mean_rate: float  # requests a second
    peak_rate: float
    target_p95_s: float
    boards: int
    least_boards: int  # that the load alone asks for
    spare_boards: int
    cells: int
    board_rate: float  # answers per second of a board at the peak
    board_most: float  # and with all places taken
    wait_peak_p50_s: float
    wait_peak_p95_s: float
    whole_peak_p50_s: float
    whole_peak_p95_s: Spread  # over the seeds
    utilisation_peak: float  # of the boards without the spare ones
    utilisation_mean: float  # of all
    busy_s_per_answer: float
    board: str
    cost: Cost  # of an answer
    cost_per_month_vnd: float
    capital_vnd: float | None  # None: rented
    megawatts_peak: float | None
    megawatts_mean: float | None
    kwh_per_1000: float | None
    hours: list[Hour]
    assumptions: list[tuple[str, float, str]]  # name, value, note
    sensitivity: list[Other]


def make(
    question: Question,
    *,
    tariffs: Sequence[Tariff] = (),
    sensitivity: bool = True,
    progress: Callable[[int, str], None] = lambda turn, name: None,
) -> Plan:
    """The plan, and with `sensitivity` what it is when something else is so; `tariffs`: others to try.

    Raises InvalidArgumentError when no number of boards answers in time.
    """
    others = _others(question, tariffs) if sensitivity else []
    progress(0, "the plan")
    plan = _plan(question)
    rows = []
    for turn, (change, other) in enumerate(others, 1):
        progress(turn, change)
        rows.append(_other(change, other, plan))
    return replace(plan, sensitivity=rows)


def steps(question: Question, tariffs: Sequence[Tariff] = (), sensitivity: bool = True) -> int:
    """How often `make` reports its progress."""
    return 1 + (len(_others(question, tariffs)) if sensitivity else 0)


def _plan(question: Question) -> Plan:
    demand, fleet = question.demand, question.fleet()
    boards = boards_needed(fleet, demand.peak_rate, question.p95_s)
    spare = math.ceil(boards * question.spare)
    peak = fleet.runs(boards, demand.peak_rate)
    hours = [_hour(question, fleet, hour, boards, spare) for hour in range(len(demand.shape))]
    mean_busy = fmean(hour.busy for hour in hours)
    per_day = demand.mean_rate * DAY
    busy_s = mean_busy * boards * DAY / per_day
    model = replace(question.cost, utilisation=max(1e-6, mean_busy * boards / (boards + spare)))
    cost = model.answer(busy_s)
    watts = [hour.megawatts for hour in hours if hour.megawatts is not None]
    mean_watts = fmean(watts) if watts else None
    return Plan(
        version=binhdan.__version__,
        server=question.service.server,
        model=question.service.model,
        machine=question.service.machine,
        users=demand.users,
        answers_per_day=demand.answers_per_day,
        mean_rate=demand.mean_rate,
        peak_rate=demand.peak_rate,
        target_p95_s=question.p95_s,
        boards=boards,
        least_boards=fleet.least_boards(demand.peak_rate),
        spare_boards=spare,
        cells=math.ceil(boards / question.cell),
        board_rate=demand.peak_rate / boards,
        board_most=fleet.speeds[-1],
        wait_peak_p50_s=_median(peak, lambda run: run.wait.p50),
        wait_peak_p95_s=_median(peak, lambda run: run.wait.p95),
        whole_peak_p50_s=_median(peak, lambda run: run.whole.p50),
        whole_peak_p95_s=fleet.p95(boards, demand.peak_rate),
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
        assumptions=_assumptions(question, model),
        sensitivity=[],
    )


def _hour(question: Question, fleet: Fleet, hour: int, boards: int, spare: int) -> Hour:
    rate = question.demand.rates()[hour]
    if rate <= 0:
        return Hour(hour, 0.0, 0.0, 0.0, 0.0, _megawatts(question.cost, 0.0, boards, spare))
    if rate < question.demand.peak_rate:  # the peak's runs are there already
        fleet = replace(fleet, seeds=1)
    runs = fleet.runs(boards, rate)
    busy = _median(runs, lambda run: run.busy)
    return Hour(
        hour=hour,
        rate=rate,
        load=rate / (boards * fleet.speeds[-1]),
        busy=busy,
        p95_s=fleet.p95(boards, rate).median,
        megawatts=_megawatts(question.cost, busy, boards, spare),
    )


def _megawatts(cost: CostModel, busy: float, boards: int, spare: int) -> float | None:
    if cost.board.rented:
        return None
    watts = boards * (busy * cost.busy_watts + (1 - busy) * cost.idle_watts) + spare * cost.idle_watts
    return watts * cost.pue / 1e6


def _median(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    return median(map(of, runs))


def _others(question: Question, tariffs: Sequence[Tariff]) -> list[tuple[str, Question]]:
    """What else may be so, one thing at a time."""

    def demand(peak: float) -> Demand:
        return replace(question.demand, peak_factor=peak)

    found: list[tuple[str, Question]] = []
    own_peak = question.demand.peak_rate / question.demand.mean_rate
    found += [
        (f"busiest hour {peak:g} times the mean", replace(question, demand=demand(peak)))
        for peak in (1.5, 3.0)
        if abs(peak - own_peak) > 1e-6
    ]
    found += [
        (f"p95 within {p95:.3g} s", replace(question, p95_s=p95))
        for p95 in (question.p95_s * 2 / 3, question.p95_s * 4 / 3)
    ]
    found += [
        (f"answers differ by {spread:g}", replace(question, spread=spread))
        for spread in (0.0, 1.0)
        if spread != question.spread
    ]
    found += [(f"cells of {cell}", replace(question, cell=cell)) for cell in (1, 64) if cell != question.cell]
    found += [
        (f"boards {speed:g} times as fast", replace(question, speed=question.speed * speed))
        for speed in (0.75, 1.5)
    ]
    found += [
        (f"spare boards {spare:.0%}", replace(question, spare=spare))
        for spare in (0.0, 0.2)
        if spare != question.spare
    ]
    cost = question.cost
    if not cost.board.rented:
        found += [
            (f"life of {life:g} years", replace(question, cost=replace(cost, life_years=life)))
            for life in (3.0, 8.0)
            if life != cost.years
        ]
        found += [
            (tariff.name, replace(question, cost=replace(cost, tariff=tariff)))
            for tariff in tariffs
            if tariff.name != cost.tariff.name
        ]
    return found


def _other(change: str, question: Question, own: Plan) -> Other:
    try:
        plan = _plan(question)
    except binhdan.InvalidArgumentError:
        return Other(change, None, None, None, None)
    ratio = plan.cost.vnd / own.cost.vnd if own.cost.vnd > 0 else 1.0
    return Other(change, plan.boards + plan.spare_boards, plan.megawatts_peak, plan.cost.vnd_per_1000, ratio)


def _assumptions(question: Question, model: CostModel) -> list[tuple[str, float, str]]:
    demand = question.demand
    shape = "assumed for Vietnam" if demand.shape == VIETNAM else "given"
    return [
        ("users", demand.users, "given"),
        ("answers_per_day", demand.answers_per_day, "of each of them; given"),
        (
            "peak_factor",
            demand.peak_rate / demand.mean_rate,
            f"busiest hour over the mean; shape {shape}",
        ),
        ("spread", question.spread, "coefficient of variation of answers beyond the measured one"),
        (
            "cell",
            question.cell,
            "boards behind one balancer; cells get equal parts, help none",
        ),
        ("most_load", question.most_load, "of the answers that a board can give, at the peak"),
        ("spare", question.spare, "boards beyond those needed, on and idle"),
        ("pue", model.pue, "energy of the site per energy of the boards"),
        ("network_vnd_per_month", model.network_vnd_per_month, "of a board"),
        ("staff_vnd_per_month", model.staff_vnd_per_month, "of a board"),
        *(one for one in model.assumptions() if one[0] != "utilisation"),
    ]
