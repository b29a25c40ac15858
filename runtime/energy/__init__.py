"""Energy of this machine: meters behind one interface.

    found = find_meters()
    meter = found.best                                 # None without a meter; found.reasons explains
    watch = EnergyWatch(meter, measure_idle(meter))
    ...                                                # work
    energy = watch.lap()                               # joules, gross and above idle, and their source

No value is estimated: what cannot be measured is None, and declared watts have `measured = False`. A meter
that loses its source raises MeterError from then on. Uses the standard library only.
"""

from __future__ import annotations

from binhdan.runtime.energy.find import Found, find_meters
from binhdan.runtime.energy.meter import DeclaredWatts, Meter, MeterError
from binhdan.runtime.energy.watch import Energy, EnergyWatch, Idle, measure_idle

__all__ = [
    "DeclaredWatts",
    "Energy",
    "EnergyWatch",
    "Found",
    "Idle",
    "Meter",
    "MeterError",
    "find_meters",
    "measure_idle",
]
