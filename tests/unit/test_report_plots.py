"""Plots and tables: what goes in, what must not."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.errors import UsageError
from edgeai.report.plots import Axis, Point, Polyline, box_plot, scatter_plot
from edgeai.report.tables import Table

numbers = st.floats(-1e9, 1e9)


def svg_of(html):
    return ET.fromstring(html)  # a figure is well-formed XML


def circles(figure):
    return [each for each in figure.iter("circle") if each.get("r") == "5" and each.get("cx") != "8"]


@given(st.lists(st.tuples(st.text(max_size=60), numbers, numbers), min_size=1, max_size=9))
def test_points_lie_inside(rows):
    # XML knows no control characters; a browser shows a box
    rows = [("".join(c for c in name if c.isprintable()), x, y) for name, x, y in rows]
    points = [Point(name, x, y, (y - 1, y + 1)) for name, x, y in rows]
    figure = svg_of(scatter_plot("t", points, x=Axis("x"), y=Axis("y")))
    drawn = circles(figure)
    assert len(drawn) == len(rows)
    for dot in drawn:
        assert 52 <= float(dot.get("cx")) <= 348
        assert 10 <= float(dot.get("cy")) <= 220


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=30))
def test_boxes_lie_inside_whatever_the_samples(samples):
    figure = svg_of(box_plot("t", [("a", samples), ("<b>", samples[::-1])], x=Axis("ms")))
    for box in figure.iter("rect"):
        assert float(box.get("x")) >= 12
        assert float(box.get("x")) + float(box.get("width")) <= 350
    assert "<b>" not in box_plot("t", [("<b>", samples)], x=Axis("ms"))


def test_values_far_apart_are_on_a_logarithmic_scale():
    def places(xs):
        figure = svg_of(
            scatter_plot("t", [Point("", x, 1.0) for x in xs], x=Axis("x"), y=Axis("y", log=False))
        )
        return [float(dot.get("cx")) for dot in circles(figure)]

    first, second, third = places([1, 10, 100])
    assert second - first == pytest.approx(third - second, abs=0.2)
    first, second, third = places([1, 2, 3])
    assert second - first == pytest.approx(third - second, abs=0.2)


def test_lines_are_named_once():
    line = Polyline("roof", [(1, 1), (10, 10)], dashed=True)
    text = scatter_plot("t", [Point("p", 2, 2)], x=Axis("x", log=True), y=Axis("y", log=True), lines=[line])
    assert text.count(">roof<") == 1
    assert "stroke-dasharray" in text


@pytest.mark.parametrize(
    "points",
    [[], [Point("a", float("nan"), 1)], [Point("a", 1, float("inf"))], [Point("a", 0, 1)]],
)
def test_what_cannot_be_drawn(points):
    with pytest.raises(UsageError, match="plot 't'"):
        scatter_plot("t", points, x=Axis("x", log=True), y=Axis("y"))


def test_no_box_without_samples():
    for rows in ([], [("a", [])]):
        with pytest.raises(UsageError):
            box_plot("t", rows, x=Axis("ms"))


def test_markdown_holds_any_text():
    table = Table("a | b", ["x", "y"], [["<img src=x>", "1 | 2"], ["[a](b)", "line\nbreak"]])
    lines = table.to_markdown().splitlines()
    assert lines[0] == "**a \\| b**"
    assert lines[2:4] == ["| x | y |", "| :-- | --: |"]
    assert lines[4] == "| \\<img src=x\\> | 1 \\| 2 |"
    assert lines[5] == "| \\[a\\](b) | line break |"
    assert "&lt;img" in table.to_html()
