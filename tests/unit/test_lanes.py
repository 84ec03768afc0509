"""Which message goes next."""

import math

import pytest

from edgeai.sinks.delivery.lanes import Lanes
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.topics import thumbnail_stream


@pytest.fixture
def outbox(tmp_path):
    with Outbox(tmp_path / "outbox.db") as outbox:
        yield outbox


def put(outbox, stream="gate", priority="event", n=1, size=100, **more):
    return outbox.put_many(
        [Draft("t", b"x" * size, stream=stream, priority=priority, **more) for _ in range(n)]
    )


def always(message):
    return 0.0


def nothing(seq):
    return False


def take_all(lanes, *, skip=nothing, wait_s=always):
    found = []
    while (message := lanes.take(skip=skip, wait_s=wait_s)[0]) is not None:
        found.append(message)
    return found


def test_a_lane_keeps_its_order_and_all_lanes_are_emptied(outbox):
    put(outbox, "a", n=70)
    put(outbox, "b", n=70)
    put(outbox, "a", n=70)
    found = take_all(Lanes(outbox))
    assert sorted(message.seq for message in found) == list(range(1, 211))
    for stream in "ab":
        numbers = [message.seq for message in found if message.stream == stream]
        assert numbers == sorted(numbers)


def test_a_quiet_camera_does_not_wait_behind_the_backlog_of_a_busy_one(outbox):
    put(outbox, "busy", n=100)
    lanes = Lanes(outbox)
    for _ in range(30):
        lanes.take(skip=nothing, wait_s=always)
    (number,) = put(outbox, "quiet")
    next_two = [lanes.take(skip=nothing, wait_s=always)[0].seq for _ in range(2)]
    assert number in next_two


def test_alarms_go_before_all_else(outbox):
    put(outbox, "a", n=50)
    numbers = put(outbox, "a", "alarm", n=3)
    assert [message.seq for message in take_all(Lanes(outbox))[:3]] == numbers


def test_images_take_a_small_part_of_the_link(outbox):
    put(outbox, "a", "image", n=20, size=1000)
    put(outbox, "a", "event", n=100, size=1000)
    first = take_all(Lanes(outbox))[:34]
    assert sum(message.priority == "image" for message in first) in (2, 3)


def test_thumbnails_go_before_whole_pictures(outbox):
    for _ in range(5):
        put(outbox, thumbnail_stream("a"), "image", size=4000)
        put(outbox, "a", "image", size=100_000)
    kinds = [message.stream for message in take_all(Lanes(outbox))]
    assert kinds.index("a") <= 1
    assert kinds[:6].count("a") == 1


def test_equal_cameras_get_equal_shares_whatever_the_size_of_their_messages(outbox):
    put(outbox, "small", n=1000, size=36)
    put(outbox, "large", n=200, size=436)
    first = take_all(Lanes(outbox))[:300]
    bytes_of = {
        stream: sum(len(m.payload) + 64 for m in first if m.stream == stream) for stream in ("small", "large")
    }
    assert bytes_of["small"] == pytest.approx(bytes_of["large"], rel=0.05)


def test_a_lane_that_must_wait_holds_up_no_other_and_says_how_long(outbox):
    put(outbox, "a", "image")
    put(outbox, "a", "event")
    lanes = Lanes(outbox)
    wait = {"image": 7.0, "event": 0.0}
    found = take_all(lanes, wait_s=lambda message: wait[message.priority])
    assert [message.priority for message in found] == ["event"]
    assert lanes.take(skip=nothing, wait_s=lambda message: 7.0) == (None, 7.0)
    assert [message.priority for message in take_all(lanes)] == ["image"]
    assert lanes.take(skip=nothing, wait_s=always) == (None, math.inf)


def test_what_is_to_be_skipped_is_passed_over(outbox):
    put(outbox, n=5)
    assert [m.seq for m in take_all(Lanes(outbox), skip=lambda seq: seq in (1, 3))] == [2, 4, 5]


def test_only_its_own_destination(outbox):
    put(outbox, "a")
    put(outbox, "a", destination="frigate")
    assert [m.seq for m in take_all(Lanes(outbox))] == [1]
    assert [m.seq for m in take_all(Lanes(outbox, "frigate"))] == [2]


def test_rewinding_begins_anew_and_what_is_gone_is_gone(outbox):
    put(outbox, n=3)
    lanes = Lanes(outbox)
    take_all(lanes)
    outbox.ack([2])
    lanes.rewind()
    assert [m.seq for m in take_all(lanes)] == [1, 3]


def test_the_lanes_of_an_earlier_run_are_found(tmp_path):
    with Outbox(tmp_path / "outbox.db") as outbox:
        put(outbox, "a")
        put(outbox, "b", "alarm")
    with Outbox(tmp_path / "outbox.db") as outbox:
        assert [m.seq for m in take_all(Lanes(outbox))] == [2, 1]
