"""What waits goes onto a stick and is deleted when it has arrived."""

import gzip
import json
import os
import random

import pytest

from edgeai.errors import DataError, OutboxError
from edgeai.sinks.outbox import Outbox, carry
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.outbox.seal import Seal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "outbox.db"


@pytest.fixture
def stick(tmp_path):
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick" / "gate-1.carry"


def drafts(n=5, **more):
    return [
        Draft("edge/v1/t/s/d/event/gate", b"payload \xff %d" % number, stream="gate", **more)
        for number in range(n)
    ]


def fill(path, seal=None):
    with Outbox(path, seal=seal) as outbox:
        outbox.put_many(
            [
                *drafts(5),
                Draft("edge/v1/t/s/d/telemetry/gate", b"latest", priority="telemetry", latest=True),
                Draft("frigate/events", b"elsewhere", destination="frigate"),
                Draft("edge/v1/t/s/d/image/gate", b"jpeg", qos=0, priority="image"),
            ]
        )


def test_there_and_back(path, stick):
    fill(path)
    export = carry.export_messages(path, stick, device="gate-1")
    assert export.count == 6
    assert carry.read_carry(stick)[0] == export
    messages = carry.read_carry(stick)[1]
    assert [message.seq for message in messages] == [1, 2, 3, 4, 5, 8]
    assert (messages[0].payload, messages[0].topic, messages[0].qos) == (
        b"payload \xff 0",
        "edge/v1/t/s/d/event/gate",
        1,
    )
    assert messages[-1].priority == "image"
    receipt = carry.write_receipt(stick.with_name("r.json"), export, [1, 2, 3, 8])
    assert carry.read_receipt(receipt, path) == {1, 2, 3, 8}
    with Outbox(path) as outbox:
        assert outbox.pending == 8  # nothing was taken out by exporting
        outbox.ack(carry.read_receipt(receipt, path))
        assert [message.seq for message in outbox.peek(99)] == [4, 5, 6, 7]


def test_an_outbox_in_use_is_exported_too(path, stick):
    with Outbox(path) as outbox:
        outbox.put_many(drafts(3))
        assert carry.export_messages(path, stick, device="gate-1").count == 3
        outbox.put_many(drafts(2))


def test_a_sealed_outbox_travels_sealed(path, stick):
    seal = Seal([os.urandom(32)])
    fill(path, seal)
    with pytest.raises(OutboxError, match="there is no key"):
        carry.export_messages(path, stick, device="gate-1")
    assert not stick.exists()
    carry.export_messages(path, stick, device="gate-1", seal=seal)
    assert b"payload" not in gzip.decompress(stick.read_bytes()).replace(b'"payload"', b"")
    with pytest.raises(OutboxError, match="encrypted"):
        carry.read_carry(stick)
    with pytest.raises(OutboxError, match="another key"):
        carry.read_carry(stick, seal=Seal([os.urandom(32)]))
    assert carry.read_carry(stick, seal=seal)[1][0].payload == b"payload \xff 0"


def test_where_nothing_waits_nothing_is_written(path, stick):
    with pytest.raises(OutboxError, match="no outbox at"):
        carry.export_messages(path, stick, device="gate-1")
    Outbox(path).open()
    with pytest.raises(OutboxError, match="nothing waits"):
        carry.export_messages(path, stick, device="gate-1")
    assert list(stick.parent.iterdir()) == []


def test_a_stick_that_takes_nothing_is_told(path, tmp_path):
    fill(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"carry file .* cannot be written"):
        carry.export_messages(path, tmp_path / "file" / "x.carry", device="gate-1")


@pytest.mark.parametrize("seed", range(30))
def test_a_file_that_was_cut_or_changed_is_not_believed(path, stick, seed):
    rng = random.Random(seed)
    fill(path)
    carry.export_messages(path, stick, device="gate-1")
    whole = stick.read_bytes()
    if seed % 2:
        changed = whole[: rng.randrange(len(whole))]
    else:
        at = rng.randrange(10, len(whole))  # gzip's header holds a time that nobody reads
        changed = whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
    stick.write_bytes(changed)
    with pytest.raises(OutboxError):
        carry.read_carry(stick)


def forged(stick, lines):
    import hashlib

    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    end = {"end": len(lines) - 1, "sha256": hashlib.sha256(text).hexdigest()}
    stick.write_bytes(gzip.compress(text + json.dumps(end).encode() + b"\n", mtime=0))


GOOD = {
    "seq": 1, "topic": "edge/v1/t/s/d/event/gate", "payload": "", "qos": 1, "retain": False,
    "priority": "event", "stream": "gate", "wall_s": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"topic": "edge/v1/t/s/d/cmd/restart"},
        {"topic": "edge/v1/t/s/d/cfg/desired"},
        {"topic": "edge/v1/t/s/d/event/a/b"},
        {"topic": "edge/v1/t/s/d/event/+"},
        {"topic": "homeassistant/device/x/config"},
        {"topic": 5},
        {"seq": 0},
        {"seq": True},
        {"seq": "1"},
        {"priority": "emergency"},
        {"payload": "%%%"},
        {"payload": None},
        {"wall_s": "yesterday"},
        {"stream": None},
    ],
)
def test_what_no_outbox_exports_is_not_imported(stick, change):
    header = {"edgeai_carry": 1, "device": "d", "sealed": False}
    forged(stick, [header, GOOD])
    assert len(carry.read_carry(stick)[1]) == 1
    forged(stick, [header, {**GOOD, **change}])
    with pytest.raises(OutboxError):
        carry.read_carry(stick)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b", gzip.compress(b"{}\n", mtime=0), gzip.compress(b"[" * 100_000, mtime=0), b"text"],
)
def test_a_file_that_is_no_carry_file(stick, content):
    stick.write_bytes(content)
    with pytest.raises(OutboxError):
        carry.read_carry(stick)


def test_a_bomb_is_not_unpacked(stick):
    stick.write_bytes(gzip.compress(b"\0" * (64 << 20), mtime=0))
    with pytest.raises(OutboxError):
        carry.read_carry(stick)


@pytest.mark.parametrize(
    ("receipt", "told"),
    [
        ("{}", "no receipt"),
        ("[1]", "no receipt"),
        ("not json", "cannot be used"),
        ('{"edgeai_receipt": 1, "export": "00", "delivered": [[1, 9]]}', "does not know"),
    ],
)
def test_a_receipt_of_elsewhere_deletes_nothing(path, stick, tmp_path, receipt, told):
    fill(path)
    carry.export_messages(path, stick, device="gate-1")
    file = tmp_path / "receipt.json"
    file.write_text(receipt)
    with pytest.raises(OutboxError, match=told):
        carry.read_receipt(file, path)


def test_a_receipt_covers_no_more_than_was_exported(path, stick, tmp_path):
    fill(path)
    export = carry.export_messages(path, stick, device="gate-1")
    with Outbox(path) as outbox:
        outbox.put_many(drafts(5))
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps({"edgeai_receipt": 1, "export": export.sha256, "delivered": [[-5, 10**15]]}))
    assert carry.read_receipt(file, path) == {1, 2, 3, 4, 5, 8}


def test_what_is_left_for_a_running_device_is_taken_once(path):
    path.touch()
    carry.leave_acknowledgement(path, [1, 2, 9])
    path.with_name("outbox.db.acknowledged-bad.json").write_text("{")
    assert carry.take_acknowledgements(path) == {1, 2, 9}
    assert carry.take_acknowledgements(path) == set()
