"""runtime/server/accounting/bill.py: time and energy are divided among answers that run together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_records import record
from sysfs_tree import rapl

from binhdan.runtime.cost.cost_model import Cost, CostModel
from binhdan.runtime.cost.figures import load_board
from binhdan.runtime.energy import DeclaredWatts, Meter, MeterError, find_meters
from binhdan.runtime.server.accounting.bill import ANSWER_TOKEN_WORK, Bill, Biller, Work


class Machine(Meter):
    """A machine of 10 W. It is the clock and the meter; a test sets its `seconds`."""

    def __init__(self, *, measured: bool = True, source: str = "rapl package") -> None:
        self.seconds = 0.0
        self.measured = measured
        self.source = source
        self.failing = False

    def parts(self) -> Mapping[str, float]:
        if self.failing:
            raise MeterError("the sensor is gone")
        return {"package": 10.0 * self.seconds}


class PricePerSecond(CostModel):
    """1 đ per second, 0.1 đ per measured joule."""

    def answer(self, seconds_busy: float, joules: float | None = None) -> Cost:
        basis = "time alone" if joules is None else "time and energy"
        return Cost(vnd=seconds_busy + 0.1 * (joules or 0.0), usd=0.0, basis=basis, parts={})


def seconds_of(bill: Bill) -> float:
    """The share of the machine's time in a bill under PricePerSecond."""
    assert bill.cost_vnd is not None
    return bill.cost_vnd - 0.1 * (bill.joules or 0.0)


def biller(machine: Machine) -> Biller:
    return Biller(PricePerSecond(), machine, clock=lambda: machine.seconds)


def test_an_answer_that_runs_alone_is_charged_for_its_whole_duration() -> None:
    machine = Machine()
    bills = biller(machine)
    machine.seconds = 5.0  # idle time, which no bill includes
    work = bills.begin()
    machine.seconds = 6.0
    work.first_token(100)
    machine.seconds = 7.0
    work.tokens(20)
    bill = bills.bill(record(), work)
    assert seconds_of(bill) == pytest.approx(2.0) and bill.joules == pytest.approx(20.0)
    assert bill.cost_vnd == pytest.approx(2.0 + 2.0) and bill.cost_basis == "time and energy"
    assert bill.energy_source == "rapl package"


def test_usage_object() -> None:
    machine = Machine()
    bills = biller(machine)
    work = bills.begin()
    machine.seconds = 0.5
    usage = bills.bill(record(), work).usage()
    assert json.loads(json.dumps(usage)) == {
        "queue_ms": 10.0,
        "prompt_ms": 100.0,
        "decode_ms": 1000.0,
        "joules": 5.0,
        "energy_source": "rapl package",
        "cost_vnd": 1.0,
        "cost_basis": "time and energy",
    }


def test_two_equal_answers_are_charged_half_each() -> None:
    machine = Machine()
    bills = biller(machine)
    works = [bills.begin(), bills.begin()]
    for second in range(1, 11):
        machine.seconds = float(second)
        for work in works:
            work.first_token(60) if second == 1 else work.tokens()
    alike = record(prompt_tokens=60, cached_tokens=0, answer_tokens=10)
    paid = [bills.bill(alike, work) for work in works]
    assert [seconds_of(bill) for bill in paid] == pytest.approx([5.0, 5.0])
    assert [bill.joules for bill in paid] == pytest.approx([50.0, 50.0])


def test_shares_follow_work_not_time() -> None:
    machine = Machine()
    bills = biller(machine)
    long, short = bills.begin(), bills.begin()
    machine.seconds = 1.0
    long.first_token(300)
    short.first_token(100)
    machine.seconds = 4.0
    one = {"cached_tokens": 0, "answer_tokens": 1}
    paid = [
        bills.bill(record(prompt_tokens=300, **one), long).joules,
        bills.bill(record(prompt_tokens=100, **one), short).joules,
    ]
    work = 300 + ANSWER_TOKEN_WORK, 100 + ANSWER_TOKEN_WORK
    assert paid == pytest.approx([40.0 * own / sum(work) for own in work])


def test_cached_prompt_tokens_are_free() -> None:
    machine = Machine()
    bills = biller(machine)

    def pair() -> tuple[float, float]:
        cached, computed = bills.begin(), bills.begin()
        machine.seconds += 1.0
        for work in (cached, computed):
            work.first_token(1000)
        one = {"prompt_tokens": 1000, "answer_tokens": 1}
        bill, other = (
            bills.bill(record(cached_tokens=tokens, **one), work)
            for tokens, work in ((900, cached), (0, computed))
        )
        return seconds_of(bill), seconds_of(other)

    cached, computed = pair()
    assert computed > 5 * cached
    assert cached + computed == pytest.approx(
        1.0, rel=0.5
    )  # the bill corrects the estimate of the first token


def test_the_computed_fraction_follows_recent_prompts() -> None:
    bills = Biller()
    for _ in range(100):
        bills.bill(record(prompt_tokens=1000, cached_tokens=900), bills.begin())
    assert bills.computed_fraction == pytest.approx(0.1, abs=0.01)


def test_a_larger_model_is_charged_more() -> None:
    machine = Machine()
    bills = biller(machine)
    small, large = bills.begin(scale=0.5), bills.begin(scale=4.5)
    machine.seconds = 1.0
    for work in (small, large):
        work.first_token(50)
    alike = record(prompt_tokens=50, cached_tokens=0, answer_tokens=1)
    assert [bills.bill(alike, work).joules for work in (small, large)] == pytest.approx([1.0, 9.0])


def test_shares_add_up_under_steady_load() -> None:
    machine = Machine()
    bills = biller(machine)
    slots: list[tuple[Work, int]] = [(bills.begin(), -30 * slot) for slot in range(8)]  # staggered starts
    paid = 0.0
    for _ in range(4000):
        machine.seconds += 0.05
        for slot, (work, age) in enumerate(slots):
            if age == 0:
                work.first_token(200)
            elif age > 0:
                work.tokens()
            slots[slot] = work, age + 1
            if age == 99:
                alike = record(prompt_tokens=200, cached_tokens=0, answer_tokens=100)
                paid += bills.bill(alike, work).joules or 0.0
                slots[slot] = bills.begin(), 0
    assert paid == pytest.approx(machine.read(), rel=0.03)


def test_an_answer_without_work_costs_nothing() -> None:
    machine = Machine()
    bills = biller(machine)
    waiting = bills.begin()
    machine.seconds = 30.0
    cancelled = record(finish_reason="cancelled", prompt_tokens=0, cached_tokens=0, answer_tokens=0)
    bill = bills.bill(cancelled, waiting)
    assert (seconds_of(bill), bill.joules, bill.cost_vnd) == (0.0, 0.0, 0.0)


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 500)),
        max_size=40,
    )
)
def test_no_bill_exceeds_the_duration_of_its_answer(answers: list[tuple[int, int, int, int]]) -> None:
    machine = Machine()
    bills = biller(machine)
    running: list[Work] = []
    for action, prompt, cached, tokens in answers:
        machine.seconds += 1.0
        running.append(bills.begin())
        work = running[prompt % len(running)]
        if action == 0:
            work.first_token(prompt)
        elif action == 1:
            work.tokens(tokens)
        else:
            running.remove(work)
            ended = record(prompt_tokens=prompt, cached_tokens=cached, answer_tokens=tokens)
            bill = bills.bill(ended, work)
            assert -1e-9 <= seconds_of(bill) <= machine.seconds - work.started + 1e-9
            assert bill.joules == pytest.approx(10.0 * seconds_of(bill))


def test_without_a_meter_joules_are_null() -> None:
    bills = Biller(PricePerSecond())
    bill = bills.bill(record(), bills.begin())
    assert bill.joules is None and bill.energy_source is None and bill.cost_basis == "time alone"


def test_declared_watts_are_not_joules() -> None:
    bills = biller(Machine(measured=False, source="declared 10 W"))
    bill = bills.bill(record(), bills.begin())
    assert bill.joules is None and bill.energy_source is None


def test_joules_are_null_after_the_meter_failed(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    bills = biller(machine)
    work = bills.begin()
    machine.seconds, machine.failing = 1.0, True
    bill = bills.bill(record(), work)
    assert bill.joules is None and seconds_of(bill) == pytest.approx(1.0)
    assert bills.meter_error == "the sensor is gone"
    machine.failing = False  # the count may have restarted from another zero, so it is not used
    assert bills.bill(record(), bills.begin()).joules is None
    (line,) = caplog.records
    assert "meter failed" in line.message and vars(line)["reason"] == "the sensor is gone"


def test_without_a_cost_model_the_cost_is_null() -> None:
    bills = Biller()
    bill = bills.bill(record(), bills.begin())
    assert bill.cost_vnd is None and bill.usage()["cost_vnd"] is None and "no cost model" in bill.cost_basis


def test_with_the_real_cost_model_and_a_real_meter(tmp_path: Path) -> None:
    zone = rapl(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    meter = find_meters(tmp_path).best
    assert meter is not None
    cost_model = CostModel(board=load_board("intel-n150"), whole_meter=meter.whole)
    machine = Machine()
    bills = Biller(cost_model, meter, clock=lambda: machine.seconds)
    work = bills.begin()
    machine.seconds = 1.5
    (zone / "energy_uj").write_text("13500000")
    bill = bills.bill(record(), work)
    meter.close()
    assert bill.joules == pytest.approx(12.5) and bill.energy_source == "rapl package"
    expected = cost_model.answer(1.5, 12.5)
    assert bill.cost_vnd == pytest.approx(expected.vnd) and bill.cost_vnd
    assert bill.cost_basis == cost_model.basis_measured and "Intel N150" in bill.cost_basis


def test_declared_watts_are_in_the_cost_and_its_basis() -> None:
    bills = Biller(CostModel(watts=12.0), DeclaredWatts(12.0))
    bill = bills.bill(record(), bills.begin())
    assert bill.joules is None and bill.cost_vnd and "12 W declared" in bill.cost_basis
