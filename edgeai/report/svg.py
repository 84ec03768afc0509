"""Small charts as inline SVG: horizontal bars and dots with intervals, readable at the width of a phone.

Colours come from the page's CSS (classes bar, muted, whisker, value, label), so charts follow light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from html import escape

from edgeai.errors import UsageError
from edgeai.report.html import Html

WIDTH = 360
LABEL_WIDTH = 96
VALUE_WIDTH = 62
ROW = 26
_PLOT = WIDTH - LABEL_WIDTH - VALUE_WIDTH


def bar_chart(
    title: str,
    rows: Sequence[tuple[str, float]],
    *,
    show: Callable[[float], str] = "{:,g}".format,
    muted: Collection[int] = (),
) -> Html:
    """Horizontal bars from zero, one a (label, value). show: how a value is written. muted: rows in grey.

    Raises UsageError for no rows, or a value that is negative or not finite.
    """
    labels, values = [label for label, _ in rows], [value for _, value in rows]
    _check(title, values)
    if min(values) < 0:
        raise UsageError(f"chart {title!r}: bars start at zero, got {min(values)}")
    most = max(values) or 1.0
    drawn = []
    for number, (label, value) in enumerate(rows):
        y = number * ROW
        kind = "bar muted" if number in muted else "bar"
        length = max(1.0, _PLOT * value / most)
        drawn.append(
            _label(label, y)
            + f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{y + 5}" width="{length:.1f}" height="{ROW - 10}" rx="3"/>'
            + _value(show(value), LABEL_WIDTH + length + 6, y)
        )
    return _svg(title, drawn, spoken=_spoken(labels, [show(v) for v in values]))


def dot_chart(
    title: str,
    rows: Sequence[tuple[str, float, tuple[float, float]]],
    *,
    show: Callable[[float], str] = "{:.3f}".format,
    muted: Collection[int] = (),
) -> Html:
    """Dots with whiskers, one a (label, value, interval), on a scale that holds all intervals.

    It does not start at zero: a few percent must be seen. Raises UsageError for no rows, or a number that is not finite.
    """
    ends = [end for _, value, interval in rows for end in (value, *interval)]
    _check(title, ends)
    low, high = min(ends), max(ends)
    span = (high - low) or max(abs(high), 1.0)

    def x_of(value: float) -> float:
        return LABEL_WIDTH + 6 + (_PLOT - 12) * (value - low) / span

    drawn = []
    for number, (label, value, (start, stop)) in enumerate(rows):
        y = number * ROW
        middle = y + ROW / 2
        kind = "dot muted" if number in muted else "dot"
        drawn.append(
            _label(label, y)
            + f'<line class="grid" x1="{LABEL_WIDTH}" y1="{middle}" x2="{LABEL_WIDTH + _PLOT}" y2="{middle}"/>'
            + f'<line class="whisker" x1="{x_of(start):.1f}" y1="{middle}" x2="{x_of(stop):.1f}" y2="{middle}"/>'
            + f'<circle class="{kind}" cx="{x_of(value):.1f}" cy="{middle}" r="5"/>'
            + _value(show(value), LABEL_WIDTH + _PLOT + 8, y)
        )
    spoken = [f"{show(v)} ({show(a)} to {show(b)})" for _, v, (a, b) in rows]
    return _svg(title, drawn, spoken=_spoken([label for label, _, _ in rows], spoken))


def _check(title: str, values: Sequence[float]) -> None:
    if not values or not all(map(math.isfinite, values)):
        raise UsageError(f"chart {title!r} needs at least one row, and finite values")


def _label(text: str, y: float) -> str:
    short = text if len(text) <= 15 else text[:14] + "…"
    return f'<text class="label" x="{LABEL_WIDTH - 8}" y="{y + ROW / 2 + 4}" text-anchor="end">{escape(short)}</text>'


def _value(text: str, x: float, y: float) -> str:
    return f'<text class="value" x="{x:.1f}" y="{y + ROW / 2 + 4}">{escape(text)}</text>'


def _spoken(labels: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{label}: {value}" for label, value in zip(labels, values, strict=True))


def _svg(title: str, rows: Sequence[str], *, spoken: str) -> Html:
    return Html(
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {ROW * len(rows)}" role="img" aria-label="{escape(f"{title}: {spoken}")}">'
        f"{''.join(rows)}</svg></figure>"
    )
