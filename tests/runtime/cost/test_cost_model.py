"""runtime/cost/cost_model.py: the formula computed by hand, and its invariants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binhdan.runtime.cost.cost_model import MONTH, YEAR, CostModel
from binhdan.runtime.cost.figures import (
    BOARDS,
    Board,
    Figure,
    Money,
    Tariff,
    load_board,
    load_tariff,
    tariff_names,
)


def figure(value: float) -> Figure:
    return Figure(value=value, assumed=True)


def money(value: float, unit: Any = "VND") -> Money:
    return Money(value=value, unit=unit, assumed=True)


def flat(vnd_per_kwh: float, vat: float = 0.0) -> Tariff:
    return Tariff(name="flat", assumed=True, vnd_per_kwh=vnd_per_kwh, vat=figure(vat))


# 1 đ per second of a year; 0.001 đ per joule.
BOARD = Board(
    name="by hand",
    price=money(YEAR),
    life_years=figure(1.0),
    idle_watts=figure(36.0),
    busy_watts=figure(72.0),
)
MODEL = CostModel(board=BOARD, tariff=flat(3600.0), utilisation=0.5, usd_vnd=figure(25_000.0))
RENTED = Board(name="rented", rent_per_month=money(MONTH / 25_000.0, "USD"))


def test_formula() -> None:
    cost = MODEL.answer(2.0)
    # 2 s at 50 % utilisation: 4 s of the board's time, 2 s at 72 W and 2 s at 36 W.
    assert cost.parts == pytest.approx(
        {"hardware": 4.0, "electricity": 0.144, "idle": 0.072, "network": 0.0, "staff": 0.0}
    )
    assert cost.vnd == pytest.approx(4.216) and cost.usd == pytest.approx(4.216 / 25_000)
    assert cost.vnd_per_1000 == pytest.approx(4216.0) and cost.usd_per_1000 == pytest.approx(0.16864)


def test_measured_joules_replace_busy_watts_only() -> None:
    cost = MODEL.answer(2.0, 1000.0)
    assert cost.parts["electricity"] == pytest.approx(1.0) and cost.parts["idle"] == pytest.approx(0.072)
    assert "energy measured" in cost.basis and "72 W of the board" in MODEL.answer(2.0).basis


def test_declared_watts_replace_the_boards() -> None:
    declared = replace(MODEL, watts=10.0)
    assert declared.answer(2.0).parts["electricity"] == pytest.approx(0.02)
    assert "10 W declared" in declared.answer(2.0).basis


def test_a_meter_of_the_processor_only() -> None:
    partial = replace(MODEL, whole_meter=False)
    assert partial.answer(2.0, 100.0).parts["electricity"] == pytest.approx(0.1)
    assert "a lower bound" in partial.answer(2.0, 100.0).basis
    board = BOARD.model_copy(update={"rest_watts": figure(25.0)})
    with_rest = replace(partial, board=board)
    assert with_rest.answer(2.0, 100.0).parts["electricity"] == pytest.approx(0.15)
    assert "25 W added for the rest" in with_rest.answer(2.0, 100.0).basis


def test_network_staff_and_cooling() -> None:
    model = replace(MODEL, network_vnd_per_month=MONTH, staff_vnd_per_month=2 * MONTH, pue=1.5)
    parts = model.answer(2.0).parts
    assert parts["network"] == pytest.approx(4.0) and parts["staff"] == pytest.approx(8.0)
    assert parts["electricity"] == pytest.approx(0.216) and parts["idle"] == pytest.approx(0.108)


def test_rent_includes_electricity() -> None:
    model = CostModel(board=RENTED, utilisation=0.25, usd_vnd=figure(25_000.0))
    assert model.answer(3.0, 500.0).parts == pytest.approx({"rent": 12.0, "network": 0.0, "staff": 0.0})
    assert model.basis_measured == "rented; rented; 25% utilisation; partly assumed"


def test_extras_and_prices_in_dollars() -> None:
    board = BOARD.model_copy(update={"price": money(100.0, "USD"), "extras": money(500_000.0)})
    assert replace(MODEL, board=board).hardware_vnd == pytest.approx(3_000_000.0)


def test_steps_start_at_the_base_consumption() -> None:
    tariff = load_tariff("evn-household")
    assert tariff.base_kwh_per_month and tariff.base_kwh_per_month.value == 200
    assert tariff.vnd_per_kwh_with_vat(150) == pytest.approx((100 * 2998 + 50 * 3350) / 150 * 1.08)
    assert tariff.vnd_per_kwh_with_vat(0) == pytest.approx(2998 * 1.08)
    assert tariff.vnd_per_kwh_with_vat(1e6) == pytest.approx(3460 * 1.08, rel=1e-3)
    whole = tariff.model_copy(update={"base_kwh_per_month": figure(0.0)})
    bill = 50 * 1984 + 50 * 2050 + 100 * 2380 + 100 * 2998 + 100 * 3350 + 100 * 3460
    assert whole.vnd_per_kwh_with_vat(500) == pytest.approx(bill / 500 * 1.08)


def test_bands_are_weighted_by_hours() -> None:
    price = load_tariff("evn-business").vnd_per_kwh_with_vat(30)
    assert price == pytest.approx((96 * 3152 + 42 * 1918 + 30 * 5422) / 168 * 1.08)


positive = st.floats(1e-3, 1e6)
fractions = st.floats(1e-3, 1.0)


@given(seconds=positive, joules=st.none() | positive, low=fractions, high=fractions)
def test_higher_utilisation_is_cheaper(seconds: float, joules: float | None, low: float, high: float) -> None:
    low, high = sorted((low, high))
    expensive, cheap = (replace(MODEL, utilisation=part).answer(seconds, joules).vnd for part in (low, high))
    assert cheap <= expensive * (1 + 1e-9)


@given(a=positive, b=positive, seconds=positive)
def test_more_use_never_costs_less(a: float, b: float, seconds: float) -> None:
    low, high = sorted((a, b))

    def costs(make: Any) -> tuple[float, float]:
        return make(low).vnd, make(high).vnd

    def with_board(**changes: Any) -> CostModel:
        return replace(MODEL, board=BOARD.model_copy(update=changes))

    for less, more in (
        costs(lambda x: MODEL.answer(x)),
        costs(lambda x: MODEL.answer(seconds, x)),
        costs(lambda x: replace(MODEL, tariff=flat(x)).answer(seconds)),
        costs(lambda x: replace(MODEL, tariff=flat(3000.0, vat=x)).answer(seconds)),
        costs(lambda x: with_board(price=money(x)).answer(seconds)),
        costs(lambda x: with_board(extras=money(x, "USD")).answer(seconds)),
        costs(lambda x: with_board(idle_watts=figure(x)).answer(seconds)),
        costs(lambda x: with_board(busy_watts=figure(x)).answer(seconds)),
        costs(lambda x: replace(MODEL, network_vnd_per_month=x).answer(seconds)),
        costs(lambda x: replace(MODEL, staff_vnd_per_month=x).answer(seconds)),
        costs(lambda x: with_board(life_years=figure(1e6 / x)).answer(seconds)),
    ):
        assert 0 < less <= more * (1 + 1e-9)


@given(seconds=st.floats(0, 1e6), joules=st.none() | st.floats(0, 1e9), model=st.sampled_from([MODEL, None]))
def test_parts_and_answers_sum_up(seconds: float, joules: float | None, model: CostModel | None) -> None:
    model = model or CostModel(board=RENTED)
    cost = model.answer(seconds, joules)
    assert cost.vnd == pytest.approx(sum(cost.parts.values())) and all(
        part >= 0 for part in cost.parts.values()
    )
    twice = model.answer(2 * seconds, None if joules is None else 2 * joules)
    assert twice.vnd == pytest.approx(2 * cost.vnd)


@pytest.mark.parametrize("tariff", [load_tariff(name) for name in tariff_names()], ids=tariff_names())
@given(a=st.floats(0, 1e5), b=st.floats(0, 1e5))
def test_higher_consumption_never_lowers_the_price_of_a_kwh(tariff: Tariff, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert tariff.vnd_per_kwh_with_vat(low) <= tariff.vnd_per_kwh_with_vat(high) * (1 + 1e-6)


def test_sensitivity_equals_the_model_under_other_assumptions() -> None:
    tariffs = [load_tariff(name) for name in ("evn-household", "evn-business")]
    rows = MODEL.sensitivity(2.0, None, utilisations=(0.1, 0.5), tariffs=tariffs, lives=(1.0, 3.0))
    assert len(rows) == 8
    row = next(row for row in rows if (row.utilisation, row.life_years) == (0.1, 3.0))
    model = replace(MODEL, utilisation=0.1, tariff=tariffs[0], life_years=3.0)
    assert row.tariff == "EVN household"
    assert row.vnd_per_1000 == pytest.approx(model.answer(2.0).vnd_per_1000)
    assert row.ratio == pytest.approx(model.answer(2.0).vnd / MODEL.answer(2.0).vnd)
    own = MODEL.sensitivity(2.0, utilisations=(0.5,), lives=(1.0,))
    assert len(own) == 1 and own[0].tariff == "flat" and own[0].ratio == pytest.approx(1.0)
    rented = CostModel(board=RENTED).sensitivity(2.0)
    assert {row.life_years for row in rented} == {None} and len(rented) == 5


def test_assumptions_lists_assumed_figures() -> None:
    pi = CostModel(board=load_board("raspberry-pi-5"), tariff=load_tariff("evn-business"))
    names = [name for name, _, _ in pi.assumptions()]
    assert names == ["extras", "life_years", "usd_vnd", "utilisation"]
    assert "base_kwh_per_month" in [name for name, _, _ in CostModel().assumptions()]


@pytest.mark.parametrize("name", sorted(path.stem for path in BOARDS.glob("*.toml")))
def test_every_board_has_a_plausible_cost(name: str) -> None:
    for tariff in tariff_names():
        cost = CostModel(board=load_board(name), tariff=load_tariff(tariff)).answer(10.0)
        assert 10 < cost.vnd_per_1000 < 100_000  # đồng per 1,000 answers of ten seconds


def test_the_basis_names_the_defaults() -> None:
    basis = CostModel().answer(1.0).basis
    for part in (
        "Unknown machine",
        "EVN household",
        "25 W of the board",
        "30% utilisation",
        "partly assumed",
    ):
        assert part in basis


@pytest.mark.parametrize(
    "wrong",
    [
        {"utilisation": 0.0},
        {"utilisation": 1.1},
        {"utilisation": float("nan")},
        {"watts": -5.0},
        {"pue": 0.5},
        {"network_vnd_per_month": -1.0},
        {"life_years": 0.0},
    ],
)
def test_values_out_of_range_raise(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected .*, got"):
        CostModel(**wrong)  # type: ignore[arg-type]


def test_negative_seconds_and_joules_raise() -> None:
    for seconds, joules in ((-1.0, None), (float("nan"), None), (1.0, -1.0)):
        with pytest.raises(ValueError, match="expected 0 or more"):
            MODEL.answer(seconds, joules)
