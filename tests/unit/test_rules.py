"""Lines, zones and tracks in small scenes, the miscounts that users of other runtimes report among them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from edgeai.errors import StageError
from edgeai.stages.rules import (
    RULES,
    AnyRuleSettings,
    LineRule,
    LineSettings,
    Scene,
    TrackRule,
    TrackSettings,
    ZoneRule,
    ZoneSettings,
    open_rule,
)
from edgeai.types import Detections

LABELS = ("person", "car")
W, H = 200, 100


def scene(points, *, time_s=0.0, ids=None, classes=None, started=(), ended=(), size=(W, H)) -> Scene:
    """Boxes of 4 x 8 px whose bottom centre is at each of `points`, fractions of the frame."""
    feet = np.array(points, np.float32).reshape(-1, 2) * np.array(size, np.float32)
    n = len(feet)
    tracks = Detections(
        (np.hstack([feet, feet]) + np.array([-2, -8, 2, 0])).astype(np.float32),
        np.full(n, 0.8, np.float32),
        np.array([0] * n if classes is None else classes, np.int32),
        np.array(range(1, n + 1) if ids is None else ids, np.int64),
    )
    return Scene(tracks, *size, time_s, "gate", started, ended)


def walk(rule, path, **kwargs):
    """Take one track along `path`; the events."""
    return [e for k, p in enumerate(path) for e in rule.update(scene([p], time_s=k / 10, **kwargs))]


def line(**kwargs) -> LineRule:
    """A line across the middle from left to right, 20 % to 80 %: forward is down."""
    return LineRule(LineSettings(name="gate", a=(0.2, 0.5), b=(0.8, 0.5), **kwargs), labels=LABELS)


def counts(rule: LineRule) -> tuple[int, int]:
    totals = rule.totals()
    return totals["in"], totals["out"]


DOWN = [(0.5, y) for y in (0.3, 0.4, 0.48, 0.52, 0.6)]


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        (DOWN, (1, 0)),
        (DOWN[::-1], (0, 1)),
        (DOWN + DOWN[::-1], (1, 1)),
        (DOWN + DOWN[::-1] + DOWN, (2, 1)),
        ([(0.5, 0.1), (0.5, 0.9)], (1, 0)),  # in one stride
        ([(0.1, 0.3), (0.1, 0.7)], (0, 0)),  # past the end
        ([(0.81, 0.3), (0.81, 0.7)], (0, 0)),
        ([(0.79, 0.3), (0.79, 0.7)], (1, 0)),
        ([(0.1, 0.45), (0.3, 0.55)], (1, 0)),  # aslant, over the end's inner side
        ([(0.0, 0.45), (0.3, 0.65)], (0, 0)),
        ([(0.1, 0.3), (0.1, 0.7), (0.5, 0.7), (0.5, 0.3)], (0, 1)),  # round the end, back through
        ([(0.5, 0.3), (0.5, 0.5), (0.5, 0.5), (0.5, 0.5), (0.5, 0.7)], (1, 0)),  # stops on the line
        ([(0.5, 0.3), (0.5, 0.5), (0.5, 0.5), (0.5, 0.3)], (0, 0)),  # touches it and goes back
        ([(0.5, 0.3), (0.3, 0.5), (0.7, 0.5), (0.7, 0.3)], (0, 0)),  # along it, back
        ([(0.5, 0.3), (0.3, 0.5), (0.7, 0.5), (0.7, 0.7)], (1, 0)),  # along it, over
        ([(0.5, 0.3), (0.5, 0.5), (0.9, 0.5), (0.9, 0.7)], (0, 0)),  # along it and out over the end
        ([(0.5, 0.3)] + [(0.5, 0.5 + 0.004 * (-1) ** k) for k in range(50)] + [(0.5, 0.7)], (1, 0)),  # jitter
        ([(0.5, 0.3)] + [(0.5, 0.5 + 0.004 * (-1) ** k) for k in range(50)] + [(0.5, 0.3)], (0, 0)),
        ([(0.5, 0.5 + 0.004 * (-1) ** k) for k in range(50)], (0, 0)),
        ([(0.5, 0.505), (0.5, 0.3), (0.5, 0.7)], (1, 0)),  # born on the line
        ([(0.5, 0.495), (0.5, 0.7)], (0, 0)),
        ([(0.5, 0.3)], (0, 0)),
    ],
)
def test_crossings(path, wanted):
    rule = line()
    events = walk(rule, path)
    assert counts(rule) == wanted
    assert len(events) == sum(wanted)


@pytest.mark.parametrize("size", [(200, 100), (100, 200), (1920, 1080)])
def test_a_slanting_line(size):
    rule = LineRule(LineSettings(name="x", a=(0.2, 0.8), b=(0.8, 0.2)), labels=LABELS)
    path = [(0.3, 0.3), (0.45, 0.45), (0.55, 0.55), (0.7, 0.7)]
    assert [e.data["direction"] for e in walk(rule, path + path[::-1], size=size)] == ["in", "out"]


def test_the_event_tells_who_where_and_how_many():
    rule = LineRule(
        LineSettings(name="gate", a=(0.2, 0.5), b=(0.8, 0.5), forward="south", backward="north"),
        labels=LABELS,
    )
    (event,) = walk(rule, DOWN, ids=[7], classes=[1])
    assert (event.type, event.stream, event.time_s) == ("line_crossed", "gate", 0.3)
    data = dict(event.data)
    box = data.pop("box")
    assert data == {
        "rule": "gate",
        "track_id": 7,
        "label": "car",
        "direction": "south",
        "count": 1,
        "totals": {"south": 1, "north": 0},
        "score": 0.8,
    }
    assert box == pytest.approx([0.49, 0.44, 0.51, 0.52], abs=1e-3)
    assert json.loads(json.dumps(rule.totals())) == {
        "south": 1,
        "north": 0,
        "by_class": {"car": {"south": 1, "north": 0}},
    }


def test_unconfirmed_detections_count_nowhere():
    """roboflow/supervision #2578: all detections of id -1 were taken for one track that jumps about."""
    for rule in (
        line(),
        ZoneRule(ZoneSettings(name="z", polygon=SQUARE), labels=LABELS),
        TrackRule(TrackSettings(), labels=LABELS),
    ):
        events = []
        for k in range(10):
            events += rule.update(scene([DOWN[k % 5], DOWN[-1 - k % 5]], ids=[-1, -1], time_s=k))
        assert events == []


def test_a_gap_in_a_track_is_bridged():
    """roboflow/supervision #2598: a track that flickers near the line was missed or counted twice."""
    rule = line()
    rule.update(scene([(0.5, 0.4)]))
    for _ in range(30):
        assert rule.update(scene([])) == []
    assert len(rule.update(scene([(0.5, 0.6)]))) == 1
    for k in range(20):
        rule.update(scene([(0.5, 0.6)] if k % 2 else []))
    assert counts(rule) == (1, 0)


def test_only_the_classes_asked_for():
    rule = line(classes=("car",))
    walk(rule, DOWN, classes=[0])
    assert counts(rule) == (0, 0)
    walk(rule, DOWN, classes=[1], ids=[2])
    assert counts(rule) == (1, 0)
    walk(rule, DOWN, classes=[99], ids=[3])
    assert counts(rule) == (1, 0)


def test_an_unknown_class_is_refused():
    with pytest.raises(StageError, match="names class 'dog', the model knows person, car"):
        line(classes=("dog",))


def test_tracks_do_not_mix():
    rule = line()
    rule.update(scene([(0.5, 0.3), (0.5, 0.7)]))
    events = rule.update(scene([(0.5, 0.7), (0.5, 0.3)]))
    assert [(e.data["track_id"], e.data["direction"]) for e in events] == [(1, "in"), (2, "out")]


def test_memory_goes_with_the_track():
    rule = line()
    for k in range(100):
        rule.update(scene([(0.5, 0.3)], ids=[k]))
        rule.update(scene([], ended=(k,)))
    assert len(rule._memory) == 0


def test_a_new_picture_size_is_no_crossing():
    rule = line()
    rule.update(scene([(0.5, 0.3)], size=(1280, 720)))
    assert rule.update(scene([(0.5, 0.3)], size=(640, 360))) == []
    assert len(rule.update(scene([(0.5, 0.7)], size=(320, 180)))) == 1


@pytest.mark.parametrize("rule", [line(), TrackRule(TrackSettings(), labels=LABELS)])
def test_detections_without_tracks_are_refused(rule):
    tracks = Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    with pytest.raises(StageError, match="Tracker before the rules"):
        rule.update(Scene(tracks, W, H, 0.0, "gate"))
    with pytest.raises(StageError, match="must have a size"):
        rule.update(Scene(Detections.empty(), 0, H, 0.0, "gate"))


SQUARE = ((0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75))


def zone(**kwargs) -> ZoneRule:
    return ZoneRule(ZoneSettings(name="lawn", polygon=SQUARE, **kwargs), labels=LABELS)


def types(events):
    return [event.type for event in events]


def test_in_and_out_of_a_zone():
    rule = zone()
    events = walk(rule, [(0.1, 0.5), (0.2, 0.5), (0.3, 0.5), (0.5, 0.5), (0.7, 0.5), (0.9, 0.5)])
    assert types(events) == ["zone_entered", "zone_occupancy", "zone_left", "zone_occupancy"]
    entered, occupied, left, empty = events
    assert (entered.data["occupancy"], entered.data["count"], entered.data["track_id"]) == (1, 1, 1)
    assert (occupied.data["occupancy"], empty.data["occupancy"]) == (1, 0)
    assert occupied.priority == "telemetry"
    assert (left.data["reason"], left.data["dwell_s"]) == ("left", 0.3)
    assert rule.totals() == {"entered": 1, "left": 1, "occupancy": 0, "occupancy_by_class": {}}


def test_jitter_on_the_outline_is_one_entry():
    rule = zone(report=("enter", "leave"))
    jitter = [(0.25 + 0.002 * (-1) ** k, 0.5) for k in range(40)]
    assert types(walk(rule, [(0.1, 0.5), *jitter, (0.5, 0.5), *jitter, (0.1, 0.5)])) == [
        "zone_entered",
        "zone_left",
    ]


def test_first_seen_inside_is_an_entry():
    rule = zone(report=("enter",))
    assert types(walk(rule, [(0.5, 0.5)])) == ["zone_entered"]
    assert types(walk(rule, [(0.255, 0.5)], ids=[2])) == ["zone_entered"]
    assert rule.totals()["occupancy"] == 2


def test_a_track_that_ends_inside_has_left():
    rule = zone()
    rule.update(scene([(0.5, 0.5), (0.6, 0.6)], classes=[0, 1], time_s=1.0))
    assert rule.totals()["occupancy_by_class"] == {"person": 1, "car": 1}
    events = rule.update(scene([(0.6, 0.6)], ids=[2], time_s=4.0, ended=(1, 55)))
    assert types(events) == ["zone_left", "zone_occupancy"]
    assert (events[0].data["reason"], events[0].data["dwell_s"]) == ("track_ended", 3.0)
    assert rule.totals()["occupancy"] == 1


def test_unseen_is_not_gone():
    rule = zone()
    rule.update(scene([(0.5, 0.5)]))
    assert rule.update(scene([])) == []
    assert rule.totals()["occupancy"] == 1


def test_tracks_begin_and_end():
    rule = TrackRule(TrackSettings(), labels=LABELS)
    (began,) = rule.update(scene([(0.5, 0.5)], time_s=1.0, started=(1,)))
    assert (began.type, began.data["track_id"], began.data["label"]) == ("track_started", 1, "person")
    assert rule.update(scene([(0.5, 0.5)], time_s=3.0)) == []
    (over,) = rule.update(scene([], time_s=6.0, ended=(1, 9)))
    assert over.type == "track_ended"
    assert (over.data["duration_s"], over.data["first_s"], over.data["last_s"]) == (2.0, 1.0, 3.0)
    assert rule.totals() == {"started": 1, "ended": 1, "now": 0, "by_class": {"person": 1}}


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "line", "name": "x", "a": [0, 0], "b": [0, 0]},
        {"kind": "line", "name": "x", "a": [0, 0], "b": [1.2, 0]},
        {"kind": "line", "name": "x", "a": [0, 0], "b": [float("nan"), 0]},
        {"kind": "line", "name": "x", "a": [0, 0], "b": [1, 1], "forward": "out"},
        {"kind": "line", "name": "a/b", "a": [0, 0], "b": [1, 1]},
        {"kind": "line", "name": "x", "a": [0, 0]},
        {"kind": "zone", "name": "x", "polygon": [[0, 0], [1, 1]]},
        {"kind": "zone", "name": "x", "polygon": [[0, 0], [1, 1], [0.5, 0.5]]},
        {"kind": "zone", "name": "x", "polygon": [[0, 0], [1, 0], [1, 1]], "report": ["entry"]},
        {"kind": "lime", "name": "x"},
        {"kind": "track", "colour": 1},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValidationError):
        TypeAdapter(AnyRuleSettings).validate_python(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "line", "name": "x", "a": [0, 0], "b": [1, 1]},
        {"kind": "zone", "name": "x", "polygon": [[0, 0], [1, 0], [1, 1]]},
        {"kind": "track"},
    ],
)
def test_every_kind_opens_keeps_to_json_and_starts_at_nothing(settings):
    read = TypeAdapter(AnyRuleSettings).validate_python(settings)
    rule = open_rule(read, labels=LABELS)
    assert type(rule) is RULES[read.kind]
    assert rule.update(scene([])) == []
    events = [e for k, y in enumerate((0.9, 0.1, 0.9)) for e in rule.update(scene([(0.5, y)], time_s=k))]
    events += rule.update(scene([], ended=(1,)))
    assert events
    for event in events:
        assert json.loads(json.dumps(dict(event.data))) == event.data
        assert event.data["rule"] == read.name
    json.dumps(rule.totals())


def test_the_table_has_every_kind():
    assert set(RULES) == {"line", "zone", "track"}
