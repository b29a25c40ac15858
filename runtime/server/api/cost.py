"""/v1/cost: tokens, energy and cost, from the ledger."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import date
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from binhdan.runtime.server.accounting.ledger import TIME_ZONE, GroupBy
from binhdan.runtime.server.accounting.totals import LedgerError, Totals
from binhdan.runtime.server.errors import ApiError

router = APIRouter(tags=["cost"])

_Day = Annotated[str | None, Query(pattern=r"^\d{4}-\d{2}-\d{2}$", max_length=10, examples=["2026-11-22"])]


class Usage(BaseModel):
    """Sums over answers."""

    answers: int
    prompt_tokens: int
    cached_tokens: int = Field(description="Prompt tokens that came from the prefix cache.")
    answer_tokens: int
    joules: float | None = Field(description="Measured energy; null without a measurement.")
    measured_answers: int = Field(description="The number of answers with measured energy.")
    cost_vnd: float

    @classmethod
    def of(cls, totals: Totals, **more: str) -> Self:
        figures = asdict(totals)
        if not totals.measured_answers:
            figures["joules"] = None
        return cls.model_validate(figures | more)


class Group(Usage):
    group: str = Field(description="The name of the key, the day, or the model.")


class CostReport(BaseModel):
    object: Literal["list"] = "list"
    by: GroupBy
    time_zone: str = Field(description="Days begin at midnight in this zone.")
    data: list[Group]
    total: Usage


@router.get("/v1/cost", responses={503: {"description": "The ledger cannot be read."}})
async def cost(
    request: Request,
    start: Annotated[
        _Day, Query(alias="from", description="First day. The default is the first day of the ledger.")
    ] = None,
    end: Annotated[_Day, Query(alias="to", description="Last day, inclusive. The default is today.")] = None,
    by: GroupBy = "day",
) -> CostReport:
    """Answers, tokens, measured joules and cost, by day, key or model. A key sees its own answers. A key with
    admin = true, and every caller of a server without keys, sees all answers."""
    ledger = request.app.state.server.ledger
    first, last = _day(start, "from"), _day(end, "to")
    if first and last and first > last:
        raise ApiError(400, f"from: expected a day up to {last}, the value of to, got {first}", param="from")
    caller = request.state.caller
    key = None if caller.admin else caller.name
    try:
        groups = await asyncio.to_thread(ledger.sum, first, last, by=by, key=key)
    except LedgerError as error:
        raise ApiError(
            503, "the server cannot read its ledger; try again later", type="server_error"
        ) from error
    total = Totals()
    for _, totals in groups:
        total.add(totals)
    return CostReport(
        by=by,
        time_zone=str(TIME_ZONE),
        data=[Group.of(totals, group=name) for name, totals in groups],
        total=Usage.of(total),
    )


def _day(text: str | None, name: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ApiError(
            400, f"{name}: expected a day of the calendar such as 2026-11-22, got {text}", param=name
        ) from None
