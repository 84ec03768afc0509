"""What a tracker keeps in any scene, and that it is right in a scene where the truth is known."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeai.stages.rules import LineSettings, Scene, TrackSettings, ZoneSettings, open_rule
from edgeai.stages.tracker import Tracker, TrackerSettings
from edgeai.types import Detections

SEED = st.integers(0, 2**32 - 1)


@settings(max_examples=50)
@given(SEED, st.integers(1, 3), st.sampled_from([0.0, 0.5, 2.0]))
def test_ids_are_told_once_live_once_and_end_once(seed, confirm_hits, lost_s):
    rng = np.random.default_rng(seed)
    tracker = Tracker(TrackerSettings(confirm_hits=confirm_hits, lost_s=lost_s))
    live: set[int] = set()
    over: set[int] = set()
    time_s = 0.0
    for _ in range(40):
        time_s += float(rng.uniform(0, 0.6))
        n = int(rng.integers(0, 9))
        corner = rng.integers(0, 6, (n, 2)) * 15
        boxes = np.hstack([corner, corner + rng.integers(10, 40, (n, 2))]).astype(np.float32)
        given_ = Detections(boxes, rng.random(n).astype(np.float32), rng.integers(0, 2, n).astype(np.int32))
        found = tracker.update(given_, time_s)

        ids = found.track_ids.tolist()
        assert len(set(ids)) == len(ids) == len(found)
        started, ended = set(tracker.started), set(tracker.ended)
        assert not started & (live | over)
        assert started <= set(ids)
        assert ended <= live
        live = (live | started) - ended
        over |= ended
        assert set(ids) <= live
        rows = {(*box.tolist(), float(score)) for box, score in zip(boxes, given_.scores, strict=True)}
        for box, score in zip(found.xyxy_px, found.scores, strict=True):
            assert (*box.tolist(), float(score)) in rows
    tracker.reset()
    assert set(tracker.ended) == live
    assert live | over == set(range(1, len(live | over) + 1))


@settings(max_examples=20)
@given(SEED, st.sampled_from([10.0, 15.0, 30.0]))
def test_things_that_keep_apart_keep_their_ids(seed, fps):
    """Rows 100 px apart, up to 60 px/s, 1.5 px of noise, a tenth missed: each keeps one id for 8 s."""
    rng = np.random.default_rng(seed)
    n = 8
    start = np.stack([rng.uniform(200, 800, n), np.arange(n) * 100.0], axis=1)
    speed = np.stack([rng.uniform(-60, 60, n), np.zeros(n)], axis=1)
    side = np.array([20.0, 40.0])
    tracker, ids_of = Tracker(), [set() for _ in range(n)]
    for frame in range(int(8 * fps)):
        time_s = frame / fps
        shown = np.flatnonzero((rng.random(n) > 0.1) | (frame < 3))
        centre = start[shown] + speed[shown] * time_s + rng.normal(0, 1.5, (len(shown), 2))
        boxes = np.hstack([centre - side, centre + side]).astype(np.float32)
        scores = np.full(len(shown), 0.9, np.float32)
        found = tracker.update(Detections(boxes, scores, np.zeros(len(shown), np.int32)), time_s)
        for box, track_id in zip(found.xyxy_px, found.track_ids, strict=True):
            ids_of[round((float(box[1] + box[3]) / 2) / 100)].add(int(track_id))
    assert sorted(len(ids) for ids in ids_of) == [1] * n
    assert tracker.ended == ()


@settings(max_examples=50)
@given(SEED, st.lists(st.floats(0, 1e5), min_size=1, max_size=8), st.sampled_from([0.0, 0.5, 2.0]))
def test_after_any_hold_the_same_detections_are_the_same_tracks(seed, waits, lost_s):
    """Whatever was seen in motion before, and however long nobody looked: ids, rules' totals and events stay."""
    rng = np.random.default_rng(seed)
    tracker = Tracker(TrackerSettings(lost_s=lost_s))
    rules = [
        open_rule(one, labels=["a", "b"])
        for one in (
            LineSettings(name="line", a=(0.0, 0.5), b=(1.0, 0.5)),
            ZoneSettings(name="zone", polygon=((0.2, 0.1), (0.9, 0.1), (0.9, 0.6))),
            TrackSettings(),
        )
    ]

    def judge(tracks, time_s):
        scene = Scene(tracks, 1000, 1000, time_s, "stream", tracker.started, tracker.ended)
        return [event for rule in rules for event in rule.update(scene)]

    n = int(rng.integers(1, 8))
    corner, speed = rng.uniform(0, 900, (n, 2)), rng.uniform(-6, 6, (n, 2))
    classes, time_s = rng.integers(0, 2, n).astype(np.int32), 0.0
    for frame in range(12):
        time_s = frame / 10
        boxes = np.hstack([corner + speed * frame, corner + speed * frame + 60]).astype(np.float32)
        detections = Detections(boxes, np.full(n, 0.9, np.float32), classes)
        before = tracker.update(detections, time_s)
        judge(before, time_s)
    totals = [rule.totals() for rule in rules]
    for wait_s in waits:
        time_s += wait_s
        held = tracker.hold(time_s)
        np.testing.assert_array_equal(held.xyxy_px, before.xyxy_px)
        assert held.track_ids.tolist() == before.track_ids.tolist()
        assert judge(held, time_s) == []
    after = tracker.update(detections, time_s + 0.1)
    assert after.track_ids.tolist() == before.track_ids.tolist()
    assert tracker.started == tracker.ended == ()
    assert judge(after, time_s + 0.1) == []
    assert [rule.totals() for rule in rules] == totals
