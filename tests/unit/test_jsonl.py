import io
import json
import threading

import pytest

from edgeai.errors import SinkError
from edgeai.sinks.jsonl import JsonlSink, StdoutSink
from edgeai.sinks.payload import Envelope, decode
from edgeai.types import Event

ENVELOPE = Envelope("cam-001", "boot-1", synced=lambda: None)


def event(number=0, **data):
    return Event("tick", "gate", float(number), data)


def lines(path):
    return [decode(line) for line in path.read_bytes().splitlines()]


def test_each_event_is_a_line_and_appended(tmp_path):
    path = tmp_path / "sub" / "events.jsonl"
    for _ in range(2):
        with JsonlSink(path, ENVELOPE) as sink:
            sink.send(event(1, text="two\nlines"))
            sink.send(event(2))
    assert [(line["time_s"], line["seq"]) for line in lines(path)] == [(1.0, 1), (2.0, 2)] * 2


def test_it_rotates_by_size_and_keeps_so_many(tmp_path):
    path = tmp_path / "e.jsonl"
    with JsonlSink(path, ENVELOPE, max_bytes=600, keep=2) as sink:
        for number in range(20):
            sink.send(event(number))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["e.jsonl", "e.jsonl.1", "e.jsonl.2"]
    assert all(file.stat().st_size <= 600 for file in tmp_path.iterdir())
    kept = [line["seq"] for name in ("e.jsonl.2", "e.jsonl.1", "e.jsonl") for line in lines(tmp_path / name)]
    assert kept == list(range(kept[0], 21))


def test_keeping_no_old_file(tmp_path):
    with JsonlSink(tmp_path / "e.jsonl", ENVELOPE, max_bytes=300, keep=0) as sink:
        for number in range(5):
            sink.send(event(number))
    assert [file.name for file in tmp_path.iterdir()] == ["e.jsonl"]


def test_a_line_larger_than_the_limit_gets_a_file_of_its_own(tmp_path):
    with JsonlSink(tmp_path / "e.jsonl", ENVELOPE, max_bytes=10) as sink:
        sink.send(event(1))
        sink.send(event(2))
    assert [line["seq"] for line in lines(tmp_path / "e.jsonl.1")] == [1]


def test_a_torn_line_spoils_no_other(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_bytes(b'{"schema": 1, "torn')
    with JsonlSink(path, ENVELOPE, durable=True) as sink:
        sink.send(event(1))
    assert decode(path.read_bytes().splitlines()[1])["seq"] == 1


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(SinkError, match="cannot be opened: Is a directory"):
        JsonlSink(tmp_path, ENVELOPE).open()
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot be opened"):
        JsonlSink(tmp_path / "file" / "e.jsonl", ENVELOPE).open()


def test_a_full_disk_is_told_and_leaves_whole_lines_only(tmp_path):
    class Half(io.FileIO):
        full = True

        def write(self, data):
            return super().write(data[: len(data) // 2] if self.full else data)

    with JsonlSink(tmp_path / "e.jsonl", ENVELOPE) as sink:
        sink.send(event(1))
        sink._lines.close()
        sink._lines._out = disk = Half(tmp_path / "e.jsonl", "a+")
        with pytest.raises(SinkError, match="cannot be written"):
            sink.send(event(2))
        disk.full = False
        sink.send(event(3))
    assert [(line["time_s"], line["seq"]) for line in lines(tmp_path / "e.jsonl")] == [(1.0, 1), (3.0, 2)]


@pytest.mark.parametrize("bounds", [{"max_bytes": 0}, {"keep": -1}])
def test_senseless_bounds_are_refused(tmp_path, bounds):
    with pytest.raises(SinkError, match="above 0"):
        JsonlSink(tmp_path / "e", ENVELOPE, **bounds)


def test_standard_output_gets_whole_lines_from_many_threads():
    out = io.BytesIO()
    with StdoutSink(ENVELOPE, out=out) as sink:
        threads = [
            threading.Thread(target=lambda: [sink.send(event(number)) for number in range(100)])
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [json.loads(line)["seq"] for line in out.getvalue().splitlines()] == list(range(1, 401))


def test_a_closed_pipe_is_told():
    class Pipe(io.BytesIO):
        def write(self, data):
            raise BrokenPipeError(32, "Broken pipe")

    with (
        StdoutSink(ENVELOPE, out=Pipe()) as sink,
        pytest.raises(SinkError, match="standard output cannot be written"),
    ):
        sink.send(event())
