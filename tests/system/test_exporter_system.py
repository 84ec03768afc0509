"""The exporter beside a runtime that works: what it tells is what happened, and no client of it costs a camera frames."""

from __future__ import annotations

import contextlib
import json
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
from blob_bundle import write_blob_bundle, write_blob_config, write_walk
from broker import Mosquitto, free_port, wait_until
from exporter_figures import check_histograms, samples, scrape, value

from edgeai.config import Config, MetricsSettings
from edgeai.data import find_data
from edgeai.exporter import Exporter, figures_of, figures_of_group
from edgeai.runtime import Runtime
from edgeai.sinks import MqttSettings, open_reporting

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device")
    write_blob_bundle(folder / "blob")
    write_walk(folder / "video.avi")
    return folder


class Device:
    """A runtime of cameras that never end, its sink, and its exporter; `with` runs it in a thread."""

    def __init__(self, place, sink, *names, fresh_s=0.0):
        self._place, self._sink = place, sink
        self.runtime = Runtime(Config(cameras=tuple(map(self.camera, names))), sink)
        self.runtime.add_chore(self._chore)
        self._wanted = None
        self.exporter = Exporter(
            MetricsSettings(port=free_port()),
            streams=lambda: [figures_of(each, self.runtime.state(each)) for each in self.runtime.streams],
            engines=lambda: [figures_of_group(each) for each in self.runtime.groups],
            counters=lambda: sink.counters,
            device="cam",
            fresh_s=fresh_s,
        )
        self._thread = threading.Thread(target=self.runtime.run, daemon=True)

    def camera(self, name):
        return {
            "name": name,
            "source": str(self._place / "video.avi"),
            "model": str(self._place / "blob"),
            "capture": {"loop": True},
            "tracker": {"lost_s": 0.05, "confirm_hits": 1},
            "rules": ({"kind": "track"},),
        }

    def _chore(self):
        wanted, self._wanted = self._wanted, None
        if wanted is not None:
            self.runtime.apply(Config(cameras=tuple(map(self.camera, wanted))).streams)

    def reload(self, *names):
        self._wanted = names

    def scrape(self):
        return samples(scrape(self.exporter.url))

    def frames(self, name="gate"):
        return value(self.scrape(), "edgeai_frames_total", stream=name)

    def __enter__(self):
        self.exporter.open()  # before anything else, as it must be able to refuse the start
        found = self.scrape()  # while models load there is little to tell, and that is told
        assert value(found, "edgeai_destination_connected", destination="mqtt") == 0
        self.runtime.open()
        self._sink.open()
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.runtime.stop()
        self._thread.join(30)
        self.exporter.close()
        self.runtime.close()
        self._sink.close()


@pytest.fixture
def device(place, tmp_path):
    with Mosquitto(tmp_path / "broker") as broker:
        sink = open_reporting(
            MqttSettings(host="127.0.0.1", port=broker.port), tmp_path / "outbox.db", device="cam"
        )
        with Device(place, sink, "gate", "yard") as made:
            yield made


def test_a_run_is_told_from_its_first_frame_to_the_broker(device):
    def acknowledged():
        found = device.scrape()
        key = (
            "edgeai_capture_to_publish_seconds_count",
            frozenset({"destination": "mqtt", "priority": "event"}.items()),
        )
        return found.get(key, 0) >= 4

    wait_until(acknowledged, timeout_s=60, what="an acknowledgement")
    found = device.scrape()
    for name in ("gate", "yard"):
        frames = value(found, "edgeai_frames_total", stream=name)
        assert frames > 0
        assert value(found, "edgeai_stream_up", stream=name, kind="camera") == 1
        assert value(found, "edgeai_frames_captured_total", stream=name) >= frames
        assert value(found, "edgeai_capture_to_outbox_seconds_count", stream=name) >= frames - 2
        assert value(found, "edgeai_slot_age_seconds", stream=name) < 60
        for stage in ("wait", "prepare", "engine", "decode", "track", "rules", "deliver"):
            assert abs(value(found, "edgeai_stage_seconds_count", stream=name, stage=stage) - frames) <= 3
        assert value(found, "edgeai_events_total", stream=name) >= 1
    assert check_histograms(found) > 16
    assert value(found, "edgeai_destination_connected", destination="mqtt") == 1
    # a frame is older when its event arrives than when it was handed over: both of all, so their means may be compared
    whole_s = value(found, "edgeai_capture_to_publish_seconds_sum", destination="mqtt", priority="event")
    assert whole_s > 0
    # every run of the engine is told, and took part of a second at most
    runs = [number for (name, _), number in found.items() if name == "edgeai_engine_seconds_count"]
    assert len(runs) == 1 and runs[0] > 0


def test_streams_follow_a_reload_and_the_others_count_on(device):
    wait_until(lambda: device.frames("yard") > 3, timeout_s=60)
    before = device.frames("yard")
    device.reload("yard", "lane")
    wait_until(
        lambda: ("stream", "lane") in {each for _, labels in device.scrape() for each in labels}, timeout_s=60
    )
    found = device.scrape()
    assert value(found, "edgeai_frames_total", stream="yard") >= before
    assert not [labels for _, labels in found if ("stream", "gate") in labels]


def test_a_thousand_idle_connections_and_slow_ones_harm_nobody(device):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    if wanted < 1500:
        pytest.skip("this machine allows too few open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    wait_until(lambda: device.frames() > 3, timeout_s=60)
    process = psutil.Process()
    threads, rss = threading.active_count(), process.memory_info().rss
    clients: list[socket.socket] = []
    address = tuple(device.exporter.url.removeprefix("http://").split(":"))
    try:
        for number in range(1000):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((address[0], int(address[1])))
            clients.append(client)
            if number % 4 == 0:  # some begin a request, and never end it
                with contextlib.suppress(OSError):
                    client.send(b"GET /metrics HTTP/1.1\r\nX: ")
        before, began_s = device.runtime.streams[0].report.frames, time.monotonic()
        answers = [samples(scrape(device.exporter.url)) for _ in range(3)]
        assert all(value(each, "edgeai_stream_up", stream="gate", kind="camera") == 1 for each in answers)
        wait_until(lambda: device.runtime.streams[0].report.frames > before + 10, timeout_s=60)
        assert threading.active_count() <= threads + 1
        assert process.memory_info().rss - rss < 30 << 20
        assert time.monotonic() - began_s < 120
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- `edgeai run` ---------------------------------------------------------------------------------------------------


def run(folder, place, broker_port, metrics_port):
    """A process with [metrics] and a log in JSON, its camera on a video that never ends."""
    path = write_blob_config(folder, broker_port, realtime=True)
    text = path.read_text().replace('"video.avi"', f'"{place}/video.avi"\ncapture = {{ loop = true }}')
    text = text.replace('"./blob"', f'"{place}/blob"')
    path.write_text(f'{text}\n[metrics]\nport = {metrics_port}\n[log]\nformat = "json"\n')
    return subprocess.Popen(
        [sys.executable, "-m", "edgeai", "run", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answers(url):
    try:
        return samples(scrape(url))
    except OSError:
        return {}


def test_a_process_tells_prometheus_and_its_log_is_json(place, tmp_path):
    port = free_port()
    with Mosquitto(tmp_path / "broker") as broker:
        process = run(tmp_path, place, broker.port, port)
        frames = ("edgeai_frames_total", frozenset({"stream": "gate"}.items()))
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(url).get(frames, 0) > 3, timeout_s=90, what="a frame")
        finally:
            process.terminate()
            _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    records = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    # native libraries write to standard error as they like; nothing of ours does
    assert all("edgeai" not in line for line in said.splitlines() if not line.startswith("{")), said
    assert {"info"} <= {each["level"] for each in records}
    assert [each for each in records if each.get("stream") == "gate"]
    assert any(url in each["message"] for each in records)


def test_a_port_that_is_taken_refuses_the_start_in_one_line(place, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = run(tmp_path, place, free_port(), taken.getsockname()[1])
        out, said = process.communicate(timeout=90)
    assert process.returncode == 2 and not out
    assert said.splitlines()[-1].startswith("edgeai: error: metrics: cannot listen on 127.0.0.1")
    assert "Traceback" not in said


def test_prometheus_own_linter_finds_nothing(device):
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    wait_until(lambda: device.frames() > 3, timeout_s=60)
    told = subprocess.run(
        [program, "check", "metrics"],
        input=scrape(device.exporter.url),
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_the_shipped_rules_are_ones_that_prometheus_takes():
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    folder = find_data("firmware_configs", "prometheus")
    told = subprocess.run(
        [program, "check", "config", "prometheus.yml"],
        cwd=folder,
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stdout + told.stderr
