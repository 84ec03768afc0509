"""Plots on two axes as inline SVG, linear or logarithmic: points, lines, and boxes of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from edgeai.errors import UsageError
from edgeai.report.curves import COLOURS
from edgeai.report.html import Html

WIDTH = 360
_HEIGHT = 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 40
_LEGEND_ROW = 18
_BOX_ROW = 34
_NAME_CHARACTERS = 44
_LOG_FROM = 12.0
"""Values that differ by more than this factor are shown on a logarithmic scale where the caller leaves it open."""


@dataclass(frozen=True, slots=True)
class Point:
    """A dot. y_range: a vertical whisker."""

    name: str
    x: float
    y: float
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Polyline:
    """Points joined in the order given; without a name it is not in the legend. dashed: for what is only a limit."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    colour: int | None = None


@dataclass(frozen=True, slots=True)
class Axis:
    """title: what it shows, with its unit. log: None is logarithmic where the values are far apart."""

    title: str
    log: bool | None = None


class _Scale:
    """Values to pixels, with ticks at round numbers."""

    def __init__(self, values: Sequence[float], axis: Axis, start: float, stop: float) -> None:
        low, high = min(values), max(values)
        self.log = axis.log if axis.log is not None else low > 0 and high > _LOG_FROM * low
        self._start, self._stop = start, stop
        if self.log:
            # a bit of air on both sides
            self._low, self._high = math.log10(low) - 0.12, math.log10(high) + 0.12
            self.ticks = _log_ticks(10**self._low, 10**self._high)
        else:
            air = 0.08 * ((high - low) or abs(high) or 1.0)
            self._low, self._high = low - air, high + air
            if low >= 0 > self._low:
                self._low = 0.0
            self.ticks = _ticks(self._low, self._high)

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.log else value
        return self._start + (self._stop - self._start) * (at - self._low) / (self._high - self._low)


def scatter_plot(
    title: str, points: Sequence[Point], *, x: Axis, y: Axis, lines: Sequence[Polyline] = ()
) -> Html:
    """Dots in colours told apart by a legend below, and lines behind them.

    At most six points have a colour of their own; more begin again. Raises UsageError for no point, for a number that is not
    finite, or not above 0 on a logarithmic axis.
    """
    xs = [point.x for point in points] + [at[0] for line in lines for at in line.points]
    ys = [v for point in points for v in (point.y, *(point.y_range or ()))]
    ys += [at[1] for line in lines for at in line.points]
    _check(title, points, xs, x)
    _check(title, points, ys, y)
    across = _Scale(xs, x, _LEFT, WIDTH - _RIGHT)
    up = _Scale(ys, y, _TOP + _HEIGHT, _TOP)
    drawn = [_grid(across, up, x.title, y.title)]
    legend = []
    for number, line in enumerate(lines):
        colour = COLOURS[(number if line.colour is None else line.colour) % len(COLOURS)]
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in line.points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        drawn.append(f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:1.8"{dash}/>')
        if line.name:
            legend.append(
                (
                    f'<line x1="0" y1="-4" x2="16" y2="-4" style="stroke:{colour};stroke-width:2"{dash}/>',
                    line.name,
                )
            )
    for number, point in enumerate(points):
        colour = COLOURS[number % len(COLOURS)]
        at, height = across(point.x), up(point.y)
        if point.y_range is not None:
            low, high = (up(value) for value in point.y_range)
            drawn.append(
                f'<line x1="{at:.1f}" y1="{low:.1f}" x2="{at:.1f}" y2="{high:.1f}" '
                f'style="stroke:{colour};stroke-width:2;opacity:.5"/>'
            )
        drawn.append(f'<circle cx="{at:.1f}" cy="{height:.1f}" r="5" style="fill:{colour}"/>')
        legend.append((f'<circle cx="8" cy="-4" r="5" style="fill:{colour}"/>', point.name))
    top = _TOP + _HEIGHT + _BOTTOM + 14
    drawn += [
        f'<g transform="translate({_LEFT - 40} {top + row * _LEGEND_ROW})">{sign}'
        f'<text x="24" y="0">{escape(_short(name))}</text></g>'
        for row, (sign, name) in enumerate(legend)
    ]
    spoken = ", ".join(f"{point.name}: {point.x:.4g}, {point.y:.4g}" for point in points)
    return _figure(title, drawn, top + _LEGEND_ROW * len(legend), f"{y.title} over {x.title}; {spoken}")


def box_plot(title: str, rows: Sequence[tuple[str, Sequence[float]]], *, x: Axis) -> Html:
    """One box a row over a common axis: its ends the quartiles, the line the median, whiskers the 1st and 99th percentile.

    Raises UsageError for no row, an empty one, or a sample that is not finite, or not above 0 on a logarithmic axis.
    """
    if not rows or not all(len(samples) for _, samples in rows):
        raise UsageError(f"plot {title!r} needs samples in every row")
    parts = [[float(v) for v in np.percentile(samples, (1, 25, 50, 75, 99))] for _, samples in rows]
    values = [value for part in parts for value in part]
    _check(title, rows, values, x)
    across = _Scale(values, x, 12, WIDTH - 12)
    foot = _BOX_ROW * len(rows) + 2
    drawn = [
        f'<line class="grid" x1="{across(tick):.1f}" y1="0" x2="{across(tick):.1f}" y2="{foot}"/>'
        f'<text class="label" x="{across(tick):.1f}" y="{foot + 15}" text-anchor="middle">{tick:g}</text>'
        for tick in across.ticks
    ]
    drawn.append(
        f'<text class="label" x="{WIDTH / 2}" y="{foot + 32}" text-anchor="middle">{escape(x.title)}</text>'
    )
    for number, ((name, _), part) in enumerate(zip(rows, parts, strict=True)):
        low, first, middle, third, high = (across(value) for value in part)
        y = number * _BOX_ROW
        colour = COLOURS[number % len(COLOURS)]
        drawn.append(
            f'<text x="12" y="{y + 12}">{escape(_short(name))}: {part[2]:.4g}</text>'
            f'<line x1="{low:.1f}" y1="{y + 23}" x2="{high:.1f}" y2="{y + 23}" style="stroke:{colour};stroke-width:1.5"/>'
            f'<rect x="{first:.1f}" y="{y + 18}" width="{max(1.5, third - first):.1f}" height="10" rx="2" '
            f'style="fill:{colour};fill-opacity:.55"/>'
            f'<line x1="{middle:.1f}" y1="{y + 16}" x2="{middle:.1f}" y2="{y + 30}" style="stroke:{colour};stroke-width:2.5"/>'
        )
    spoken = ", ".join(f"{name}: median {part[2]:.4g}" for (name, _), part in zip(rows, parts, strict=True))
    return _figure(title, drawn, foot + 40, spoken)


def _grid(across: _Scale, up: _Scale, x: str, y: str) -> str:
    foot = _TOP + _HEIGHT
    lines = [
        f'<line class="grid" x1="{_LEFT}" y1="{up(tick):.1f}" x2="{WIDTH - _RIGHT}" y2="{up(tick):.1f}"/>'
        f'<text class="label" x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in up.ticks
    ]
    lines += [
        f'<line class="grid" x1="{across(tick):.1f}" y1="{_TOP}" x2="{across(tick):.1f}" y2="{foot}"/>'
        f'<text class="label" x="{across(tick):.1f}" y="{foot + 15}" text-anchor="middle">{tick:g}</text>'
        for tick in across.ticks
    ]
    return (
        f"{''.join(lines)}"
        f'<text class="label" x="{(_LEFT + WIDTH - _RIGHT) / 2}" y="{foot + 33}" text-anchor="middle">{escape(x)}</text>'
        f'<text class="label" transform="translate(11 {_TOP + _HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )


def _ticks(low: float, high: float) -> list[float]:
    """Four to nine multiples of 1, 2 or 5 times a power of ten, inside."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next((m for m in (1, 2, 5) if (high - low) / (step * m) <= 7), 10)
    return [float(f"{k * step:.10g}") for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten where there are few, else the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        found = [at for k in powers for m in steps if low <= (at := float(f"{m}e{k}")) <= high]
        if len(found) <= 6:
            break
    return found


def _check(title: str, rows: Sequence[object], values: Sequence[float], axis: Axis) -> None:
    if not rows or not all(map(math.isfinite, values)):
        raise UsageError(f"plot {title!r} needs at least one point, and finite values")
    if axis.log and min(values) <= 0:
        raise UsageError(f"plot {title!r}: {axis.title} is logarithmic, got {min(values)}")


def _short(text: str) -> str:
    return text if len(text) <= _NAME_CHARACTERS else text[: _NAME_CHARACTERS - 1] + "…"


def _figure(title: str, drawn: Sequence[str], height: float, spoken: str) -> Html:
    return Html(
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(f"{title}: {spoken}")}">'
        f"{''.join(drawn)}</svg></figure>"
    )
