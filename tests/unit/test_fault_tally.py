"""The fault suite's own arithmetic: a suite that cannot see a loss proves nothing."""

import json

import pytest
from fault_suite.file_faults import frame_ends
from fault_suite.row import Row, baseline, judged
from fault_suite.table import FAULTS, SHORT_SKIPS
from fault_suite.tally import Arrival, Put, check, read_arrival, tally


def put(number, camera="gate"):
    return Put(camera, number, f"{camera}-{number}")


def arrival(number, camera="gate", **changes):
    data = {"n": number, "check": check(camera, number)}
    payload = json.dumps(
        {"id": f"{camera}-{number}", "stream": camera, "seq": number, "data": data} | changes
    )
    return read_arrival(float(number), f"edge/v1/t/s/d/event/{camera}", payload.encode())


def test_all_there_in_order():
    count = tally([put(0), put(1)], [arrival(0), arrival(1)])
    assert (count.put, count.delivered, count.lost, count.duplicates, count.unordered) == (2, 2, 0, 0, 0)
    assert judged("x", count).verdict == "holds"


def test_a_loss_is_seen_and_named():
    count = tally([put(0), put(1)], [arrival(0)])
    assert (count.lost, count.lost_ids) == (1, ("gate-1",))
    assert judged("x", count).broken == ("1 of 2 lost",)


def test_a_repetition_is_no_disorder():
    count = tally([put(0), put(1)], [arrival(0), arrival(1), arrival(0), arrival(1)])
    assert (count.duplicates, count.unordered, count.lost) == (2, 0, 0)


def test_disorder_is_counted_within_a_camera_only():
    puts = [put(0), put(1), put(0, "door")]
    assert tally(puts, [arrival(1), arrival(0, "door"), arrival(0)]).unordered == 1
    assert tally(puts, [arrival(0), arrival(1), arrival(0, "door")]).unordered == 0


def test_the_same_id_with_other_contents_is_a_conflict():
    changed = arrival(1, id="gate-0")
    assert tally([put(0)], [arrival(0), changed]).conflicting == 1


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"\xff", b'{"stream": "gate", "data": {"n": 1, "check": "gate:2:"}}']
)
def test_a_damaged_payload_is_seen(payload):
    one = read_arrival(0.0, "a/event/gate", payload)
    assert one.damaged
    assert judged("x", tally([], [one])).verdict == "FAILS"


def test_what_was_stored_and_never_reported_is_no_loss():
    count = tally([put(0)], [arrival(0), arrival(1)])
    assert (count.lost, count.unreported) == (0, 1)


def test_tallies_add_up():
    one = tally([put(0), put(1)], [arrival(0)])
    assert (one + one).lost == 2
    assert (one + one).lost_ids == ("gate-1", "gate-1")


def test_a_recovery_that_never_came_shows():
    never = float("inf")
    assert Row("x", recovery_s=(0.25, never)).cells()[7] == "0.2/>"
    assert Row("x", recovery_s=(0.25,) * 99 + (never,)).cells()[7] == "0.25/>"
    assert Row("x", recovery_s=(0.25, never)).to_json()["recovery_s"] == [0.25, None]


def test_nothing_is_demanded_of_a_baseline():
    assert baseline("x", "paho", tally([put(0)], [])).verdict == "-"


def test_frames_of_a_wal():
    header = bytes(8) + (512).to_bytes(4, "big") + bytes(20)
    assert frame_ends(header + bytes(2 * 536 + 100)) == [32, 568, 1104]
    assert frame_ends(b"") == []


def test_names_of_faults_are_unique():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert set(names) >= SHORT_SKIPS


def test_arrivals_compare_by_value():
    assert arrival(1) == Arrival(
        1.0, "edge/v1/t/s/d/event/gate", arrival(1).payload, "gate-1", "gate", 1, 1, "", damaged=False
    )
