"""The tracker: its table row by row, and its life in small scenes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydantic import ValidationError

from edgeai.errors import StageError
from edgeai.stages.tracker import TRANSITIONS, Tracker, TrackerSettings
from edgeai.types import Detections


def seen(*boxes, scores=None, classes=None) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([0.9] * n if scores is None else scores, np.float32),
        np.array([0] * n if classes is None else classes, np.int32),
    )


def box(x, y=100.0, w=40.0, h=80.0):
    return (x, y, x + w, y + h)


NOTHING = seen()


def confirmed(tracker: Tracker, *boxes, start_s: float = 0.0, **kwargs) -> float:
    """Show `boxes` three times, 0.1 s apart; the time of the last."""
    for step in range(3):
        tracker.update(seen(*boxes, **kwargs), start_s + 0.1 * step)
    return start_s + 0.2


@pytest.mark.parametrize(
    ("state", "happening", "after"),
    [
        ("tentative", "match", "tentative"),
        ("tentative", "promote", "confirmed"),
        ("tentative", "miss", "removed"),
        ("tentative", "expire", "tentative"),
        ("confirmed", "match", "confirmed"),
        ("confirmed", "promote", "confirmed"),
        ("confirmed", "miss", "lost"),
        ("confirmed", "expire", "confirmed"),
        ("lost", "match", "confirmed"),
        ("lost", "promote", "confirmed"),
        ("lost", "miss", "lost"),
        ("lost", "expire", "removed"),
        ("removed", "match", "removed"),
        ("removed", "promote", "removed"),
        ("removed", "miss", "removed"),
        ("removed", "expire", "removed"),
    ],
)
def test_every_row_of_the_table(state, happening, after):
    assert TRANSITIONS[state][happening] == after


def test_the_table_is_whole():
    assert sum(len(row) for row in TRANSITIONS.values()) == 16


def test_a_track_is_told_at_its_third_frame_in_a_row():
    tracker = Tracker()
    assert [len(tracker.update(seen(box(10 + step)), step / 10)) for step in range(4)] == [0, 0, 1, 1]
    assert tracker.started == ()
    assert tracker.update(seen(box(14)), 0.4).track_ids.tolist() == [1]


def test_started_is_told_once():
    tracker, told = Tracker(), []
    for step in range(5):
        tracker.update(seen(box(10), box(300)), step / 10)
        told.append(tracker.started)
    assert told == [(), (), (1, 2), (), ()]


def test_confirmed_at_once_where_one_hit_is_enough():
    tracker = Tracker(TrackerSettings(confirm_hits=1))
    assert tracker.update(seen(box(10)), 0.0).track_ids.tolist() == [1]
    assert tracker.started == (1,)


def test_a_flicker_is_no_track():
    tracker = Tracker()
    for step in range(20):
        found = tracker.update(seen(box(10)) if step % 3 < 2 else NOTHING, step / 10)
        assert len(found) == 0
    assert tracker.started == tracker.ended == ()


def test_a_lost_track_is_found_again_with_its_id():
    tracker = Tracker(TrackerSettings(lost_s=1.0))
    last_s = confirmed(tracker, box(10))
    for step in range(1, 10):
        assert len(tracker.update(NOTHING, last_s + step / 10)) == 0
    assert tracker.update(seen(box(11)), last_s + 0.99).track_ids.tolist() == [1]
    assert tracker.ended == ()


def test_a_moving_track_is_found_where_it_must_have_gone():
    tracker = Tracker()
    for step in range(20):
        tracker.update(seen(box(10 + 10 * step)), step / 10)
    for step in range(20, 28):
        tracker.update(NOTHING, step / 10)
    assert tracker.update(seen(box(290)), 2.8).track_ids.tolist() == [1]


def test_after_lost_s_the_track_has_ended_and_its_id_is_never_used_again():
    tracker = Tracker(TrackerSettings(lost_s=1.0))
    last_s = confirmed(tracker, box(10))
    tracker.update(NOTHING, last_s + 0.5)
    assert tracker.ended == ()
    tracker.update(NOTHING, last_s + 1.01)
    assert tracker.ended == (1,)
    tracker.update(NOTHING, last_s + 1.1)
    assert tracker.ended == ()
    confirmed(tracker, box(10), start_s=5.0)
    assert tracker.started == (2,)
    tracker.reset()
    assert tracker.ended == (2,)
    confirmed(tracker, box(10))
    assert tracker.started == (3,)


def test_no_memory_means_gone_with_the_next_frame():
    tracker = Tracker(TrackerSettings(lost_s=0.0))
    last_s = confirmed(tracker, box(10))
    assert tracker.update(seen(box(10)), last_s + 5.0).track_ids.tolist() == [1]
    tracker.update(NOTHING, last_s + 5.1)
    tracker.update(seen(box(10)), last_s + 5.2)
    assert tracker.ended == (1,)


def test_a_slow_camera_keeps_what_stands_still():
    tracker = Tracker(TrackerSettings(lost_s=2.0))
    for step in range(5):
        found = tracker.update(seen(box(10)), step * 60.0)
    assert found.track_ids.tolist() == [1]


def test_weak_detections_carry_a_track_on_but_begin_none():
    tracker = Tracker()
    last_s = confirmed(tracker, box(10))
    found = tracker.update(seen(box(12), box(400), scores=[0.2, 0.2]), last_s + 0.1)
    assert found.track_ids.tolist() == [1]
    for step in range(2, 9):
        found = tracker.update(seen(box(12), box(400), scores=[0.2, 0.2]), last_s + step / 10)
    assert found.track_ids.tolist() == [1]
    assert len(tracker.update(seen(box(12), scores=[0.05]), last_s + 1.0)) == 0


def test_only_within_a_class():
    tracker = Tracker()
    last_s = confirmed(tracker, box(10), classes=[0])
    assert len(tracker.update(seen(box(10), classes=[1]), last_s + 0.1)) == 0
    both = confirmed(tracker, box(10), box(10), classes=[1, 0], start_s=last_s + 0.2)
    assert tracker.update(seen(box(10), box(10), classes=[1, 0]), both + 0.1).track_ids.tolist() == [2, 1]


def test_answers_keep_the_order_of_the_detections():
    tracker = Tracker()
    places = [box(500), box(10), box(250)]
    last_s = confirmed(tracker, *places)
    for step, order in enumerate(itertools.permutations(range(3)), start=1):
        found = tracker.update(seen(*[places[i] for i in order]), last_s + step / 10)
        assert found.track_ids.tolist() == [i + 1 for i in order]
        np.testing.assert_array_equal(found.xyxy_px, np.array([places[i] for i in order], np.float32))


def test_two_that_pass_each_other_keep_their_ids():
    tracker = Tracker()
    for step in range(41):
        left, right = box(10 + 10 * step, y=100), box(410 - 10 * step, y=130)
        found = tracker.update(seen(left, right), step / 10)
    assert found.track_ids.tolist() == [1, 2]
    assert tracker.ended == ()


def test_a_varying_interval_is_no_jump():
    tracker = Tracker()
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.3, 60))
    for time_s in times:
        found = tracker.update(seen(box(float(100 * time_s))), float(time_s))
    assert found.track_ids.tolist() == [1]


def test_two_frames_of_one_time_are_allowed():
    tracker = Tracker()
    confirmed(tracker, box(10))
    assert tracker.update(seen(box(10)), 0.2).track_ids.tolist() == [1]


@pytest.mark.parametrize("time_s", [0.19, -1.0, float("nan"), float("inf")])
def test_time_never_goes_back(time_s):
    tracker = Tracker()
    confirmed(tracker, box(10))
    with pytest.raises(StageError, match=r"order of time.*reset"):
        tracker.update(seen(box(10)), time_s)
    assert tracker.update(seen(box(10)), 0.3).track_ids.tolist() == [1]


@pytest.mark.filterwarnings("error")
def test_wild_boxes_do_no_harm():
    tracker = Tracker(TrackerSettings(confirm_hits=1))
    tracker.update(seen(box(10)), 0.0)
    wild = [
        (np.nan, 0, 1, 1),
        (0, 0, np.inf, 9),
        (5, 5, 5, 9),
        (9, 9, 5, 5),
        (-3e38, -3e38, 3e38, 3e38),
        (0, 0, 1e-30, 1e-30),
        box(10),
    ]
    for step in range(1, 30):
        found = tracker.update(seen(*wild), step / 10)
        assert found.track_ids[-1] == 1
    scores = seen(box(10), box(300), scores=[0.9, np.nan])
    assert tracker.update(scores, 3.0).track_ids.tolist() == [1]


def test_settings_must_rise():
    with pytest.raises(ValidationError, match="low_score <= high_score"):
        TrackerSettings(high_score=0.05)


def test_nothing_is_nothing():
    tracker = Tracker()
    found = tracker.update(NOTHING, 0.0)
    assert len(found) == len(found.track_ids) == 0
    tracker.reset()
    assert tracker.ended == ()


def test_a_held_frame_answers_as_the_last_one_that_was_seen():
    tracker = Tracker()
    last_s = confirmed(tracker, box(10), box(300))
    before = tracker.update(seen(box(300), box(10)), last_s + 0.1)
    for step in range(2, 50):
        held = tracker.hold(last_s + step / 10)
        np.testing.assert_array_equal(held.xyxy_px, before.xyxy_px)
        np.testing.assert_array_equal(held.scores, before.scores)
        assert held.track_ids.tolist() == [2, 1]
        assert tracker.started == tracker.ended == ()


def test_what_is_told_of_a_seen_frame_is_not_told_again_of_a_held_one():
    tracker = Tracker(TrackerSettings(confirm_hits=1, lost_s=0.0))
    tracker.update(seen(box(10)), 0.0)
    assert tracker.started == (1,)
    tracker.hold(0.1)
    assert tracker.started == ()
    tracker.update(NOTHING, 0.2)
    tracker.update(NOTHING, 0.3)
    assert tracker.ended == (1,)
    assert len(tracker.hold(0.4)) == 0
    assert tracker.ended == ()


def test_a_parked_car_keeps_its_id_through_an_hour_without_a_look():
    tracker = Tracker(TrackerSettings(lost_s=1.0))
    last_s = confirmed(tracker, box(10))
    for step in range(1, 3600):
        tracker.hold(last_s + step)
    assert tracker.update(seen(box(12)), last_s + 3600).track_ids.tolist() == [1]


def test_what_came_to_rest_is_not_carried_on_by_the_speed_it_had():
    tracker = Tracker()
    for step in range(10):  # 150 pixels a second
        tracker.update(seen(box(10 + 15 * step)), step / 10)
    assert tracker.hold(1.0).xyxy_px[0, 0] == 145
    tracker.hold(61.0)
    assert tracker.update(seen(box(148)), 62.0).track_ids.tolist() == [1]


def test_after_a_hold_a_track_that_is_missed_has_lost_s_of_its_own():
    tracker = Tracker(TrackerSettings(lost_s=1.0))
    last_s = confirmed(tracker, box(10))
    tracker.hold(last_s + 600.0)
    tracker.update(NOTHING, last_s + 600.1)
    assert tracker.ended == ()
    assert tracker.update(seen(box(10)), last_s + 600.9).track_ids.tolist() == [1]


def test_the_clock_of_a_lost_track_stands_still_while_nobody_looks():
    tracker = Tracker(TrackerSettings(lost_s=1.0))
    last_s = confirmed(tracker, box(10))
    tracker.update(NOTHING, last_s + 0.5)
    assert len(tracker.hold(last_s + 100.0)) == 0
    tracker.update(NOTHING, last_s + 100.4)
    assert tracker.ended == ()
    tracker.update(NOTHING, last_s + 100.6)
    assert tracker.ended == (1,)


def test_a_track_that_moves_on_after_a_hold_is_followed():
    tracker = Tracker()
    last_s = confirmed(tracker, box(10))
    tracker.hold(last_s + 300.0)
    for step in range(20):
        found = tracker.update(seen(box(10 + 12 * step)), last_s + 300.1 + step / 10)
        assert found.track_ids.tolist() == [1]


def test_hits_before_and_after_a_hold_are_in_a_row():
    tracker = Tracker()
    tracker.update(seen(box(10)), 0.0)
    tracker.hold(10.0)
    tracker.update(seen(box(10)), 20.0)
    tracker.hold(30.0)
    assert tracker.update(seen(box(10)), 40.0).track_ids.tolist() == [1]


def test_unsettled_until_every_track_is_confirmed_or_gone():
    tracker = Tracker(TrackerSettings(lost_s=1.0))
    assert not tracker.unsettled
    told = []
    for step in range(4):
        tracker.update(seen(box(10)), step / 10)
        told.append(tracker.unsettled)
    assert told == [True, True, False, False]
    tracker.hold(0.4)
    assert not tracker.unsettled
    tracker.update(NOTHING, 0.5)
    assert tracker.unsettled
    tracker.update(NOTHING, 1.29)
    assert tracker.unsettled
    tracker.update(NOTHING, 1.6)
    assert not tracker.unsettled
    tracker.update(seen(box(10)), 1.7)
    tracker.update(NOTHING, 1.8)
    assert not tracker.unsettled


def test_a_hold_before_the_first_frame_and_after_a_reset_is_empty():
    tracker = Tracker()
    assert len(tracker.hold(5.0)) == len(tracker.hold(5.0).track_ids) == 0
    confirmed(tracker, box(10), start_s=6.0)
    tracker.reset()
    assert len(tracker.hold(0.0)) == 0


@pytest.mark.parametrize("time_s", [0.19, -1.0, float("nan"), float("inf")])
def test_time_never_goes_back_in_a_hold_either(time_s):
    tracker = Tracker()
    confirmed(tracker, box(10))
    with pytest.raises(StageError, match=r"order of time.*reset"):
        tracker.hold(time_s)
    assert tracker.update(seen(box(10)), 0.3).track_ids.tolist() == [1]


def test_time_never_goes_back_after_a_hold():
    tracker = Tracker()
    confirmed(tracker, box(10))
    tracker.hold(5.0)
    with pytest.raises(StageError, match=r"order of time"):
        tracker.update(seen(box(10)), 4.9)
