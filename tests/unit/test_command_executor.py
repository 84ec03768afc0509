"""Commands carried out on a running runtime: scripted sources, a gate that keeps what it is told."""

from __future__ import annotations

import queue
import threading
from collections import defaultdict

import cv2
import numpy as np
import pytest
from blob_bundle import picture, write_blob_bundle
from broker import wait_until

from edgeai.clock import FakeClock
from edgeai.desired import DesiredStore, config_in_force, config_to_start
from edgeai.errors import SourceError, SourceMissingError
from edgeai.executor import CommandExecutor
from edgeai.runtime import Runtime
from edgeai.sinks.commands.table import Command, DesiredArguments, parse_arguments
from edgeai.sinks.sink import Sink
from edgeai.sources.source import Source
from edgeai.stream import camera as camera_module
from edgeai.types import Frame

WAIT_S = 30.0


class Feed(Source[Frame]):
    """Yields what is given to it, until None; raises errors. opening: what open raises, if anything."""

    def __init__(self, opening=None):
        self.opening = opening
        self._items = queue.SimpleQueue()
        self._count = 0

    def give(self, x=24, *, image=None):
        image = picture(x) // 5 * 4 if image is None else image  # score 0.8
        self._items.put(Frame(image, self._count, self._count / 10, "gate"))
        self._count += 1

    def fail(self, error):
        self._items.put(error)

    def end(self):
        self._items.put(None)

    def open(self):
        if self.opening:
            raise self.opening

    def cancel(self):
        self.end()

    def __iter__(self):
        while (item := self._items.get(timeout=WAIT_S)) is not None:
            if isinstance(item, Exception):
                raise item
            yield item


class Memory(Sink):
    def __init__(self):
        self.events = []

    def send(self, event):
        self.events.append(event)

    def types(self):
        return [event.type for event in self.events]


class Gate:
    """Keeps outcomes by command id, and what was said of the configuration."""

    def __init__(self):
        self.outcomes = {}
        self.reported = []
        self.refused = []

    def finish(self, command, outcome):
        assert command.id not in self.outcomes
        self.outcomes[command.id] = outcome

    def report_config(self, in_force):
        self.reported.append(in_force)

    def refuse_config(self, version, reason):
        self.refused.append((version, reason))


CAMERA = """
[[cameras]]
name = "{0}"
source = "{1}"
model = "./blob"
realtime = false
[[cameras.rules]]
kind = "track"
[[cameras.rules]]
kind = "zone"
name = "all"
polygon = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]
"""


class Bench:
    """A runtime at work on scripted sources, by the address in its configuration; `ask` waits for the outcome."""

    def __init__(self, folder, feeds):
        self.folder, self.feeds = folder, feeds
        self.path = folder / "device.toml"
        self.write(("gate", "gate.avi"))
        self.sink, self.gate, self.clock = Memory(), Gate(), FakeClock()
        self._orders = queue.SimpleQueue()
        config, in_force = config_in_force(self.path)
        self.runtime = Runtime(config, self.sink)
        self.executor = CommandExecutor(
            self.runtime, self.gate, self._orders, config=config, path=self.path, in_force=in_force, clock=self.clock
        )  # fmt: skip
        self.runtime.add_chore(self.executor.step)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._number = 0

    def write(self, *cameras, head="", path=None):
        text = head + "".join(CAMERA.format(*camera) for camera in cameras)
        (path or self.path).write_text(text)
        return text

    def _run(self):
        with self.runtime:
            self.reports = self.runtime.run()
        self.executor.close()

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: any(map(self.runtime.alive, self.runtime.streams)), what="a stream that runs")
        return self

    def __exit__(self, *_):
        self.runtime.stop()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def submit(self, name, *, deadline_s=60.0, **args):
        self._number += 1
        command = Command(f"c{self._number}", name, parse_arguments(name, args), deadline_s)
        self._orders.put(command)
        return command.id

    def outcome(self, command_id):
        wait_until(lambda: command_id in self.gate.outcomes, what=f"the outcome of {command_id}")
        return self.gate.outcomes[command_id]

    def ask(self, name, **args):
        return self.outcome(self.submit(name, **args))

    def stream(self, name="gate"):
        return next(each for each in self.runtime.streams if each.name == name)

    def walk(self, frames=4, *, feed="gate.avi", x=24, stream="gate"):
        """Give frames, and wait until they were taken."""
        before = self._taken(stream)
        for _ in range(frames):
            self.feeds[feed].give(x)
        wait_until(lambda: self._taken(stream) == before + frames, what="frames that were taken")

    def _taken(self, stream):
        one = self.stream(stream)
        return one.report.frames + one.dropped().get("disabled", 0)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    write_blob_bundle(tmp_path / "blob")
    feeds = defaultdict(Feed)
    monkeypatch.setattr(camera_module, "open_camera", lambda uri, *, request: feeds[uri.rpartition("/")[2]])
    with Bench(tmp_path, feeds) as running:
        yield running


def test_a_disabled_camera_ends_its_tracks_and_is_read_on(bench):
    bench.walk()
    assert bench.sink.types() == ["track_started", "zone_entered", "zone_occupancy"]
    outcome = bench.ask("disable", camera="gate")
    assert (outcome.ok, outcome.result) == (True, {"overrides": {"disabled": True}})
    bench.walk()
    assert bench.sink.types()[3:] == ["track_ended", "zone_left", "zone_occupancy"]
    stream = bench.stream()
    assert (stream.report.frames, stream.dropped()["disabled"]) == (4, 4)
    assert bench.runtime.state(stream) == "disabled"
    assert bench.ask("snapshot", camera="gate").reason == "camera gate: no picture, it is disabled"
    assert bench.ask("enable", camera="gate").result == {"overrides": {}}
    bench.walk()
    assert stream.report.frames == 8
    assert bench.sink.types()[6:] == ["track_started", "zone_entered", "zone_occupancy"]
    assert bench.runtime.state(stream) == "running"


def test_a_disabled_rule_says_nothing_and_the_other_goes_on(bench):
    bench.walk()
    assert bench.ask("disable", camera="gate", rule="all").result == {
        "overrides": {"disabled_rules": ["all"]}
    }
    bench.walk()
    left = [event for event in bench.sink.events if event.type == "zone_left"]
    assert left[0].data["reason"] == "track_ended"
    assert bench.ask("enable", camera="gate", rule="all").ok
    bench.walk()
    assert bench.sink.types().count("zone_entered") == 2
    assert bench.sink.types().count("track_started") == 1
    assert "track_ended" not in bench.sink.types()
    reason = bench.ask("enable", camera="gate", rule="al").reason
    assert reason == "camera gate has no rule 'al'; did you mean 'all'?"


def test_a_threshold_counts_from_the_next_frame_on(bench):
    assert bench.ask("set_threshold", stream="gate", value=0.999).result == {
        "overrides": {"threshold": 0.999}
    }
    bench.walk()
    assert bench.sink.events == []
    assert bench.ask("set_threshold", stream="gate", value=0.4).ok
    bench.walk()
    assert "track_started" in bench.sink.types()
    assert bench.ask("set_threshold", stream="gate", value=1).reason.startswith(
        "a camera's threshold must be"
    )
    assert bench.stream().overrides.threshold == 0.4


def test_a_snapshot_is_the_next_frame_made_small_enough(bench):
    noise = np.random.default_rng(0).integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
    asked = bench.submit("snapshot", camera="gate")
    wait_until(lambda: bench.stream()._wanted, what="a frame that is wanted")
    bench.feeds["gate.avi"].give(image=noise)
    outcome = bench.outcome(asked)
    event = bench.sink.events[-1]
    assert (event.type, event.stream, event.priority) == ("snapshot", "gate", "image")
    assert outcome.result["bytes"] == len(event.picture) <= 256 << 10
    assert outcome.result["event"] == event.id
    image = cv2.imdecode(np.frombuffer(event.picture, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] / image.shape[0] == pytest.approx(16 / 9, rel=0.02)
    assert 400 < image.shape[1] < 1920


def test_a_snapshot_without_a_frame_is_given_up(bench):
    asked = bench.submit("snapshot", camera="gate")
    wait_until(lambda: bench.stream()._wanted, what="a frame that is wanted")
    bench.clock.advance(10.5)
    assert bench.outcome(asked).reason == "camera gate: no frame came in time"
    assert not bench.stream()._wanted


def test_what_expired_while_it_waited_is_not_done(bench):
    bench.clock.advance(61)
    assert bench.ask("disable", camera="gate").reason == "it expired while it waited"
    assert not bench.stream().overrides.disabled


def test_a_stream_that_failed_runs_again(bench):
    bench.write(("gate", "gate.avi"), ("yard", "yard.avi"))
    assert bench.ask("reload").result["started"] == ["yard"]
    assert bench.ask("retry", camera="gate").reason == "camera gate is running"
    assert bench.ask("retry", microphone="gate").reason == "there is no microphone 'gate'; there is none"
    assert bench.ask("set_threshold", stream="gate", value=0.5).ok
    bench.walk(3)
    bench.feeds["gate.avi"].fail(SourceError("unplugged"))
    wait_until(lambda: bench.runtime.state(bench.stream()) == "failed", what="a failed stream")
    bench.feeds["gate.avi"].opening = SourceMissingError("still gone")
    assert bench.ask("retry", camera="gate").reason == "camera gate: still gone"
    bench.feeds["gate.avi"].opening = None
    assert bench.ask("retry", camera="gate").ok
    bench.walk(3)
    stream = bench.stream()
    assert (bench.runtime.state(stream), stream.report.failed) == ("running", "")
    assert (stream.report.frames, stream.overrides.threshold) == (6, 0.5)


def test_reload_changes_only_what_differs(bench):
    bench.walk()
    stays = bench.stream()
    bench.write(("gate", "gate.avi"), ("yard", "yard.avi"))
    outcome = bench.ask("reload")
    assert outcome.result == {"unchanged": ["gate"], "started": ["yard"], "stopped": [], "failed": {}}
    assert bench.stream() is stays
    bench.walk()
    bench.walk(feed="yard.avi", stream="yard")
    assert "track_ended" not in bench.sink.types()
    bench.write(("yard", "gate.avi"))
    outcome = bench.ask("reload")
    assert (outcome.result["stopped"], outcome.result["started"]) == (["gate", "yard"], ["yard"])
    assert bench.sink.types().count("track_ended") == 2
    assert [each.version for each in bench.gate.reported] == [0, 0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("zzz = 1\n", ""), "device.toml:1: unknown key 'zzz'"),
        (('device = "other"\nthreads = 2\n', ""), "device, threads changed, which needs a restart"),
        (('[mqtt]\nhost = "x"\n', ""), "mqtt changed, which needs a restart"),
        (("", "./none"), "camera gate: no bundle at"),
        (("", None), "no configuration at"),
    ],
)
def test_a_bad_file_is_refused_whole(bench, change, reason):
    head, model = change
    stays = bench.stream()
    text = bench.write(("gate", "gate.avi"), ("yard", "yard.avi"), head=head)
    if model:
        bench.path.write_text(text.replace("./blob", model))
    if model is None:
        bench.path.unlink()
    outcome = bench.ask("reload")
    assert not outcome.ok
    assert reason in outcome.reason
    assert "\n" not in outcome.reason
    assert bench.runtime.streams == (stays,)
    bench.walk()


def test_a_file_with_which_nothing_would_run_is_refused(bench):
    bench.feeds["none.avi"].opening = SourceMissingError("no such file")
    bench.write(("yard", "none.avi"))
    assert bench.ask("reload").reason == "nothing would run: camera yard: no such file"
    assert [each.name for each in bench.runtime.streams] == ["gate"]
    bench.walk()


def test_a_signal_reloads(bench, caplog):
    caplog.set_level("INFO")
    bench.write(("gate", "gate.avi"), ("yard", "yard.avi"))
    bench.executor.ask_reload()
    wait_until(lambda: len(bench.runtime.streams) == 2, what="the reload")
    bench.path.write_text("x")
    bench.executor.ask_reload()
    wait_until(lambda: "not reloaded, the old configuration runs on" in caplog.text, what="the refusal")
    assert len(bench.runtime.streams) == 2
    assert bench.gate.outcomes == {}


def test_overrides_outlive_a_reload(bench):
    assert bench.ask("disable", camera="gate").ok
    bench.write(("gate", "yard.avi"))
    assert bench.ask("reload").result["started"] == ["gate"]
    assert bench.runtime.state(bench.stream()) == "disabled"
    bench.walk(feed="yard.avi")
    assert bench.sink.events == []


def test_restart_is_answered_before_the_end(bench):
    stopped = []
    bench.runtime.stop, stop = lambda: stopped.append(dict(bench.gate.outcomes)), bench.runtime.stop
    assert bench.ask("restart").ok
    wait_until(lambda: stopped, what="the stop")
    assert stopped[0]["c1"].ok
    assert bench.executor.restart_wanted
    bench.runtime.stop = stop


def test_what_waits_at_the_end_is_answered(bench):
    asked = bench.submit("snapshot", camera="gate")
    wait_until(lambda: bench.stream()._wanted, what="a frame that is wanted")
    bench.__exit__()
    assert bench.outcome(asked).reason in (
        "the device is ending; send it again with a new id",
        "camera gate: it ended before a frame came",
    )


def test_a_fault_of_the_program_is_an_answer(bench, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(bench.runtime, "override", lambda *_: 1 / 0)
        assert bench.ask("disable", camera="gate").reason == "a fault of the program: ZeroDivisionError"
    assert bench.ask("disable", camera="gate").ok


def configure(bench, version, toml):
    command = Command("", "configure", DesiredArguments(version=version, toml=toml), 60.0)
    bench.gate.outcomes.pop("", None)
    bench._orders.put(command)
    return bench.outcome("")


def test_a_desired_configuration_once_a_version(bench):
    (bench.folder / "yard.avi").touch()
    yard = CAMERA.format("yard", "yard.avi")
    assert configure(bench, 2, yard).result["started"] == ["yard"]
    assert bench.gate.reported[-1].version == 2
    stays = bench.stream("yard")
    assert configure(bench, 2, yard).ok
    assert bench.stream("yard") is stays
    assert "another text" in configure(bench, 2, yard + "\n").reason
    assert "older than 2" in configure(bench, 1, yard).reason
    assert bench.gate.refused[-1] == (1, "version 1 is older than 2, which was applied")
    # what runs after a reload, or a restart, is the same
    assert bench.ask("reload").result == {"unchanged": ["yard"], "started": [], "stopped": [], "failed": {}}
    config, in_force = config_in_force(bench.path)
    assert ([camera.name for camera in config.cameras], in_force.version) == (["yard"], 2)
    # until the file is another one
    bench.path.write_text(bench.path.read_text() + "# by hand\n")
    config, in_force = config_in_force(bench.path)
    assert ([camera.name for camera in config.cameras], in_force.version) == (["gate"], 0)


def test_a_start_that_lasted_is_proven(bench):
    (bench.folder / "yard.avi").touch()
    assert configure(bench, 1, CAMERA.format("yard", "yard.avi")).ok
    config, in_force = config_to_start(bench.path)
    store = DesiredStore(config.state_dir)
    assert (in_force.version, store.load().starts) == (1, 1)
    bench.clock.advance(61)
    wait_until(lambda: store.load().starts == 0, what="the proof")


def test_a_desired_configuration_that_cannot_run_changes_nothing(bench):
    stays = bench.stream()
    assert (
        "no bundle at"
        in configure(bench, 1, CAMERA.format("yard", "yard.avi").replace("./blob", "./x")).reason
    )
    assert bench.runtime.streams == (stays,)
    assert not (bench.folder / "state" / "desired.json").exists()
