"""Plans as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from binhdan.bench.common.tables import columns, named_values, spread_text

if TYPE_CHECKING:
    from binhdan.bench.plan.plan import Plan


def plan_table(plan: Plan) -> str:
    measured = ", ".join(part for part in (plan.server, plan.model, plan.machine) if part)
    head = f"measured: {measured}\nboard: {plan.cost.basis}"
    parts = [head, _fleet(plan), _hours(plan), _assumptions(plan)]
    if plan.sensitivity:
        parts.insert(3, _sensitivity(plan))
    return "\n\n".join(parts)


def _fleet(plan: Plan) -> str:
    cost = plan.cost
    rows = [
        ("demand", f"{plan.users:,.0f} users, {plan.answers_per_day:g} answers per user and day"),
        ("requests", f"{plan.peak_rate:,.1f}/s at the peak, {plan.mean_rate:,.1f}/s on average"),
        ("boards", f"{plan.boards:,} in {plan.cells:,} cells, and {plan.spare_boards:,} spare"),
        ("board, peak", f"{plan.board_rate:.3f} answers/s, {_load(plan)}"),
        ("utilisation", f"{plan.utilisation_peak:.1%} at the peak, {plan.utilisation_mean:.1%} on average"),
        ("latency, peak", _latency(plan)),
        ("wait, peak", f"p50 {plan.wait_peak_p50_s:.2f} s, p95 {plan.wait_peak_p95_s:.2f} s"),
        ("1 answer", f"{cost.vnd:,.3f} đ"),
        ("1,000 answers", f"{cost.vnd_per_1000:,.0f} đ, {cost.usd_per_1000:.4f} USD"),
        ("of this, đ", ", ".join(f"{name} {vnd * 1000:,.1f}" for name, vnd in cost.parts.items() if vnd)),
        ("1 month", f"{plan.cost_per_month_vnd / 1e9:,.2f} billion đ"),
    ]
    if plan.capital_vnd is not None:
        rows.append(("hardware price", f"{plan.capital_vnd / 1e9:,.2f} billion đ"))
    if plan.megawatts_peak is None or plan.megawatts_mean is None or plan.kwh_per_1000 is None:
        rows.append(("power", "unknown: the boards are rented"))
    else:
        rows.append(
            ("power", f"{_mw(plan.megawatts_peak)} MW at the peak, {_mw(plan.megawatts_mean)} MW on average")
        )
        rows.append(("energy", f"{plan.kwh_per_1000:.4f} kWh per 1,000 answers"))
    return named_values(rows)


def _load(plan: Plan) -> str:
    load = plan.board_rate / plan.max_board_rate
    why = " (the allowed maximum)" if plan.boards == plan.min_boards else ""
    return f"load {load:.1%}{why}"


def _latency(plan: Plan) -> str:
    p95 = spread_text(plan.latency_peak_p95_s, "{:.2f}")
    return f"p50 {plan.latency_peak_p50_s:.2f} s, p95 {p95} s, limit {plan.target_p95_s:g} s"


def _hours(plan: Plan) -> str:
    rows = [["hour", "requests/s", "load", "busy", "p95", "MW"]]
    rows += [
        [
            f"{hour.hour}:00",
            f"{hour.rate:,.1f}",
            f"{hour.load:.0%}",
            f"{hour.busy:.0%}",
            f"{hour.p95_s:.1f} s",
            _mw(hour.megawatts),
        ]
        for hour in plan.hours
    ]
    return columns(rows)


def _sensitivity(plan: Plan) -> str:
    rows = [["one change", "boards", "MW", "đ per 1,000", "cost ratio"]]
    rows.append(
        [
            "none",
            f"{plan.boards + plan.spare_boards:,}",
            _mw(plan.megawatts_peak),
            f"{plan.cost.vnd_per_1000:,.0f}",
            "1.00",
        ]
    )
    for variant in plan.sensitivity:
        if variant.boards is None or variant.vnd_per_1000 is None or variant.ratio is None:
            rows.append([variant.change, "out of reach", "", "", ""])
        else:
            rows.append(
                [
                    variant.change,
                    f"{variant.boards:,}",
                    _mw(variant.megawatts_peak),
                    f"{variant.vnd_per_1000:,.0f}",
                    f"{variant.ratio:.2f}",
                ]
            )
    return columns(rows)


def _assumptions(plan: Plan) -> str:
    rows = [(name, f"{_value(value)}  {note}") for name, value, note in plan.assumptions]
    return f"assumed or given:\n{named_values(rows)}"


def _value(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _mw(megawatts: float | None) -> str:
    return "" if megawatts is None else f"{megawatts:.3g}"
