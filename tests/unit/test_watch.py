import gzip
import json

import pytest
from fake_transport import FakeTransport

from edgeai.cli.mqtt_lines import _cut, _parts, json_line, summary_json, tell_summary, telling, visible
from edgeai.sinks.mqtt.session import Inbound
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.payload import Envelope, PayloadError, compose_native
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.watch import messages as watch_module
from edgeai.sinks.watch.batch import MAX_UNPACKED_BYTES, unpack
from edgeai.sinks.watch.counts import MAX_ROWS, MAX_TRACKERS
from edgeai.sinks.watch.messages import Watcher, WatchFilter
from edgeai.types import Event

ROOT = "edge/v1/t/s/gate-1/"
NOW_S = 1_700_000_000.0


def envelope(number, **changes):
    return {
        "schema": 1,
        "id": f"id-{number}",
        "type": "line_crossed",
        "device": "gate-1",
        "stream": "gate",
        "seq": number,
        "boot_id": "boot-1",
        "priority": "event",
        "time_s": 1.0,
        "wall_time": "2023-11-14T22:13:19.750Z",
        "monotonic_s": 1.0,
        "clock_synced": True,
        "data": {"rule": "middle", "direction": "in", "score": 0.5, "box": [0, 0, 1, 1], "totals": {"in": 1}},
    } | changes


def line(number, **changes):
    return json.dumps(envelope(number, **changes)).encode()


def watcher(**wanted):
    return Watcher(WatchFilter(**wanted), wall_s=lambda: NOW_S)


def one(watching, topic, payload, *, retained=False):
    (seen,) = watching.take(Inbound(ROOT + topic, payload, retained=retained))
    return seen


def shown(sighting, columns=80):
    return _cut("".join(text for text, _ in _parts(sighting, "", columns)), columns)


def test_an_event_is_decoded():
    seen = one(watcher(), "event/gate", line(1))
    assert (seen.kind, seen.device, seen.stream, seen.type) == ("event", "gate-1", "gate", "line_crossed")
    assert (seen.latency_s, seen.clock_synced, seen.marks, seen.problem) == (0.25, True, (), "")
    text = shown(seen, 100)
    assert text[12:] == ' gate-1/gate line_crossed middle in score=0.5 totals={"in": 1} 250 ms'
    assert len(shown(seen, 60)) == 60
    assert shown(seen, 60).endswith("… 250 ms")


@pytest.mark.parametrize(("synced", "said"), [(True, "250 ms"), (None, "~250 ms"), (False, "1}")])
def test_latency_by_what_the_device_says_of_its_clock(synced, said):
    assert shown(one(watcher(), "event/gate", line(1, clock_synced=synced))).endswith(f" {said}")


def test_repeated_late_and_missing_are_marked_and_counted():
    watching = watcher()
    marks = [one(watching, "event/gate", line(number)).marks for number in (5, 6, 6, 10, 8, 5, 11)]
    assert marks == [(), (), ("duplicate",), ("gap 3",), ("late",), ("duplicate",), ()]
    (row,) = watching.counts.rows
    assert (row.events, row.duplicates, row.late, row.missing) == (5, 2, 1, None)
    (device,) = watching.counts.devices
    assert (device.lowest, device.highest, device.unseen, device.exact) == (5, 11, 2, True)


def test_gaps_are_told_only_where_all_of_a_device_is_watched():
    for wanted in ({"stream": "gate"}, {"classes": ("event",)}, {"topic": "edge/#"}):
        watching = watcher(**wanted)
        assert [one(watching, "event/gate", line(number)).marks for number in (1, 9)] == [(), ()]
        assert watching.counts.devices == []
    watching = watcher(type="nothing")
    assert not list(watching.take(Inbound(ROOT + "event/gate", line(1))))
    assert watching.counts.devices[0].highest == 1  # what is not shown is not missing


def test_a_counter_of_the_stream_tells_losses_wherever_it_is_seen():
    watching = watcher(stream="gate")
    marks = [
        one(watching, "event/gate", line(number, seq=10 * number, stream_seq=number)).marks
        for number in (1, 2, 5, 4)
    ]
    assert marks == [(), (), ("gap 2",), ("late",)]
    assert watching.counts.rows[0].missing == 1


def test_a_device_that_counts_its_streams_has_no_gaps_by_the_other_counter():
    watching = watcher()
    one(watching, "event/gate", line(1, stream_seq=1))
    assert one(watching, "telemetry/gate", line(9)).marks == ()
    assert one(watching, "event/gate", line(20, stream_seq=2)).marks == ()
    assert watching.counts.devices[0].unseen == 17


def test_a_new_start_and_a_new_connection_begin_anew():
    watching = watcher()
    one(watching, "event/gate", line(50))
    assert one(watching, "event/gate", line(1, boot_id="boot-2")).marks == ()
    watching.reconnected()
    assert one(watching, "event/gate", line(90)).marks == ()
    assert [each.unseen for each in watching.counts.devices] == [0, 0, 0]


def test_what_lay_there_before_says_nothing_of_the_link():
    watching = watcher()
    seen = one(watching, "telemetry/gate", line(3, type="totals"), retained=True)
    assert (seen.marks, seen.latency_s) == (("retained",), None)
    assert one(watching, "event/gate", line(90)).marks == ()
    assert watching.counts.rows[0].events == 1


def test_the_topic_is_believed_before_the_payload():
    seen = one(watcher(), "event/gate", line(1, device="gate-2", stream="door"))
    assert (seen.device, seen.stream, seen.marks) == ("gate-1", "gate", ("says gate-2",))


def zstd(data):
    return pytest.importorskip("zstandard").ZstdCompressor().compress(data)


@pytest.mark.parametrize(("coding", "pack"), [("gzip", gzip.compress), ("zstd", zstd)])
def test_batches_are_unpacked(coding, pack):
    watching = watcher()
    lines = [line(1), line(2, priority="telemetry", stream="door"), line(2), b"no json"]
    found = list(watching.take(Inbound(f"{ROOT}batch/gate/{coding}", pack(b"\n".join(lines) + b"\n"))))
    assert [seen.kind for seen in found] == ["event", "telemetry", "event", "batch"]
    assert [seen.marks for seen in found] == [(), (), ("duplicate",), ()]
    assert "not JSON" in found[3].problem


@pytest.mark.parametrize(
    ("coding", "payload", "said"),
    [
        ("gzip", b"no gzip", "not gzip"),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9], "cut off"),
        ("gzip", gzip.compress(b"x" * (MAX_UNPACKED_BYTES + 1), mtime=0), "8 MiB"),
        ("gzip", gzip.compress(b"\n" * 30_000, mtime=0), "lines"),
        ("br", b"", "coding 'br'"),
        ("zstd", b"no zstd", "not zstd"),
    ],
)
def test_hostile_batches_are_one_line(coding, payload, said):
    with pytest.raises(PayloadError, match=said):
        unpack(payload, coding)
    seen = one(watcher(), f"batch/gate/{coding}", payload)
    assert said in seen.problem


def test_a_zstd_bomb_is_not_unpacked():
    assert "8 MiB" in one(watcher(), "batch/gate/zstd", zstd(b"x" * (MAX_UNPACKED_BYTES + 1))).problem


def test_pictures_states_commands_and_strangers():
    watching = watcher()
    picture = one(watching, "image/gate", b"\xff\xd8\xff" + b"x" * 100)
    assert (picture.kind, picture.size_bytes, len(picture.picture)) == ("image", 103, 103)
    assert shown(picture).endswith(" gate-1/gate image 103 bytes")
    small = one(watching, "image/gate/thumbnail", b"\xff\xd8\xff small")
    assert shown(small).endswith(" gate-1/gate thumbnail 9 bytes")
    state = one(watching, "state", b'{"state":"online","boot_id":"b"}', retained=True)
    assert shown(state)[12:] == " gate-1 state online retained"
    assert shown(one(watching, "cmd/snapshot", b'{"id":"c-1"}'))[12:] == " gate-1 cmd snapshot id=c-1"
    assert shown(one(watching, "ack/c-1", b'{"result":"done"}'))[12:] == " gate-1 ack c-1 done"
    (other,) = watching.take(Inbound("frigate/events", b"\x00\x1b[2J"))
    assert shown(other)[12:] == r" frigate/events other \x00\x1b[2J"


def test_which_topics_are_subscribed_to():
    assert WatchFilter().topics == ("edge/v1/+/+/+/#",)
    assert WatchFilter(device="d", type="keyword").topics == ("edge/v1/+/+/d/#",)
    assert WatchFilter(stream="gate", classes=("event", "telemetry")).topics == (
        "edge/v1/+/+/+/event/gate",
        "edge/v1/+/+/+/batch/gate/+",
        "edge/v1/+/+/+/telemetry/gate",
    )
    assert len(WatchFilter(stream="gate").topics) == 5
    assert WatchFilter(topic="a/#").topics == ("a/#",)


ESCAPES = ["\x1b[2J", "\x9b31m", "\x07", "\r\n", "\u202e", "\u2028", "\u200b", "\x7f", "\x00", "\U000e0041"]


@pytest.mark.parametrize("sign", ESCAPES)
def test_nothing_reaches_the_terminal_that_it_obeys(sign):
    payloads = [
        line(1, type=f"a{sign}b", boot_id=sign, id=sign, stream=sign, data={f"k{sign}": sign, "n": [sign]}),
        line(2, device=f"x{sign}"),
        f"{sign} no json".encode(errors="surrogatepass"),
        b"\xff" + sign.encode(),
    ]
    watching = watcher()
    topics = [ROOT + "event/gate", f"edge/v1/t/s/d{sign}/event/g{sign}", f"x{sign}"]
    for topic in topics:
        for payload in payloads:
            for seen in watching.take(Inbound(topic, payload)):
                text = shown(seen)
                assert text.isprintable()
                assert json_line(seen).isascii()
    assert all(visible(f"{row.device}{row.stream}").isprintable() for row in watching.counts.rows)


def test_what_is_shown_first():
    data = {
        "box": [1],
        "score": 0.5,
        "nested": {"a": 1},
        "label": "car",
        "rule": "r",
        "ok": True,
        "none": None,
    }
    assert telling(data) == 'r car score=0.5 ok=true none=null nested={"a": 1}'


def test_the_table_fits_80_columns(capsys):
    watching = watcher()
    for number in (1, 2, 2, 7):
        list(watching.take(Inbound(ROOT + "event/driveway", line(number, stream_seq=number))))
    list(watching.take(Inbound(ROOT + "event/driveway", b"bad")))
    tell_summary(watching.counts)
    table = capsys.readouterr().err
    assert "gate-1/driveway" in table
    assert max(map(len, table.splitlines())) <= 80
    assert table.splitlines()[3].split() == ["gate-1/driveway", "3", "1", "0", "4", "1", "250/250/250", "ms"]


def test_json_stays_json():
    seen = one(watcher(), "cmd/x", b'{"a": [NaN, 1e999, {"b": -Infinity}], "c": 1}')
    assert json.loads(json_line(seen), parse_constant=pytest.fail)["data"] == {
        "a": [None, None, {"b": None}],
        "c": 1,
    }


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(watch_module, "MAX_IDS", 100)
    watching = watcher()
    for number in range(3000):
        topic = f"edge/v1/t/s/d{number}/event/s"
        list(watching.take(Inbound(topic, line(number, stream_seq=1, device=f"d{number}"))))
    counts = watching.counts
    assert len(watching._ids) == 100
    assert len(counts.rows) == MAX_ROWS
    assert max(map(len, (counts._of_device, counts._of_stream, counts._newest))) <= MAX_TRACKERS
    json.dumps(summary_json(counts))


@pytest.mark.parametrize("seq", [-1, 10**300, True])
def test_numbers_that_no_outbox_gives(seq):
    watching = watcher()
    for number in (1, 2):
        list(watching.take(Inbound(ROOT + "event/gate", line(number, seq=seq, stream_seq="x"))))
    assert watching.counts.devices == []


def test_pictures_leave_no_gap_between_events(tmp_path):
    compose = compose_native(TopicTree("t", "s", "gate-1"), Envelope("gate-1", "boot-1"))
    transport = FakeTransport()
    with StoreAndForward(transport, Outbox(tmp_path / "outbox.db"), compose=compose) as sink:
        for picture in (b"", b"\xff\xd8\xff", b""):
            sink.send(Event("x", "gate", 0.0, priority="image" if picture else "event", picture=picture))
        assert sink.flush(20)
    watching = watcher(stream="gate")
    for each in transport.received:
        list(watching.take(Inbound(each.topic, each.payload)))
    assert watching.counts.rows[0].missing == 0
