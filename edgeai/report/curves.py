"""Curves and confusion matrices as inline SVG, beside the bars and dots of edgeai.report.svg."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgeai.errors import UsageError
from edgeai.report.html import Html

WIDTH = 360
PLOT_HEIGHT = 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 8, 38
_LEGEND_ROW = 18
_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
# told apart on white and on near-black, and by people who do not tell red from green (Okabe & Ito 2008, the darker ones)
COLOURS = ("var(--accent)", "#d55e00", "#009e73", "#cc79a7", "#a6761d", "#7570b3")
_MAX_POINTS = 240
# characters of a name that fit beside a matrix, and cells that numbers fit into
_NAME_CHARACTERS = 13
_CELL_TEXT = 17
_MAX_CELL = 52.0


@dataclass(frozen=True, slots=True)
class Line:
    """xs, ys: (M,) points from left to right, joined. mark: a point on it that is shown as a dot. dashed: for what is ideal."""

    name: str
    xs: Sequence[float] | NDArray[np.float64]
    ys: Sequence[float] | NDArray[np.float64]
    mark: tuple[float, float] | None = None
    dashed: bool = False


def line_chart(title: str, lines: Sequence[Line], *, x: str, y: str) -> Html:
    """Lines over 0..1 on both axes, at most six, with a legend below. x, y: what the axes are.

    Raises UsageError for no lines, more than six, or a point that is not finite or outside 0..1.
    """
    if not 1 <= len(lines) <= len(COLOURS):
        raise UsageError(f"chart {title!r} takes 1 to {len(COLOURS)} lines, got {len(lines)}")
    for line in lines:
        values = [*line.xs, *line.ys, *(line.mark or ())]
        if not all(math.isfinite(v) and -1e-9 <= v <= 1 + 1e-9 for v in values) or not len(line.xs):
            raise UsageError(f"chart {title!r}: line {line.name!r} needs points in 0 to 1")
    drawn = [_axes(x, y)]
    for number, line in enumerate(lines):
        colour = COLOURS[number]
        drawn.append(_path(line, colour))
        if line.mark is not None:
            drawn.append(
                f'<circle cx="{_x(line.mark[0]):.1f}" cy="{_y(line.mark[1]):.1f}" r="4.5" style="fill:{colour}"/>'
            )
    top = _TOP + PLOT_HEIGHT + _BOTTOM + 12
    if len(lines) > 1:
        drawn += [
            f'<line x1="{_LEFT}" y1="{top + k * _LEGEND_ROW}" x2="{_LEFT + 18}" y2="{top + k * _LEGEND_ROW}" '
            f'style="stroke:{COLOURS[k]};stroke-width:2"{_dash(line)}/>'
            f'<text x="{_LEFT + 26}" y="{top + k * _LEGEND_ROW + 4}">{escape(_short(line.name, 40))}</text>'
            for k, line in enumerate(lines)
        ]
    height = top + _LEGEND_ROW * len(lines) if len(lines) > 1 else top
    spoken = f"{y} over {x}; " + ", ".join(f"{line.name} ends at {line.ys[-1]:.2f}" for line in lines)
    return _figure(title, drawn, height, spoken)


def matrix_chart(
    title: str, labels: Sequence[str], counts: NDArray[np.int64], *, totals: NDArray[np.int64] | None = None
) -> Html:
    """A confusion matrix: a row what it is, a column what was said, darker the larger its share of the row.

    counts: (K, K). totals: (K,) what is a whole row, the sum of the row where absent. Raises UsageError for another shape.
    """
    k = len(labels)
    if k < 1 or counts.shape != (k, k):
        raise UsageError(f"chart {title!r} needs {k} x {k} counts, got {counts.shape}")
    # room for the names that lean over the last column
    left, top, right_margin = 104, 88, 44
    side = min(_MAX_CELL, (WIDTH - left - right_margin) / k)
    whole = np.maximum(1, counts.sum(axis=1) if totals is None else totals)
    drawn = []
    for row in range(k):
        y = top + row * side
        drawn.append(
            f'<text class="label" x="{left - 6}" y="{y + side / 2 + 4:.1f}" text-anchor="end">'
            f"{escape(_short(labels[row], _NAME_CHARACTERS))}</text>"
        )
        # turned by 60 degrees about its foot, so that long names do not meet
        foot = left + (row + 0.5) * side
        drawn.append(
            f'<text class="label" transform="translate({foot + 3:.1f} {top - 6}) rotate(-60)">'
            f"{escape(_short(labels[row], _NAME_CHARACTERS))}</text>"
        )
        for column in range(k):
            share = min(1.0, counts[row, column] / whole[row])
            x = left + column * side
            colour = "var(--accent)" if row == column else COLOURS[1]
            drawn.append(
                f'<rect class="grid" x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" '
                f'style="fill:{colour};fill-opacity:{0.85 * share:.3f}"><title>{escape(labels[row])} said as '
                f"{escape(labels[column])}: {counts[row, column]}</title></rect>"
            )
            if side >= _CELL_TEXT and counts[row, column]:
                drawn.append(
                    f'<text x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" text-anchor="middle" '
                    f'style="font-size:{min(12.0, side / 2):.0f}px">{counts[row, column]}</text>'
                )
    right = int(np.trace(counts))
    return _figure(title, drawn, top + side * k + 4, f"{right} of {int(counts.sum())} on the diagonal")


def _axes(x: str, y: str) -> str:
    foot, middle = _TOP + PLOT_HEIGHT, (_LEFT + WIDTH - _RIGHT) / 2
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" y1="{_y(tick):.1f}" x2="{WIDTH - _RIGHT}" y2="{_y(tick):.1f}"/>'
        f'<text class="label" x="{_LEFT - 6}" y="{_y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        f'<line class="grid" x1="{_x(tick):.1f}" y1="{_TOP}" x2="{_x(tick):.1f}" y2="{foot}"/>'
        f'<text class="label" x="{_x(tick):.1f}" y="{foot + 15}" text-anchor="middle">{tick:g}</text>'
        for tick in _TICKS
    )
    return (
        f'{grid}<text class="label" x="{middle}" y="{foot + 32}" text-anchor="middle">{escape(x)}</text>'
        f'<text class="label" transform="translate(11 {_TOP + PLOT_HEIGHT / 2}) rotate(-90)" '
        f'text-anchor="middle">{escape(y)}</text>'
    )


def _path(line: Line, colour: str) -> str:
    keep = np.unique(np.linspace(0, len(line.xs) - 1, min(len(line.xs), _MAX_POINTS)).astype(int))
    points = " ".join(f"{_x(float(line.xs[i])):.1f},{_y(float(line.ys[i])):.1f}" for i in keep)
    return f'<polyline points="{points}" style="fill:none;stroke:{colour};stroke-width:2"{_dash(line)}/>'


def _dash(line: Line) -> str:
    return ' stroke-dasharray="4 4"' if line.dashed else ""


def _x(value: float) -> float:
    return _LEFT + (WIDTH - _LEFT - _RIGHT) * value


def _y(value: float) -> float:
    return _TOP + PLOT_HEIGHT * (1 - value)


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _figure(title: str, drawn: Sequence[str], height: float, spoken: str) -> Html:
    return Html(
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(f"{title}: {spoken}")}">'
        f"{''.join(drawn)}</svg></figure>"
    )
