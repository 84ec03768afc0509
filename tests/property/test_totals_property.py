"""Totals of rules: they survive being written down, and counting on from them counts what is new."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.errors import EdgeError, StageError
from edgeai.stages.rules import LineSettings, Scene, TrackSettings, ZoneSettings, open_rule
from edgeai.types import Detections

LABELS = ("person", "car", "bus")
RULES = st.sampled_from(
    [
        LineSettings(name="gate", a=(0, 0.5), b=(1, 0.5)),
        LineSettings(name="gate", a=(0, 0.5), b=(1, 0.5), forward="north", backward="person"),
        LineSettings(name="gate", a=(0, 0.5), b=(1, 0.5), classes=("car",)),
        ZoneSettings(name="yard", polygon=((0, 0), (1, 0), (1, 0.5), (0, 0.5))),
        TrackSettings(),
    ]
)
STEPS = st.lists(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 10)),
        max_size=4,
        unique_by=lambda each: each[0],
    ),
    max_size=25,
)
"""Of each frame, tracks: an id, a class, and how far down it is."""


def run(rule, steps, *, first_id=0, end=False):
    """The events of some frames; tracks that are not seen any more have ended."""
    events, before = [], set()
    for k, step in enumerate([*steps, []] if end else steps):
        ids = [first_id + track_id for track_id, _, _ in step]
        points = np.array([(50, 10 * y) for _, _, y in step], np.float32).reshape(-1, 2)
        boxes = np.hstack([points - 1, points]).astype(np.float32)
        classes = np.array([(track_id + class_id) % 3 for track_id, class_id, _ in step], np.int32)
        tracks = Detections(boxes, np.ones(len(ids), np.float32), classes, np.array(ids, np.int64))
        ended = tuple(before - set(ids))
        events += rule.update(Scene(tracks, 100, 100, k / 10, "s", (), ended))
        before = set(ids)
    return events


def written(totals):
    return json.loads(json.dumps(totals))


def added(before, more):
    """The sum of two tables of counts, of what is in both and what is in one."""
    if isinstance(before, int):
        return before + more
    return {
        key: added(before[key], more[key])
        if key in before and key in more
        else before.get(key, more.get(key))
        for key in {**before, **more}
    }


@given(RULES, STEPS)
def test_totals_of_an_orderly_end_come_back_as_they_were(settings, steps):
    rule = open_rule(settings, labels=LABELS)
    run(rule, steps, end=True)
    again = open_rule(settings, labels=LABELS)
    again.restore(written(rule.totals()))
    assert again.totals() == rule.totals()


@given(RULES, STEPS)
def test_what_was_in_view_of_a_killed_process_has_gone(settings, steps):
    """Nobody is in view of the new one: what came and has not gone is told by no number any more."""
    rule, again = open_rule(settings, labels=LABELS), open_rule(settings, labels=LABELS)
    run(rule, steps)
    before = rule.totals()
    again.restore(written(before))
    after = again.totals()
    gone = {"left": "entered", "ended": "started"}
    empty = {"occupancy": 0, "now": 0, "occupancy_by_class": {}}
    for key, value in before.items():
        assert after[key] == (before[gone[key]] if key in gone else empty.get(key, value))


@given(RULES, STEPS, STEPS)
def test_it_counts_on_where_the_other_ended(settings, steps, more):
    first, second, alone = (open_rule(settings, labels=LABELS) for _ in range(3))
    told = run(first, steps, end=True)
    second.restore(written(first.totals()))
    told += run(second, more, first_id=100, end=True)
    run(alone, more, first_id=100, end=True)
    assert second.totals() == added(first.totals(), alone.totals())
    for type_ in {event.type for event in told} - {"zone_occupancy"}:
        of_type = [event.data for event in told if event.type == type_]
        for direction in {data.get("direction") for data in of_type}:
            counts = [data["count"] for data in of_type if data.get("direction") == direction]
            assert counts == list(range(1, len(counts) + 1)), "no number is told twice, none is left out"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(
            st.sampled_from([*LABELS, "in", "out", "by_class", "entered", "left", "started", "ended", "x"]),
            each,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(RULES, STEPS, st.dictionaries(st.sampled_from(["in", "out", "by_class", "entered", "left"]), JSON))
def test_whatever_is_on_the_disk_is_refused_whole_or_counted_on(settings, steps, totals):
    rule = open_rule(settings, labels=LABELS)
    before = copy.deepcopy(rule.totals())
    try:
        rule.restore(totals)
    except EdgeError as error:
        assert isinstance(error, StageError)
        assert repr(settings.name) in str(error)
        assert "\n" not in str(error)
        assert rule.totals() == before
    run(rule, steps, end=True)
    json.dumps(rule.totals())


@pytest.mark.parametrize(
    ("settings", "totals"),
    [
        pytest.param({"forward": "up"}, {"in": 1, "out": 0, "by_class": {"car": {"in": 1, "out": 0}}}, id="direction"),
        pytest.param({}, {"in": 1, "out": 0, "by_class": {"lorry": {"in": 1, "out": 0}}}, id="class"),
        pytest.param({}, {"in": 1, "out": 0, "by_class": {"car": {"in": 2, "out": 0}}}, id="sum"),
        pytest.param({}, {"in": True, "out": 0, "by_class": {"car": {"in": 1, "out": 0}}}, id="bool"),
        pytest.param({}, {"in": -1, "out": 0, "by_class": {"car": {"in": -1, "out": 0}}}, id="negative"),
        pytest.param({}, {"in": 2**60, "out": 0, "by_class": {"car": {"in": 2**60, "out": 0}}}, id="huge"),
        pytest.param({}, {"in": 1, "out": 0}, id="missing"),
        pytest.param({}, {"in": 1, "out": 0, "by_class": [1]}, id="list"),
    ],
)  # fmt: skip
def test_totals_of_something_else_are_refused(settings, totals):
    rule = open_rule(LineSettings(name="gate", a=(0, 0), b=(1, 1), **settings), labels=LABELS)
    with pytest.raises(StageError, match="rule 'gate' cannot count on from its totals"):
        rule.restore(totals)
    assert rule.totals()["by_class"] == {}


def test_what_a_later_edgeai_added_is_ignored():
    rule = open_rule(TrackSettings(), labels=LABELS)
    rule.restore({"started": 2, "ended": 1, "by_class": {"car": 2}, "now": 1, "new": ["thing"]})
    assert rule.totals() == {"started": 2, "ended": 2, "now": 0, "by_class": {"car": 2}}


LINE = {"name": "gate", "a": (0, 0.5), "b": (1, 0.5)}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        pytest.param({"a": (0, 0.6)}, True, id="moved"),
        pytest.param({"hysteresis": 0.05, "anchor": "centre"}, True, id="measured-otherwise"),
        pytest.param({"name": "exit"}, False, id="name"),
        pytest.param({"forward": "north"}, False, id="forward"),
        pytest.param({"forward": "out", "backward": "in"}, False, id="turned"),
        pytest.param({"classes": ("car",)}, False, id="classes"),
    ],
)
def test_whose_totals_a_rule_carries_on(change, same):
    assert (LineSettings(**LINE).identity == LineSettings(**{**LINE, **change}).identity) is same


def test_the_order_of_classes_and_the_kind_in_an_identity():
    one, two = (TrackSettings(name="x", classes=classes) for classes in (("car", "bus"), ("bus", "car")))
    assert one.identity == two.identity
    zone = ZoneSettings(name="x", polygon=((0, 0), (1, 0), (1, 1)), classes=("car", "bus"))
    assert zone.identity != one.identity


def test_no_direction_has_the_name_of_what_stands_beside_the_directions():
    with pytest.raises(ValueError, match="no direction can be called 'by_class'"):
        LineSettings(**LINE, forward="by_class")
