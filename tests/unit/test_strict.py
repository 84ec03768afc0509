"""--strict: what is not as it should be ends the process; and no configuration comes from afar."""

from __future__ import annotations

import logging
import queue
import threading

import pytest
from blob_bundle import write_blob_bundle, write_walk
from broker import wait_until
from live_camera import LiveCamera, scene

from edgeai import sources
from edgeai.cli.run import run_device
from edgeai.cli.strict import StrictWatch, check_strict, strict_cache
from edgeai.clock import SystemClock
from edgeai.config import load_config
from edgeai.desired import Desired, DesiredStore, config_in_force, config_to_start, text_sha256
from edgeai.errors import ConfigError, EdgeError
from edgeai.executor import CommandExecutor
from edgeai.runtime import Runtime
from edgeai.sinks.commands.gate import ConfigInForce
from edgeai.sinks.commands.table import Command, parse_arguments
from edgeai.sinks.sink import Sink

CAMERA = '[[cameras]]\nname = "{name}"\nsource = "{source}"\nmodel = "./blob"\n'
LIMIT_S = 60.0


class Nowhere(Sink):
    def open(self):
        pass

    def send(self, event):
        pass

    def close(self):
        pass


@pytest.fixture
def place(tmp_path, monkeypatch):
    write_blob_bundle(tmp_path / "blob")
    write_walk(tmp_path / "walk.avi", frames=10)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cameras(monkeypatch):
    made: dict[str, LiveCamera] = {}
    monkeypatch.setitem(sources.CAMERAS, "csi", lambda address, request: made[address.where])
    return made


def write(place, *cameras, more=""):
    path = place / "device.toml"
    path.write_text(
        more
        + "".join(CAMERA.format(name=name, source=source) + rest + "\n" for name, source, rest in cameras)
    )
    return path


# before the start ------------------------------------------------------------------------------------------


def test_a_good_configuration_is_taken(place):
    path = write(place, ("gate", "walk.avi", ""))
    check_strict(load_config(path), path, profile=None)


def test_one_warning_is_the_error_and_several_are_in_the_log(place, caplog):
    path = write(place, ("gate", "later.avi", ""))
    with pytest.raises(
        ConfigError, match=r"^camera gate: there is no .*later.avi now \(line 3\) \(--strict\)$"
    ):
        check_strict(load_config(path), path, profile=None)
    path = write(place, ("gate", "later.avi", ""), ("yard", "walk.avi", "capture = { width = 64 }"))
    with pytest.raises(ConfigError, match=r"2 faults, which --strict does not take; .*edgeai check --strict"):
        check_strict(load_config(path), path, profile=None)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["camera gate", "camera yard"]


def test_engines_are_kept_in_the_state_folder(place):
    path = write(place, ("gate", "walk.avi", ""))
    assert strict_cache(load_config(path)) == place / "state" / "engines"
    path = write(place, ("gate", "walk.avi", ""), more="[engines]\ncache = 'state/plans'\n")
    assert strict_cache(load_config(path)) == place / "state" / "plans"


# the file alone counts --------------------------------------------------------------------------------------


def desired(place, path):
    store = DesiredStore(place / "state")
    toml = CAMERA.format(name="other", source="walk.avi")
    store.save(Desired(version=3, toml=toml, base_sha256=text_sha256(path.read_bytes())))
    return store


def test_a_desired_configuration_is_neither_used_nor_touched(place):
    path = write(place, ("gate", "walk.avi", ""))
    store = desired(place, path)
    before = store.path.read_bytes()
    assert [each.name for each in config_to_start(path)[0].cameras] == ["other"]
    store.path.write_bytes(before)
    for read in (config_to_start, config_in_force):
        config, in_force = read(path, read_only=True)
        assert ([each.name for each in config.cameras], in_force.version) == (["gate"], 0)
    assert store.path.read_bytes() == before


class Gate:
    """Keeps what it is told."""

    def __init__(self):
        self.finished, self.refused = [], []

    def finish(self, command, outcome):
        self.finished.append((command.name, outcome.ok, outcome.reason))

    def refuse_config(self, version, reason):
        self.refused.append((version, reason))

    def report_config(self, in_force):
        pass


def test_the_command_configure_is_refused_and_nothing_is_stored(place):
    path = write(place, ("gate", "walk.avi", ""))
    config, in_force = config_to_start(path, read_only=True)
    orders, gate = queue.SimpleQueue(), Gate()
    with Runtime(config, Nowhere()) as runtime:
        executor = CommandExecutor(
            runtime,
            gate,
            orders,
            config=config,
            path=path,
            in_force=in_force,
            clock=SystemClock(),
            read_only=True,
        )
        args = parse_arguments(
            "configure", {"version": 4, "toml": CAMERA.format(name="x", source="walk.avi")}
        )
        orders.put(Command("1", "configure", args, SystemClock().monotonic_s() + 60))
        executor.step()
        executor.close()
        assert [each.name for each in runtime.streams] == ["gate"]
    said = "this device's configuration is read-only (--strict)"
    assert gate.finished == [("configure", False, said)]
    assert gate.refused == [(4, said)]
    assert not (place / "state").exists()


def test_a_reload_takes_no_warning_either(place, caplog):
    path = write(place, ("gate", "walk.avi", ""))
    config, in_force = config_to_start(path, read_only=True)
    with Runtime(config, Nowhere()) as runtime:
        executor = CommandExecutor(
            runtime,
            None,
            queue.SimpleQueue(),
            config=config,
            path=path,
            in_force=ConfigInForce(0, in_force.sha256),
            clock=SystemClock(),
            read_only=True,
            check=lambda new: check_strict(new, path, profile=None),
        )
        write(place, ("gate", "walk.avi", ""), ("yard", "later.avi", ""))
        executor.ask_reload()
        executor.step()
        assert [each.name for each in runtime.streams] == ["gate"]
        assert "not reloaded, the old configuration runs on: camera yard: there is no" in caplog.text


# at work ----------------------------------------------------------------------------------------------------


def run(path):
    """Run it as `edgeai run --strict` does; the watch afterwards."""
    config = load_config(path)
    with Runtime(config, Nowhere()) as runtime:
        watch = StrictWatch(runtime)
        runtime.add_chore(watch.step)
        limit = threading.Timer(LIMIT_S, runtime.stop)
        limit.start()
        with watch.naming_all():
            runtime.run()
        limit.cancel()
        return watch


def test_every_camera_without_a_first_picture_is_named_and_the_run_ends(place, cameras):
    cameras["0"] = LiveCamera([scene()], hangs=0)
    cameras["1"] = LiveCamera([scene()])
    cameras["2"] = LiveCamera([scene()], hangs=0)
    open_s = "capture = { open_s = 0.3 }"
    path = write(
        place, ("a", "csi:0", open_s), ("good", "csi:1", open_s), ("b", "csi:2", "capture = { open_s = 0.8 }")
    )
    assert run(path).faults == (
        "camera a: no picture within 0.3 s",
        "camera b: no picture within 0.8 s",
    )


def test_a_camera_that_is_a_little_late_is_waited_for(place, cameras):
    cameras["0"] = LiveCamera([scene()], every_s=0.5)
    cameras["1"] = LiveCamera([scene()])
    path = write(
        place, ("late", "csi:0", "capture = { open_s = 30 }"), ("film", "walk.avi", "realtime = false")
    )
    config = load_config(path)
    with Runtime(config, Nowhere()) as runtime:
        watch = StrictWatch(runtime)
        runtime.add_chore(watch.step)
        thread = threading.Thread(target=runtime.run, daemon=True)
        thread.start()
        late = runtime.find_camera("late")
        try:
            wait_until(lambda: late.report.frames >= 2, timeout_s=LIMIT_S)
        finally:
            runtime.stop()
            thread.join(LIMIT_S)
        assert watch.faults == ()


def test_a_stream_that_fails_later_ends_all(place, cameras):
    """Live cameras come back; what fails for good is a file that breaks off, or a fault of the program."""
    cameras["0"] = LiveCamera([scene()])
    cut = (place / "walk.avi").read_bytes()
    (place / "cut.avi").write_bytes(cut)
    path = write(place, ("gate", "csi:0", ""), ("film", "cut.avi", "capture = { loop = true }"))
    config = load_config(path)
    with Runtime(config, Nowhere()) as runtime:
        watch = StrictWatch(runtime)
        runtime.add_chore(watch.step)
        film = runtime.find_camera("film")

        def spoil():
            if film.report.frames >= 2:
                (place / "cut.avi").unlink(missing_ok=True)

        runtime.add_chore(spoil)
        limit = threading.Timer(LIMIT_S, runtime.stop)
        limit.start()
        runtime.run()
        limit.cancel()
    (fault,) = watch.faults
    assert fault.startswith("camera film: there is no video file")


def test_all_sources_that_cannot_be_opened_are_named(place, caplog):
    path = write(place, ("a", "none.avi", ""), ("b", "neither.avi", ""))
    with pytest.raises(EdgeError, match="2 sources cannot be opened"):
        run(path)
    assert [record.message.partition(":")[0] for record in caplog.records if "strict" in record.message] == [
        "camera a",
        "camera b",
    ]


@pytest.mark.parametrize("strict", [False, True])
def test_run_device(place, capsys, caplog, strict):
    caplog.set_level(logging.INFO)
    path = write(place, ("gate", "walk.avi", "realtime = false"))
    assert run_device(path, json_output=True, strict=strict) == 0
    path = write(place, ("gate", "walk.avi", "realtime = false\ncapture = { fps = 5 }"))
    if strict:
        with pytest.raises(ConfigError, match=r"camera gate: capture.fps does nothing"):
            run_device(path, json_output=True, strict=True)
    else:
        assert run_device(path, json_output=True) == 0
    assert sorted(each.name for each in place.iterdir()) == ["blob", "device.toml", "walk.avi"]
