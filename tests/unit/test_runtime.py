"""Streams in threads: what is counted, what one failure does to the others, and how all of it ends."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter

import numpy as np
import pytest
from blob_bundle import picture, write_blob_bundle, write_walk
from tiny_bundle import write_keyword_bundle

from edgeai import runtime as runtime_module
from edgeai.config import Config
from edgeai.engines import EdgeEngine
from edgeai.errors import BundleMissingError, SinkError, SourceError, SourceMissingError
from edgeai.pipeline import CameraSteps
from edgeai.runtime import Runtime
from edgeai.sinks.jsonl import StdoutSink
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.payload import Envelope
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.sources.source import Source
from edgeai.stream import camera as camera_module
from edgeai.types import Frame

WAIT_S = 30.0


class Memory(Sink):
    """Keeps events; refuses those that `refuse` says."""

    def __init__(self, refuse=lambda event: False):
        self.events = []
        self._refuse = refuse

    def send(self, event):
        if self._refuse(event):
            raise SinkError("no")
        self.events.append(event)


class Script(Source[Frame]):
    """Yields what `frames` yields; blocks where it yields an Event until that is set, raises what it yields."""

    def __init__(self, frames, opening=None):
        self._frames = frames
        self._opening = opening
        self.closed_in = []

    def open(self):
        if self._opening:
            raise self._opening

    def close(self):
        self.closed_in.append(threading.current_thread().name)

    def __iter__(self):
        for step in self._frames:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, threading.Event):
                assert step.wait(WAIT_S)
            else:
                yield step


def frame(index, x=24):
    return Frame(picture(x), index, index / 10, "s")


def endless(begun=None):
    index = 0
    while True:
        yield frame(index)
        index += 1
        if begun is not None and index == 3:
            begun.set()


@pytest.fixture(scope="module")
def blob(tmp_path_factory):
    return str(write_blob_bundle(tmp_path_factory.mktemp("blob") / "blob").folder)


@pytest.fixture
def closes(monkeypatch):
    """The names of the threads that closed an engine, with how many."""
    found = Counter()
    real = EdgeEngine.close

    def close(self):
        found[threading.current_thread().name] += 1
        real(self)

    monkeypatch.setattr(EdgeEngine, "close", close)
    return found


@pytest.fixture
def scripted(monkeypatch, blob):
    """make(realtime, name=source, ...) -> (runtime, sink), each stream with the source given."""

    def make(*, realtime=False, sink=None, **sources):
        monkeypatch.setattr(camera_module, "open_camera", lambda uri, *, request: sources[request.stream])
        config = Config(
            cameras=tuple(
                {
                    "name": name,
                    "source": "x",
                    "model": blob,
                    "realtime": realtime,
                    "rules": ({"kind": "track"},),
                }
                for name in sources
            ),
            engines={"workers": 1},
        )
        sink = sink or Memory()
        return Runtime(config, sink), sink

    return make


def finished(runtime):
    """The reports of a whole run, by name."""
    with runtime:
        return {report.name: report for report in runtime.run()}


def in_background(runtime):
    """Run in a thread; (thread, reports), the reports filled at its end."""
    reports = {}

    def run():
        reports.update(finished(runtime))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, reports


def test_every_frame_where_time_does_not_matter(blob, tmp_path):
    video = write_walk(tmp_path / "walk.avi", frames=60)
    camera = {
        "name": "gate",
        "source": str(video),
        "model": blob,
        "realtime": False,
        "rules": ({"kind": "track"},),
    }
    sink = Memory()
    report = finished(Runtime(Config(cameras=(camera,)), sink))["gate"]
    assert (report.frames, report.dropped, report.failed) == (60, 0, "")
    assert [event.type for event in sink.events] == ["track_started", "track_ended"]
    assert (report.events, report.refused) == (2, 0)
    assert report.totals["tracks"]["ended"] == 1


def test_what_comes_too_fast_is_dropped_and_counted(scripted, monkeypatch):
    """The engine is held on frame 0 until the source has ended: one more frame, the newest, is seen."""
    busy, captured = threading.Event(), threading.Event()
    real = CameraSteps.prepare

    def prepare(self, frame):
        busy.set()
        assert captured.wait(WAIT_S)
        return real(self, frame)

    def frames():
        yield frame(0)
        assert busy.wait(WAIT_S)
        for index in range(1, 10):
            yield frame(index)
        captured.set()

    monkeypatch.setattr(CameraSteps, "prepare", prepare)
    runtime, _ = scripted(realtime=True, gate=Script(frames()))
    report = finished(runtime)["gate"]
    assert (report.frames, report.dropped, report.failed) == (2, 8, "")


def test_pictures_have_no_pace(blob, tmp_path):
    import cv2

    for index in range(12):
        cv2.imwrite(str(tmp_path / f"{index}.png"), picture(8))
    camera = {"name": "gate", "source": str(tmp_path), "model": blob, "realtime": True}
    report = finished(Runtime(Config(cameras=(camera,)), Memory()))["gate"]
    assert (report.frames, report.dropped) == (12, 0)


@pytest.mark.parametrize("fault", [SourceError("unplugged"), RuntimeError("a bug")])
def test_one_failure_leaves_the_others_alone(scripted, fault, closes):
    gone = threading.Event()

    def broken():
        yield from (frame(index) for index in range(5))
        gone.set()
        raise fault

    def whole():
        assert gone.wait(WAIT_S)
        yield from (frame(index) for index in range(7))

    runtime, sink = scripted(bad=Script(broken()), good=Script(whole()))
    reports = finished(runtime)
    assert (reports["good"].frames, reports["good"].failed) == (7, "")
    assert reports["bad"].frames == 5
    assert str(fault) in reports["bad"].failed
    ends = [event.stream for event in sink.events if event.type == "track_ended"]
    # a camera that went away ends its tracks; a fault of the program leaves no state to trust
    assert ends == (["s", "s"] if isinstance(fault, SourceError) else ["s"])
    assert closes == {"engine blob#0": 1}


def test_a_source_that_cannot_be_opened_leaves_the_others_alone(scripted):
    bad = Script([], opening=SourceMissingError("no such file"))
    runtime, _ = scripted(bad=bad, good=Script([frame(0)]))
    reports = finished(runtime)
    assert reports["bad"].failed == "camera bad: no such file"
    assert (reports["good"].frames, reports["good"].failed) == (1, "")


def test_with_nothing_to_do_the_fault_is_raised(scripted, closes):
    runtime, _ = scripted(bad=Script([], opening=SourceMissingError("no such file")))
    with pytest.raises(SourceMissingError, match=r"^camera bad: no such file$"):
        finished(runtime)
    assert closes == {"engine blob#0": 1}


def test_models_are_loaded_before_anything_starts(blob, tmp_path, closes):
    cameras = (
        {"name": "a", "source": "x", "model": blob},
        {"name": "b", "source": "x", "model": str(tmp_path / "none")},
    )
    with pytest.raises(BundleMissingError, match=r"^camera b: no bundle at"):
        Runtime(Config(cameras=cameras), Memory()).open()
    assert closes == {"engine blob#0": 1}


@pytest.mark.parametrize("realtime", [True, False])
def test_stop_ends_an_endless_source(scripted, closes, realtime):
    begun = threading.Event()
    runtime, sink = scripted(realtime=realtime, gate=Script(endless(begun)))
    thread, reports = in_background(runtime)
    assert begun.wait(WAIT_S)
    runtime.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert reports["gate"].failed == ""
    assert closes == {"engine blob#0": 1}
    assert (
        Counter(e.type for e in sink.events)["track_started"]
        == Counter(e.type for e in sink.events)["track_ended"]
    )


def test_stop_wakes_a_camera_that_waits_for_a_frame(scripted, monkeypatch, closes):
    waiting, never = threading.Event(), threading.Event()

    def frames():
        yield frame(0)
        waiting.set()
        yield never

    runtime, _ = scripted(realtime=True, gate=Script(frames()))
    thread, reports = in_background(runtime)
    assert waiting.wait(WAIT_S)
    runtime.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    never.set()
    assert reports["gate"].failed == ""
    assert closes == {"engine blob#0": 1}


def test_a_read_that_hangs_holds_up_no_other(scripted, closes):
    """A native call cannot be ended: the capture's thread is left behind, its camera and the others end in order."""
    hanging, release = threading.Event(), threading.Event()

    def frames():
        yield frame(0)
        hanging.set()
        yield release

    bad = Script(frames())
    runtime, _ = scripted(bad=bad, good=Script(endless()))
    thread, reports = in_background(runtime)
    assert hanging.wait(WAIT_S)
    runtime.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert reports["bad"].failed == reports["good"].failed == ""
    assert closes == {"engine blob#0": 1}
    assert not bad.closed_in  # never under the read
    release.set()
    deadline = time.monotonic() + WAIT_S
    while not bad.closed_in and time.monotonic() < deadline:
        time.sleep(0.01)
    assert bad.closed_in == ["camera bad capture"]


def test_an_engine_that_hangs_at_the_end_is_left_behind(scripted, monkeypatch, closes):
    hanging, release = threading.Event(), threading.Event()

    def run(self, inputs):
        hanging.set()
        assert release.wait(WAIT_S)
        return real(self, inputs)

    real = EdgeEngine.run
    monkeypatch.setattr(EdgeEngine, "run", run)
    monkeypatch.setattr(runtime_module, "JOIN_S", 0.2)
    runtime, _ = scripted(gate=Script(endless()))
    thread, reports = in_background(runtime)
    assert hanging.wait(WAIT_S)
    runtime.stop()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    assert reports["gate"].failed == "did not stop within 0.2 s"
    assert not closes
    release.set()
    for worker in threading.enumerate():
        if worker.name.startswith("engine blob"):
            worker.join(WAIT_S)
    assert closes == {"engine blob#0": 1}


def test_stop_before_the_beginning(scripted):
    runtime, _ = scripted(gate=Script(endless()))
    runtime.stop()
    assert finished(runtime)["gate"].frames == 0


def test_a_microphone_file_gives_keyword_events(tmp_path):
    import soundfile

    model = write_keyword_bundle(tmp_path / "tiny").folder
    sound = np.random.default_rng(3).normal(0, 0.1, 64000)
    soundfile.write(tmp_path / "a.wav", sound, 16000)
    microphone = {"name": "hall", "source": str(tmp_path / "a.wav"), "model": str(model), "threshold": 0.4}
    sink = Memory()
    report = finished(Runtime(Config(microphones=(microphone,)), sink))["hall"]
    assert report.frames == 42  # 40 chunks, and silence before and after
    assert {event.type for event in sink.events} == {"keyword"}
    assert report.events == len(sink.events) > 0


def test_events_that_are_refused_are_counted(scripted, caplog):
    sink = Memory(refuse=lambda event: event.type == "track_started")
    runtime, _ = scripted(sink=sink, gate=Script([frame(index) for index in range(5)]))
    report = finished(runtime)["gate"]
    assert (report.events, report.refused, report.failed) == (1, 1, "")
    assert caplog.text.count("could not be stored") == 1


def test_one_bad_event_takes_no_other_with_it(scripted, tmp_path, monkeypatch):
    """The events of one frame are stored at one stroke, all or none; so the others are tried again singly."""
    from fake_transport import FakeTransport

    from edgeai.sinks.payload import compose_native
    from edgeai.sinks.topics import TopicTree

    tree = TopicTree("t", "s", "d")
    sink = StoreAndForward(
        FakeTransport(), Outbox(tmp_path / "o.db"), compose=compose_native(tree, Envelope("d", "boot"))
    )
    real = CameraSteps.flush

    def flush(self):
        from edgeai.types import Event

        return (*real(self), Event("bad", "s", 0.0, {"x": float("nan")}), Event("good", "s", 0.0))

    monkeypatch.setattr(CameraSteps, "flush", flush)
    runtime, _ = scripted(sink=sink, gate=Script([frame(index) for index in range(5)]))
    with sink:
        report = finished(runtime)["gate"]
    assert (report.events, report.refused) == (3, 1)  # started, ended, good


def test_a_reader_that_went_away_ends_the_run(scripted):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb", buffering=0) as out:
        sink = StdoutSink(Envelope("d", "boot"), out=out)
        runtime, _ = scripted(sink=sink, gate=Script(endless()))
        with sink:
            report = finished(runtime)["gate"]
    assert runtime.reader_gone
    assert (report.events, report.refused, report.failed) == (0, 0, "")


def test_a_chore_that_fails_is_told_once_and_stops_nothing(scripted, caplog):
    done = []

    def chore():
        done.append(1)
        raise RuntimeError("a bug")

    begun = threading.Event()
    runtime, _ = scripted(gate=Script(endless(begun)))
    runtime.add_chore(chore)
    thread, reports = in_background(runtime)
    assert begun.wait(WAIT_S)
    while len(done) < 3:
        thread.join(0.05)
        assert thread.is_alive()
    runtime.stop()
    thread.join(WAIT_S)
    assert reports["gate"].failed == ""
    assert caplog.text.count("said once") == 1


def test_chores_are_done_once_more_at_the_end(scripted):
    frames = []
    runtime, _ = scripted(gate=Script([frame(0), frame(1)]))
    runtime.add_chore(lambda: frames.append(runtime.streams[0].report.frames))
    finished(runtime)
    assert frames[-1] == 2
