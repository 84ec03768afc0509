import base64
import contextlib
import errno
import io
import json
import os
import threading

import pytest

from edgeai.sinks.file_lines import FileLines
from edgeai.sinks.file_transport import FileTransport, StdoutTransport, line_of
from edgeai.sinks.outbox.message import Message
from edgeai.sinks.transport import Progress, TransportBusyError, TransportError, TransportRefusedError


def message(seq=1, payload=None, priority="event"):
    payload = json.dumps({"n": seq}).encode() if payload is None else payload
    return Message(seq, "edge/v1/t/s/d/image/gate", payload, 1, False, priority, "gate", 0.0, 0.0)


PICTURE = message(9, b"\xff\xd8 a\nb \xff", "image")


def numbers(path):
    return [json.loads(line)["n"] for line in path.read_bytes().splitlines()]


@pytest.fixture
def file(tmp_path):
    transport = FileTransport(tmp_path / "sub" / "e.jsonl")
    transport.connect()
    yield transport
    transport.close()


def test_lines_are_there_when_they_are_acknowledged(file, tmp_path):
    for seq in (1, 2, 3):
        file.publish(message(seq))
    assert file.poll(1.0).acked == (1, 2, 3)
    assert numbers(tmp_path / "sub" / "e.jsonl") == [1, 2, 3]


@pytest.mark.parametrize("durable", [True, False])
def test_lines_are_synced_before_they_are_acknowledged(tmp_path, monkeypatch, durable):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    file = FileTransport(tmp_path / "e.jsonl", durable=durable)
    file.connect()
    for seq in range(10):
        file.publish(message(seq))
    assert len(file.poll(0.0).acked) == 10
    assert (synced[:1] == [(tmp_path / "e.jsonl").stat().st_size]) == durable  # and the folder, once
    assert len(synced) == (2 if durable else 0)
    file.publish(message(11))
    file.poll(0.0)
    assert len(synced) == (3 if durable else 0)


def test_it_rotates_within_a_batch_too(tmp_path):
    file = FileTransport(tmp_path / "e.jsonl", max_bytes=30, keep=2)
    file.connect()
    for seq in range(1, 8):
        file.publish(message(seq))
    assert len(file.poll(0.0).acked) == 7
    assert [numbers(tmp_path / name) for name in ("e.jsonl.2", "e.jsonl.1", "e.jsonl")] == [
        [1, 2, 3],
        [4, 5, 6],
        [7],
    ]
    file.close()


def test_a_torn_line_is_closed(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": ')
    file = FileTransport(path)
    file.connect()
    file.publish(message(2))
    file.poll(0.0)
    file.close()
    assert path.read_bytes() == b'{"n": 1}\n{"n": \n{"n": 2}\n'


def test_a_full_disk_makes_them_wait_and_leaves_whole_lines(tmp_path, monkeypatch):
    path = tmp_path / "e.jsonl"
    file = FileTransport(path)
    file.connect()
    file.publish(message(1))
    file.poll(0.0)
    full = [True]

    class Half(io.FileIO):
        def write(self, data):
            return super().write(data[: len(data) // 2] if full else data)

    file._file.close()
    file._file._out = Half(path, "a+")
    file.publish(message(2))
    with pytest.raises(TransportBusyError, match="cannot be written"):
        file.poll(0.0)
    assert numbers(path) == [1]
    full.clear()
    file.connect()
    for seq in (2, 3):
        file.publish(message(seq))
    assert file.poll(0.0).acked == (2, 3)
    assert numbers(path) == [1, 2, 3]
    file.close()


def test_a_sync_that_fails_acknowledges_nothing(tmp_path, monkeypatch):
    def fails(fd):
        raise OSError(errno.EIO, "Input/output error")

    file = FileTransport(tmp_path / "e.jsonl")
    file.connect()
    monkeypatch.setattr(os, "fsync", fails)
    file.publish(message(1))
    with pytest.raises(TransportBusyError, match="Input/output error"):
        file.poll(0.0)
    assert (tmp_path / "e.jsonl").read_bytes() == b""
    file.close()


def test_a_rotation_that_fails_is_mended_by_the_next_one(tmp_path, monkeypatch):
    lines = FileLines(tmp_path / "e", max_bytes=4, keep=1)
    lines.open()
    lines.append([b"abc\n"])
    (tmp_path / "e.1").mkdir()
    with pytest.raises(OSError, match="directory"):
        lines.append([b"def\n"])
    (tmp_path / "e.1").rmdir()
    lines.append([b"def\n"])
    assert ((tmp_path / "e.1").read_bytes(), (tmp_path / "e").read_bytes()) == (b"abc\n", b"def\n")
    lines.close()


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(TransportError, match="cannot be opened"):
        FileTransport(tmp_path).connect()


def test_pictures_are_left_out_and_told_once(file, tmp_path, caplog):
    for one in (PICTURE, message(2), PICTURE):
        file.publish(one)
    assert sorted(file.poll(0.0).acked + file.poll(0.0).acked) == [2, 9, 9]
    assert file.skipped == 2
    assert len(caplog.records) == 1
    assert numbers(tmp_path / "sub" / "e.jsonl") == [2]


def test_a_line_is_a_line_whatever_the_payload():
    assert line_of(message(1), images=False) == b'{"n": 1}\n'
    assert json.loads(line_of(message(1, b'{"a":\n[1,\r\n2]}'), images=False)) == {"a": [1, 2]}
    assert line_of(PICTURE, images=False) is None
    line = line_of(PICTURE, images=True)
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert (found["topic"], base64.b64decode(found["image_base64"])) == (PICTURE.topic, PICTURE.payload)
    assert line_of(message(1, b"{not json\n}"), images=False) is None


def test_idle_waiting_ends_on_wake(file):
    threading.Timer(0.02, file.wake).start()
    assert file.poll(30.0) == Progress()


class Pipe:
    def __init__(self):
        self.reading, writing = os.pipe()
        self.out = os.fdopen(writing, "wb", buffering=0)

    def read(self, n=1 << 20):
        return os.read(self.reading, n)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for close in (self.out.close, lambda: os.close(self.reading)):
            with contextlib.suppress(OSError):
                close()


@pytest.fixture
def pipe():
    with Pipe() as made:
        yield made


def test_standard_output_gets_lines_at_once(pipe):
    transport = StdoutTransport(out=pipe.out)
    transport.connect()
    for seq in (1, 2):
        transport.publish(message(seq))
    assert transport.poll(1.0).acked == (1, 2)
    assert pipe.read() == b'{"n": 1}\n{"n": 2}\n'
    transport.close()


def test_a_reader_that_pauses_blocks_nothing_and_tears_no_line(pipe, monkeypatch):
    transport = StdoutTransport(out=pipe.out)
    transport.connect()
    large = [message(seq, json.dumps({"n": seq, "x": "y" * 50_000}).encode()) for seq in range(4)]
    for one in large:
        transport.publish(one)
    acked = list(transport.poll(0.0).acked)
    assert transport.poll(0.0) == Progress()  # the pipe is full
    monkeypatch.setattr("edgeai.sinks.file_transport.UNREAD_S", 0.0)
    with pytest.raises(TransportBusyError, match="nobody has read it"):
        transport.poll(0.0)
    transport.connect()  # as a drain does; the line that was begun is finished first
    got = pipe.read()
    for one in large[len(acked) :]:
        transport.publish(one)
    monkeypatch.undo()
    while len(acked) < 4:
        acked += transport.poll(0.0).acked
        got += pipe.read()
    lines = [json.loads(line)["n"] for line in got.splitlines()]
    assert acked == [0, 1, 2, 3]
    assert list(dict.fromkeys(lines)) == [0, 1, 2, 3]
    transport.close()


def test_a_reader_that_is_gone_is_told(pipe):
    told = []
    transport = StdoutTransport(out=pipe.out, reader_gone=lambda: told.append(True))
    transport.connect()
    os.close(pipe.reading)
    transport.publish(message(1))
    with pytest.raises(TransportRefusedError, match="nobody reads"):
        transport.poll(1.0)
    assert told == [True]
    pipe.out.close()
    transport.close()


def test_a_stream_without_a_descriptor():
    out = io.BytesIO()
    transport = StdoutTransport(out=out)
    transport.connect()
    transport.publish(message(1))
    assert transport.poll(0.0).acked == (1,)
    assert out.getvalue() == b'{"n": 1}\n'
    transport.close()
    with pytest.raises(TransportError, match="not connected"):
        transport.publish(message(2))


def test_waking_before_and_after_is_harmless(tmp_path):
    transport = FileTransport(tmp_path / "e")
    transport.wake()
    transport.close()
    transport.connect()
    transport.close()
    transport.close()
    transport.wake()
