"""The cost model of a server, from the operator's options."""

from __future__ import annotations

from binhdan.runtime.cost.cost_model import DEFAULT_BOARD, DEFAULT_TARIFF, CostModel
from binhdan.runtime.cost.figures import Figure, Tariff, load_board, load_tariff
from binhdan.runtime.energy import Meter


def make_cost_model(
    board: str | None, tariff: str | float | None, watts: float | None, meter: Meter | None
) -> CostModel:
    """Returns the cost model of a board under a tariff, each a name or a file; None takes the default.

    `tariff` may also be the price of a kWh in đồng, VAT included. `watts`: declared watts of the busy
    machine. `meter` measures the joules that the model is given. Raises FigureError for an unknown board or
    tariff, InvalidArgumentError for watts out of range.
    """
    return CostModel(
        board=load_board(board or DEFAULT_BOARD),
        tariff=_tariff(DEFAULT_TARIFF if tariff is None else tariff),
        watts=watts,
        whole_meter=meter is None or meter.whole,
    )


def _tariff(tariff: str | float) -> Tariff:
    try:
        price = float(tariff)
    except ValueError:
        return load_tariff(str(tariff))
    vat = Figure(value=0.0, assumed=True, note="included in the price")
    return Tariff(
        name=f"{price:g} đ/kWh", assumed=True, note="price set by the operator", vnd_per_kwh=price, vat=vat
    )
