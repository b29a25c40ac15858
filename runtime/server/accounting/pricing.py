"""What a bill is made with: the energy that can be measured here, and the cost model of a board."""

from __future__ import annotations

from binhdan.runtime.cost.cost_model import DEFAULT_BOARD, DEFAULT_TARIFF, CostModel
from binhdan.runtime.cost.figures import Figure, Tariff, load_board, load_tariff
from binhdan.runtime.energy import Meter, find_meters
from binhdan.runtime.server.accounting.bill import Biller
from binhdan.runtime.server.config import ServerConfig


def find_meter() -> Meter | None:
    """The best meter of this machine; None when nothing measures it."""
    return find_meters().best


def make_biller(config: ServerConfig, meter: Meter | None) -> Biller:
    """Raises FigureError for a board or a tariff that there is not, InvalidArgumentError for wrong watts."""
    pricing = CostModel(
        board=load_board(config.board or DEFAULT_BOARD),
        tariff=_tariff(config.tariff),
        watts=config.watts,
        whole_meter=meter is None or meter.whole,
    )
    return Biller(pricing, meter)


def _tariff(tariff: str | float | None) -> Tariff:
    """By name or file, or a price per kWh that has everything in it."""
    if tariff is None:
        return load_tariff(DEFAULT_TARIFF)
    try:
        price = float(tariff)
    except ValueError:
        return load_tariff(str(tariff))
    nothing = Figure(value=0.0, assumed=True, note="in the price")
    return Tariff(
        name=f"{price:g} đ/kWh", assumed=True, note="the operator's", vnd_per_kwh=price, vat=nothing
    )
