"""Small charts as inline SVG. Colours are CSS classes: the page sets them for light, dark and print.

Coordinates are pixels of a chart that is 360 wide, as on a phone; the page scales it up to twice that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH = 360.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 10.0, 34.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to chart coordinates."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        read: Callable[[float], float] = math.log10 if self.log else float
        low, high = read(self.low), read(self.high)
        share = (read(max(value, self.low) if self.log else value) - low) / ((high - low) or 1.0)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        return _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high)


@dataclass(slots=True)
class Chart:
    """A plot with axes."""

    title: str  # for screen readers
    x: Scale
    y: Scale
    height: float
    parts: list[str] = field(default_factory=list)

    def line(self, points: Sequence[tuple[float, float]], style: str) -> None:
        path = " ".join(f"{_n(self.x(x))},{_n(self.y(y))}" for x, y in points)
        self.parts.append(f'<polyline class="line {style}" points="{path}"/>')

    def dots(self, points: Sequence[tuple[float, float]], style: str, names: Sequence[str] = ()) -> None:
        for place, (x, y) in enumerate(points):
            title = f"<title>{escape(names[place])}</title>" if names else ""
            at = f'cx="{_n(self.x(x))}" cy="{_n(self.y(y))}" r="4"'
            self.parts.append(f'<circle class="dot {style}" {at}>{title}</circle>')

    def text(self, x: float, y: float, words: str, anchor: str = "start", style: str = "") -> None:
        """Text at chart coordinates."""
        self.parts.append(
            f'<text class="{style}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def bar(self, left: float, right: float, y: float, height: float, style: str, name: str = "") -> None:
        """A bar from value `left` to value `right`; `y` and `height` are chart coordinates."""
        begin, end = sorted((self.x(left), self.x(right)))
        title = f"<title>{escape(name)}</title>" if name else ""
        self.parts.append(
            f'<rect class="{style}" x="{_n(begin)}" y="{_n(y)}" width="{_n(max(end - begin, 1.0))}" '
            f'height="{_n(height)}">{title}</rect>'
        )

    def tick(self, value: float, y: float, height: float, style: str) -> None:
        at = _n(self.x(value))
        self.parts.append(f'<line class="{style}" x1="{at}" x2="{at}" y1="{_n(y)}" y2="{_n(y + height)}"/>')

    def svg(self) -> str:
        inner = "".join(self.parts)
        return (
            f'<svg viewBox="0 0 {_n(WIDTH)} {_n(self.height)}" role="img" aria-label="{escape(self.title)}">'
            f"{inner}</svg>"
        )


def plot(
    title: str,
    xs: tuple[float, float],
    ys: tuple[float, float],
    *,
    x_label: str,
    y_label: str,
    height: float = 240.0,
    log_x: bool = False,
    log_y: bool = False,
) -> Chart:
    """A chart with two axes and a grid."""
    x = Scale(*xs, _LEFT, WIDTH - _RIGHT, log_x)
    y = Scale(*ys, height - _BOTTOM, _TOP + 12, log_y)
    chart = Chart(title, x, y, height)
    for value in y.ticks():
        at = y(value)
        chart.parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{_n(at)}" y2="{_n(at)}"/>'
        )
        chart.text(_LEFT - 5, at + 4, short(value), "end", "axis")
    for value in x.ticks():
        at = x(value)
        chart.parts.append(
            f'<line class="grid" x1="{_n(at)}" x2="{_n(at)}" y1="{_TOP + 12}" y2="{height - _BOTTOM}"/>'
        )
        chart.text(at, height - _BOTTOM + 14, short(value), "middle", "axis")
    chart.text(WIDTH - _RIGHT, height - 5, x_label, "end", "axis")
    chart.text(4, _TOP + 2, y_label, "start", "axis")
    return chart


def rows(
    title: str, xs: tuple[float, float], count: int, *, x_label: str, log_x: bool, row: float = 34.0
) -> Chart:
    """A chart of `count` rows: a name, and a bar below it."""
    height = _TOP + count * row + _BOTTOM
    x = Scale(*xs, 8.0, WIDTH - _RIGHT, log_x)
    chart = Chart(title, x, Scale(0, 1, 0, 1), height)
    bottom = height - _BOTTOM
    for value in x.ticks():
        at = _n(x(value))
        chart.parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_n(bottom)}"/>')
        at_the_edge = x(value) < 20
        chart.text(x(value), bottom + 14, short(value), "start" if at_the_edge else "middle", "axis")
    chart.text(WIDTH - _RIGHT, height - 5, x_label, "end", "axis")
    return chart


def short(value: float) -> str:
    """1,500 becomes "1.5k"."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def decades(values: Sequence[float]) -> tuple[float, float]:
    """Rounded ends of a logarithmic axis for the positive ones of `values`."""
    known = [value for value in values if value > 0] or [1.0]
    low, high = math.log10(min(known)), math.log10(max(known))
    return 10 ** (math.floor(low * 3) / 3), 10 ** (math.ceil(high * 3 + 1e-9) / 3)


def _ticks(low: float, high: float) -> list[float]:
    span = (high - low) or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 5)
    first = math.ceil(low / step)
    return [step * (first + i) for i in range(int((high - first * step) / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    found = [m * 10**e for e in range(first, last + 1) for m in steps]
    return [value for value in found if low * 0.999 <= value <= high * 1.001]


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
