"""Configurations: what is right is taken with its paths placed; what is wrong is named with file, line and key."""

from __future__ import annotations

import os
import re

import pytest

from edgeai.config import Config, config_faults, load_config
from edgeai.errors import ConfigError
from edgeai.stages.rules import LineSettings, TrackSettings, ZoneSettings

WHOLE = """\
device = "gate-1"
threads = 2

[mqtt]
host = "localhost"
username = "gate-1"
password_file = "secret/password"

[mqtt.tls]
ca = "/etc/ca.pem"

[outbox]
max_age_s = 3600

[[cameras]]
name = "gate"
source = "gate.mp4"
model = "person-detector"

[[cameras.rules]]
kind = "line"
name = "door"
a = [0, 0.6]
b = [0.9, 0.6]

[[cameras.rules]]
kind = "zone"
name = "waiting"
polygon = [[0.0, 0.5], [0.3, 0.5], [0.3, 1.0]]

[[cameras]]
name = "yard"
source = "file:///srv/yard.mp4"
model = "models/mine"
realtime = false
score_threshold = 0.25
rules = [{ kind = "track" }]

[cameras.tracker]
lost_s = 1.5

[[microphones]]
name = "hall"
source = "mic:USB"
model = "commands"
"""


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "device.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path)

    return load


def fault(load, text):
    """The one line, without the folder."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    message = str(caught.value)
    assert "\n" not in message
    return re.sub(r"^.*/device\.toml", "device.toml", message)


def test_the_whole(load, tmp_path):
    config = load(WHOLE)
    gate, yard = config.cameras
    assert (config.device, config.threads, config.state_dir) == ("gate-1", 2, tmp_path / "state")
    assert config.outbox.max_age_s == 3600
    assert config.mqtt.port == 8883
    assert config.mqtt.password_file == tmp_path / "secret" / "password"
    assert str(config.mqtt.tls.ca) == "/etc/ca.pem"
    assert [type(rule) for rule in (*gate.rules, *yard.rules)] == [LineSettings, ZoneSettings, TrackSettings]
    assert (gate.realtime, yard.realtime, yard.score_threshold, yard.tracker.lost_s) == (
        True,
        False,
        0.25,
        1.5,
    )


def test_addresses_are_placed(load, tmp_path):
    (tmp_path / "here").mkdir()
    config = load(
        WHOLE.replace('model = "commands"', 'model = "here"')
        + '[[microphones]]\nname = "f"\nsource = "mic.wav"\nmodel = "~/m"'
    )
    assert [camera.source for camera in config.cameras] == [
        str(tmp_path / "gate.mp4"),
        "file:///srv/yard.mp4",
    ]
    assert [camera.model for camera in config.cameras] == ["person-detector", str(tmp_path / "models/mine")]
    assert [each.source for each in config.microphones] == ["mic:USB", str(tmp_path / "mic.wav")]
    assert [each.model for each in config.microphones] == [str(tmp_path / "here"), "~/m"]


def test_a_folder_called_mic_is_not_the_microphone(load, tmp_path):
    (tmp_path / "mic").mkdir()
    config = load('[[microphones]]\nname = "a"\nmodel = "commands"')
    assert config.microphones[0].source == "mic"


def test_windows_line_ends_and_mark(load):
    assert load(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode()).device == "gate-1"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("threads", "treads", "device.toml:2: unknown key 'treads'; did you mean 'threads'?"),
        ("threads", "zzz", "unknown key 'zzz'; known are device, state_dir, threads, mqtt, sinks, outbox, engines, commands, health, watchdog, metrics, log, cameras, microphones"),
        ("host =", "hots =", "device.toml:5: unknown key 'mqtt.hots'; did you mean 'host'?"),
        ('password_file = "secret/password"', 'password = "x"', "device.toml:7: unknown key 'mqtt.password'; did you mean 'password_file'?"),
        ("ca =", "cafile =", "device.toml:10: unknown key 'mqtt.tls.cafile'; known are ca, certificate, key"),
        ("[outbox]", "[outbocks]", "device.toml:12: unknown key 'outbocks'; did you mean 'outbox'?"),
        ("b = [0.9", "bb = [0.9", "device.toml:24: unknown key 'cameras.0.rules.0.bb'; did you mean 'b'?"),
        ("polygon =", "poligon =", "device.toml:29: unknown key 'cameras.0.rules.1.poligon'; did you mean 'polygon'?"),
        ("realtime =", "real_time =", "device.toml:35: unknown key 'cameras.1.real_time'; did you mean 'realtime'?"),
        ('kind = "track" }', 'kind = "track", clases = ["a"] }', "device.toml:37: unknown key 'cameras.1.rules.0.clases'; did you mean 'classes'?"),
        ("lost_s", "lost", "device.toml:40: unknown key 'cameras.1.tracker.lost'; did you mean 'lost_s'?"),
        ('name = "hall"', 'nam = "hall"', "device.toml:43: unknown key 'microphones.0.nam'; did you mean 'name'?"),
        # a key of another table is not proposed
        ("source = \"mic:USB\"", "rules = []", "unknown key 'microphones.0.rules'; known are name, source"),
        ("threads = 2", 'threads = "2"', "device.toml:2: threads: must be a valid integer, is '2'"),
        ("threads = 2", "threads = true", "device.toml:2: threads: must be a valid integer, is true"),
        ("threads = 2", "threads = 2.0", "device.toml:2: threads: must be a valid integer, is 2.0"),
        ("threads = 2", "threads = 0", "device.toml:2: threads: must be greater than or equal to 1, is 0"),
        ("threads = 2", "threads = 2024-01-01", "device.toml:2: threads: must be a valid integer"),
        ("max_age_s = 3600", "max_age_s = nan", "device.toml:13: outbox.max_age_s: must be a finite number"),
        ("max_age_s = 3600", "max_age_s = inf", "device.toml:13: outbox.max_age_s: must be a finite number"),
        ("b = [0.9, 0.6]", "b = [0.9, 1.6]", "device.toml:24: cameras.0.rules.0.b.1: must be less than or equal to 1, is 1.6"),
        ("b = [0.9, 0.6]", "b = [0.9]", "device.toml:24: cameras.0.rules.0.b: needs more than 1 values"),
        ("b = [0.9, 0.6]", "b = [0, 0.6]", "device.toml:20: cameras.0.rules.0: a and b must be different points"),
        ("b = [0.9, 0.6]", "", "device.toml:20: key 'cameras.0.rules.0.b' is missing"),
        ('kind = "zone"', 'kind = "zoon"', "device.toml:27: cameras.0.rules.1.kind: must be one of 'line', 'zone', 'track', is 'zoon'"),
        ('kind = "zone"\n', "", "device.toml:26: key 'cameras.0.rules.1.kind' is missing"),
        ('source = "gate.mp4"\n', "", "device.toml:15: key 'cameras.0.source' is missing"),
        ('name = "waiting"', 'name = "door"', "device.toml:28: cameras.0.rules.1.name: 'door' is given twice, each rule of a camera needs a name of its own"),
        ('name = "yard"', 'name = "gate"', "device.toml:32: cameras.1.name: 'gate' is given twice, each camera or microphone needs"),
        ('name = "hall"', 'name = "gate"', "device.toml:43: microphones.0.name: 'gate' is given twice"),
        ('name = "hall"', 'name = "a/b"', "device.toml:43: microphones.0.name: must be 1 to 64 letters, digits, '.', '_' or '-', a letter or digit first, is 'a/b'"),
        ('host = "localhost"', 'host = "mqtt://localhost:1883"', "device.toml:5: mqtt.host: host must be a name"),
        ('username = "gate-1"\n', "", "device.toml:4: mqtt: password_file needs username"),
        ("score_threshold = 0.25", "score_threshold = 25", "device.toml:36: cameras.1.score_threshold: must be less than 1, is 25"),
        ('source = "gate.mp4"', 'source = "a\\u0000b"', "device.toml:17: cameras.0.source: holds a NUL character"),
        ('ca = "/etc/ca.pem"', 'ca = "\\u0000"', "device.toml:10: mqtt.tls.ca: holds a NUL character"),
        ("[[microphones]]", "[microphones]", "device.toml:42: microphones: must be a list; tables of a list are written [[microphones]]"),
        ('model = "commands"', "", "device.toml:42: key 'microphones.0.model' is missing"),
        ("threads = 2", "threads = = 2", "device.toml:2: not TOML: "),
        ("threads = 2", "threads = 2\nthreads = 3", "device.toml:3: not TOML: "),
    ],
)  # fmt: skip
def test_faults_name_file_line_and_key(load, old, new, says):
    assert old in WHOLE
    assert says in fault(load, WHOLE.replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "there is neither a camera nor a microphone"),
        ("mqtt = 3", "device.toml:1: mqtt: must be a table, is 3"),
        ("cameras = [3]", "device.toml:1: cameras.0: must be a table, is 3"),
        (b"a = 1\nb = '\xff'", "device.toml:2: not UTF-8 text"),
        ("x = " + "[" * 50_000, "nested too deeply"),
        ("threads = 0x" + "f" * 20_000, "not TOML"),
        ("threads = " + "9" * 20_000, "not TOML"),
        ("# " + "x" * (1 << 20), "larger than 1 MiB; that is no configuration"),
    ],
)
def test_what_is_no_configuration(load, text, says):
    assert says in fault(load, text)


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match=r"no configuration at .*x\.toml; examples are in"):
        load_config(tmp_path / "x.toml")
    with pytest.raises(ConfigError, match="is a folder, not a configuration"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        load_config(tmp_path / ("x" * 5000))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ConfigError, match="is no plain file"):  # and does not wait for a writer
        load_config(pipe)


def test_a_source_too_long_for_a_file(load):
    assert load(WHOLE.replace("gate.mp4", "x" * 4000)).cameras[0].source.endswith("xxx")
    assert "cameras.0.source" in fault(load, WHOLE.replace("gate.mp4", "x" * 5000))
    assert "cannot be used: " in fault(load, WHOLE.replace("person-detector", "x" * 4000))


def test_the_examples_are_right():
    from edgeai.data import find_data

    examples = sorted(find_data("firmware_configs", "examples").glob("*.toml"))
    assert examples
    for path in examples:
        assert load_config(path).cameras


def test_frozen():
    config = Config(microphones=({"name": "a", "model": "m"},))
    with pytest.raises(ValueError, match="frozen"):
        config.threads = 2


def test_all_that_a_device_may_report_to_is_read_from_its_file(tmp_path):
    file = tmp_path / "device.toml"
    file.write_text("""\
[mqtt]
host = "broker"
tls = { ca = "ca.pem", pin_sha256 = ["0000000000000000000000000000000000000000000000000000000000000000"] }
[mqtt.frigate]
detect_size = [640, 360]
password_file = "frigate-password"
username = "f"
[mqtt.hermes]
wakewords = ["go"]
[mqtt.sparkplug]
group_id = "plant"
tls = { ca = "plant.pem" }
[mqtt.link]
windows = ["05:30-06:30"]
window_classes = ["image", "telemetry"]
daily_bytes = { image = 1000 }
[outbox]
key_file = "key"
[[sinks]]
kind = "file"
name = "log"
path = "log.jsonl"
classes = ["alarm"]
[[sinks]]
kind = "webhook"
name = "hook"
url = "https://example.com/in"
secret_file = "hook-secret"
[[cameras]]
name = "gate"
source = "gate.mp4"
model = "person-detector"
""")
    config = load_config(file)
    mqtt = config.mqtt
    assert (mqtt.port, mqtt.tls.ca) == (8883, tmp_path / "ca.pem")
    assert (mqtt.frigate.detect_size, mqtt.frigate.password_file) == (
        (640, 360),
        tmp_path / "frigate-password",
    )
    assert mqtt.hermes.wakewords == ("go",)
    assert mqtt.sparkplug.tls.ca == tmp_path / "plant.pem"
    assert mqtt.link.window_classes == ("image", "telemetry")
    assert config.outbox.key_file == tmp_path / "key"
    assert [sink.name for sink in config.sinks] == ["log", "hook"]
    assert (config.sinks[0].path, config.sinks[1].secret_file) == (
        tmp_path / "log.jsonl",
        tmp_path / "hook-secret",
    )


def test_two_sinks_of_one_name_are_told(tmp_path):
    file = tmp_path / "device.toml"
    sink = '[[sinks]]\nkind = "stdout"\nname = "a"\n'
    file.write_text(sink + sink + '[[cameras]]\nname = "g"\nsource = "g.mp4"\nmodel = "person-detector"\n')
    with pytest.raises(ConfigError, match=r"device.toml:6: sinks.1.name: 'a' is given twice"):
        load_config(file)


def test_packed_events_and_home_assistant_do_not_go_together(tmp_path):
    file = tmp_path / "device.toml"
    file.write_text(
        '[mqtt]\nhost = "b"\n[mqtt.home_assistant]\n[mqtt.link]\ncompress = "gzip"\n'
        '[[cameras]]\nname = "g"\nsource = "g.mp4"\nmodel = "person-detector"\n'
    )
    with pytest.raises(ConfigError, match=r"home_assistant cannot read events that link.compress packs"):
        load_config(file)


TYPOS = """\
treads = 2
threads = 3

[mqtt]
hots = "localhost"
pasword = "hunter2"

[[camera]]
name = "lost"

[[cameras]]
name = "gate"
sorce = "gate.mp4"
model = "person-detector"
stall_s = 3
fps = 5
capture = { transport = "tpc", max_fps = 3, stal_s = 1 }

[[cameras.rules]]
kind = "line"
name = "door"
a = [0, 0.6]
b = [0.9]
threads = 2

[[cameras.rules]]
kind = "circle"
"""


def test_every_fault_is_told_in_the_order_of_lines(tmp_path):
    path = tmp_path / "device.toml"
    path.write_text(TYPOS)
    faults = [each.removeprefix(f"{path}:") for each in config_faults(path)]
    assert faults == [
        "1: unknown key 'treads'; did you mean 'threads'?",
        "5: unknown key 'mqtt.hots'; did you mean 'host'?",
        "6: unknown key 'mqtt.pasword'; did you mean 'password_file'?",
        "8: unknown key 'camera'; did you mean 'cameras'?",
        "13: unknown key 'cameras.0.sorce'; did you mean 'source'?",
        "15: unknown key 'cameras.0.stall_s'; did you mean 'capture.stall_s'?",
        "16: unknown key 'cameras.0.fps'; did you mean 'max_fps' or 'capture.fps'?",
        "17: unknown key 'cameras.0.capture.max_fps'; it belongs to cameras.0, above its first [table]",
        "17: unknown key 'cameras.0.capture.stal_s'; did you mean 'stall_s'?",
        "17: cameras.0.capture.transport: must be 'tcp' or 'udp', is 'tpc'",
        "23: cameras.0.rules.0.b: needs more than 1 values",
        "24: unknown key 'cameras.0.rules.0.threads'; it belongs to the top of the file, above its first [table]",
        "27: cameras.0.rules.1.kind: must be one of 'line', 'zone', 'track', is 'circle'",
    ]
    with pytest.raises(ConfigError, match=r"device.toml:5: unknown key 'mqtt.hots'; did you mean 'host'\?$"):
        load_config(path)


def test_no_faults_where_it_is_taken_and_one_where_there_is_no_file(tmp_path):
    path = tmp_path / "device.toml"
    assert len(config_faults(path)) == 1
    path.write_text(WHOLE)
    assert config_faults(path) == ()
    path.write_text(WHOLE.replace("person-detector", "x" * 4000))
    (fault,) = config_faults(path)
    assert "cannot be used" in fault


@pytest.mark.parametrize(
    "line",
    [
        'source = ["rtsp://me:hunter2@camera/live"]',
        'source = "rtsp://me:hunter2@camera/live"',
        f'source = "rtsp://me:hunter2@camera/{"x" * 5000}"',
        'source = { url = "rtsp://me:hunter2@camera/live" }',
        'source = ["rtsp://me:a/b?c#hunter2@camera/live"]',
        "source = ['rtsp://me:a \"hunter2@camera/live']",
        'source = ["http://camera/live?user=me&pwd=hunter2"]',
        'source = "a"\npassword = "hunter2"',
        'source = "a"\nlogin = { username = "me", password = "hunter2" }',
        'source = "a"\nlogin = { username = "me", password_env = "hunter2!" }',
        'source = "a"\nlogin = { username = "me", password_file = ["hunter2"] }',
    ],
)
def test_no_fault_repeats_a_secret(tmp_path, line):
    path = tmp_path / "device.toml"
    path.write_text(f'[[cameras]]\nname = "gate"\nmodel = "m"\n{line}\n')
    faults = config_faults(path)
    assert faults
    assert not any("hunter2" in each for each in faults)
