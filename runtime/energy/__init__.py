"""How much energy this machine takes: meters behind one small interface.

    found = find_meters()
    meter = found.best                                 # None where nothing measures: found.reasons says why
    watch = EnergyWatch(meter, measure_idle(meter))
    ...                                                # work
    energy = watch.lap()                               # joules, gross and above idle, and who says so

Nothing here guesses: what cannot be measured is None, what was declared says so. A meter that loses its
source raises MeterError from then on. Standard library only.
"""

from __future__ import annotations

from binhdan.runtime.energy.find import Found, find_meters
from binhdan.runtime.energy.meter import DeclaredWatts, Meter, MeterError
from binhdan.runtime.energy.wall import WallLog
from binhdan.runtime.energy.watch import Energy, EnergyWatch, Idle, measure_idle

__all__ = [
    "DeclaredWatts",
    "Energy",
    "EnergyWatch",
    "Found",
    "Idle",
    "Meter",
    "MeterError",
    "WallLog",
    "find_meters",
    "measure_idle",
]
