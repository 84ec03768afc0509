"""A metered link: budgets, hours, gathering, batches, thumbnails."""

import gzip
import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
from fake_transport import FakeTransport
from hypothesis import given
from hypothesis import strategies as st

from edgeai.clock import FakeClock
from edgeai.errors import ConfigError
from edgeai.settings_file import parse_settings
from edgeai.sinks.link.gate import HEADERS_BYTES, LinkGate, Meter
from edgeai.sinks.link.settings import LinkSettings, window_wait_s
from edgeai.sinks.link.thumbnail import shrink
from edgeai.sinks.link.transport import MAX_BATCH, LinkTransport
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.payload import Envelope, compose_native, decode
from edgeai.sinks.topics import TopicTree
from edgeai.types import Event

NOON_S = 1_700_006_400.0 - 1_700_006_400.0 % 86400 + 12 * 3600
TOPICS = TopicTree("t", "s", "d")


def message(priority="event", size=130 - HEADERS_BYTES - 1, *, seq=1, put_s=0.0, stream="gate"):
    return Message(seq, "t", b"x" * size, 1, False, priority, stream, 0.0, put_s)


@pytest.fixture
def clock():
    return FakeClock(wall_s=NOON_S)


def gate_of(clock, file=None, **settings):
    return LinkGate(
        LinkSettings.model_validate(settings), Meter(file, clock=clock, offset_s=lambda wall_s: 0.0)
    )


# ---- hours ----


@pytest.mark.parametrize(
    ("hour", "wait_hours"),
    [(5, 0.5), (5.5, 0), (6.4, 0), (6.5, 15.5), (22, 0), (23.9, 0), (0.5, 0), (1, 4.5)],
)
def test_windows_may_pass_midnight(hour, wait_hours):
    assert window_wait_s(("05:30-06:30", "22:00-01:00"), hour * 3600) == pytest.approx(wait_hours * 3600)


@given(st.floats(0, 86399), st.integers(0, 1439), st.integers(1, 1439))
def test_after_its_wait_a_window_is_open(second, begin, length):
    def text(minute):
        return f"{minute // 60 % 24:02}:{minute % 60:02}"

    windows = (f"{text(begin)}-{text(begin + length)}",)
    wait_s = window_wait_s(windows, second)
    assert 0 <= wait_s < 86400
    assert window_wait_s(windows, (second + wait_s + 1e-6) % 86400) == 0


@pytest.mark.parametrize(
    "window", ["5:30-06:30", "05:30", "24:00-01:00", "05:30-05:30", "05:61-06:00", "٠٥:٣٠-06:00"]
)
def test_a_window_that_is_none_is_told_with_its_line(window):
    text = f'gather_s = 1.0\nwindows = ["{window}"]\n'
    with pytest.raises(ConfigError, match=r"device.toml:2: windows"):
        parse_settings(text.encode(), LinkSettings, where="device.toml", error=ConfigError)


def test_images_wait_for_their_window_and_alarms_for_none(clock):
    gate = gate_of(clock, windows=("13:00-14:00",), window_classes=("image", "event"))
    assert gate.wait_s(message("image"), now_s=0.0) == 3600
    assert gate.wait_s(message("event"), now_s=0.0) == 3600
    assert gate.wait_s(message("telemetry"), now_s=0.0) == 0
    assert gate.wait_s(message("alarm"), now_s=0.0) == 0
    clock.advance(3600)
    assert gate.wait_s(message("image"), now_s=3600.0) == 0


# ---- gathering ----


def test_what_is_gathered_goes_together_at_the_next_tick(clock):
    gate = gate_of(clock, gather_s=60.0)
    assert gate.wait_s(message(put_s=61.0), now_s=70.0) == 50.0
    assert gate.wait_s(message(put_s=119.0), now_s=119.5) == 0.5
    assert gate.wait_s(message(put_s=61.0), now_s=120.0) == 0
    assert gate.wait_s(message(put_s=119.0), now_s=121.0) == 0
    assert gate.wait_s(message(put_s=120.5), now_s=121.0) == 59.0
    assert gate.wait_s(message("alarm", put_s=120.5), now_s=121.0) == 0
    assert gate.wait_s(message(put_s=9999.0), now_s=121.0) == 0  # of an earlier process


# ---- budget ----


def test_a_budget_holds_until_midnight_and_alarms_are_only_counted(clock, caplog):
    caplog.set_level(logging.WARNING)
    gate = gate_of(clock, daily_bytes={"event": 300})
    for _ in range(2):
        assert gate.wait_s(message(), now_s=0.0) == 0
        gate.passed(message())
    for _ in range(3):
        assert gate.wait_s(message(), now_s=0.0) == 12 * 3600
    gate.passed(message("alarm"))
    assert gate.wait_s(message("alarm"), now_s=0.0) == 0
    assert gate.wait_s(message("image"), now_s=0.0) == 0
    assert len(caplog.records) == 1
    assert gate.take_reports() == []
    clock.advance(12 * 3600)
    assert gate.wait_s(message(), now_s=0.0) == 0
    ((type_, facts),) = gate.take_reports()
    assert type_ == "link_report"
    assert facts["bytes"] == {"image": 0, "telemetry": 0, "event": 260, "alarm": 130}
    assert facts["limits"]["event"] == 300
    assert facts["day"] == "2023-11-15"
    assert gate.take_reports() == []


def test_a_restart_begins_no_new_day(clock, tmp_path):
    file = tmp_path / "link.json"
    gate = gate_of(clock, file, daily_bytes={"event": 200})
    gate.passed(message())
    gate.meter.save()
    again = gate_of(clock, file, daily_bytes={"event": 200})
    assert again.meter.spent["event"] == 130
    assert again.wait_s(message(), now_s=0.0) > 0


@pytest.mark.parametrize("content", [b"", b"{}", b'{"day": "x"}', b"[1]", b'{"day": 1, "spent": 3}', b"\xff"])
def test_a_broken_count_is_told_and_begins_at_zero(clock, tmp_path, content, caplog):
    file = tmp_path / "link.json"
    file.write_bytes(content)
    gate = gate_of(clock, file, daily_bytes={"event": 200})
    assert gate.wait_s(message(), now_s=0.0) == 0
    assert "count from 0" in caplog.text


def test_a_clock_that_jumps_back_gives_no_second_budget(clock):
    gate = gate_of(clock, daily_bytes={"event": 200})
    gate.passed(message())
    clock.jump_wall(-86400)
    assert gate.wait_s(message(), now_s=0.0) > 0


# ---- batches ----


def link(clock, **settings):
    inner = FakeTransport(window=400)
    gate = gate_of(clock, **settings)
    transport = LinkTransport(inner, encoding=gate._settings.compress, topics=TOPICS, gate=gate)
    transport.connect()
    return transport, inner, gate


def envelopes(n, stream="gate", first=1):
    envelope = Envelope("d", "boot", synced=lambda: True)
    made = []
    for number in range(first, first + n):
        event = Event("line_crossed", stream, float(number), {"direction": "in", "count": number})
        body = envelope.encode(event, number)
        made.append(replace(message(stream=stream, seq=number), topic=TOPICS.event(stream), payload=body))
    return made


def unpack(payload, encoding):
    if encoding == "gzip":
        return gzip.decompress(payload).split(b"\n")
    return pytest.importorskip("zstandard").ZstdDecompressor().decompress(payload).split(b"\n")


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_events_travel_in_one_message_and_are_acknowledged_one_by_one(clock, encoding):
    if encoding == "zstd":
        pytest.importorskip("zstandard")
    transport, inner, gate = link(clock, compress=encoding)
    sent = envelopes(20)
    for one in sent:
        transport.publish(one)
        gate.passed(one)
    progress = transport.poll(0.0)
    (batch,) = inner.received
    assert batch.topic == f"edge/v1/t/s/d/batch/gate/{encoding}"
    lines = unpack(batch.payload, encoding)
    assert [decode(line)["seq"] for line in lines] == list(range(1, 21))
    assert progress.acked == tuple(range(1, 21))
    assert len(batch.payload) * 4 < sum(len(one.payload) for one in sent)
    assert gate.meter.spent["event"] == len(batch.payload) + len(batch.topic) + HEADERS_BYTES


def test_streams_are_packed_apart_and_alarms_images_and_single_events_pass_as_they_are(clock):
    transport, inner, _ = link(clock, compress="gzip")
    alarm, image = message("alarm", seq=90), message("image", seq=91)
    for one in (*envelopes(2, "a"), alarm, *envelopes(3, "b", first=10), image, *envelopes(1, "c", first=20)):
        transport.publish(one)
    progress = transport.poll(0.0)
    assert [one.seq for one in inner.received[:2]] == [90, 91]
    assert [one.topic.split("/", 5)[5] for one in inner.received[2:]] == [
        "batch/a/gzip", "batch/b/gzip", "event/c",
    ]  # fmt: skip
    assert sorted(progress.acked) == [1, 2, 10, 11, 12, 20, 90, 91]


def test_a_batch_has_a_size(clock):
    transport, inner, _ = link(clock, compress="gzip")
    for one in envelopes(2 * MAX_BATCH + 1):
        transport.publish(one)
    assert len(inner.received) == 2
    acked = [*transport.poll(0.0).acked, *transport.poll(0.0).acked]
    assert acked == list(range(1, 2 * MAX_BATCH + 2))


def test_a_small_batch_waits_for_those_on_their_way_and_an_alarm_does_not(clock):
    transport, inner, _ = link(clock, compress="gzip")
    for one in envelopes(5):
        transport.publish(one)
    inner.deaf = True
    transport.poll(0.0)
    for one in envelopes(3, first=6):
        transport.publish(one)
    transport.publish(message("alarm", seq=99))
    transport.poll(0.0)
    assert [one.seq for one in inner.received] == [-1, 99]
    inner.deaf = False
    assert sorted(transport.poll(0.0).acked) == [1, 2, 3, 4, 5, 99]
    assert sorted(transport.poll(0.0).acked) == [6, 7, 8]
    assert len(inner.received) == 3


def test_no_more_is_on_its_way_than_the_other_end_takes(clock):
    inner = FakeTransport(window=2)
    gate = gate_of(clock, compress="gzip")
    transport = LinkTransport(inner, encoding="gzip", topics=TOPICS, gate=gate)
    transport.connect()
    assert transport.window == 2 * MAX_BATCH
    for one in envelopes(5 * MAX_BATCH):
        transport.publish(one)
    transport.publish(message("alarm", seq=9999))
    acked = []
    for _ in range(8):
        acked += transport.poll(0.0).acked
    assert inner.max_open == 2
    assert sorted(acked) == [*range(1, 5 * MAX_BATCH + 1), 9999]
    assert [one.seq for one in inner.received] == [-1, -2, 9999, -3, -4, -5]


def test_a_refused_batch_is_refused_message_by_message_and_a_loss_forgets_it(clock):
    transport, inner, _ = link(clock, compress="gzip")
    inner.refuse = lambda one: "no"
    for one in envelopes(3):
        transport.publish(one)
    assert transport.poll(0.0).refused == ((1, "no"), (2, "no"), (3, "no"))
    inner.refuse = lambda one: ""
    for one in envelopes(3):
        transport.publish(one)
    transport.abort()
    transport.connect()
    assert transport.poll(0.0).acked == ()


# ---- thumbnails ----


def jpeg(width, height):
    noise = np.random.default_rng(1).integers(0, 255, (9, 16, 3), np.uint8)
    picture = cv2.resize(noise, (width, height))
    return cv2.imencode(".jpg", picture)[1].tobytes()


def test_a_thumbnail_goes_before_the_picture():
    compose = compose_native(TOPICS, Envelope("d", "boot"), thumbnail_px=160)
    whole = jpeg(640, 360)
    small, full = compose(Event("snapshot", "gate", 0.0, priority="image", picture=whole))
    assert (small.topic, full.topic) == ("edge/v1/t/s/d/image/gate/thumbnail", "edge/v1/t/s/d/image/gate")
    assert full.body == whole
    assert cv2.imdecode(np.frombuffer(small.body, np.uint8), 1).shape == (90, 160, 3)
    assert len(small.body) < len(whole) / 4


@pytest.mark.parametrize("picture", [b"", b"no picture", jpeg(160, 90)[:50], jpeg(100, 50)])
def test_what_cannot_be_made_smaller_has_none(picture):
    assert shrink(picture, 160) == b""
