"""What somebody afar may set, and how it is kept."""

from __future__ import annotations

import json

import pytest

from edgeai.config import load_config
from edgeai.desired import (
    Desired,
    DesiredStore,
    check_desired,
    config_in_force,
    config_to_start,
    prove,
    set_aside,
    text_sha256,
)
from edgeai.errors import ConfigError, DataError

FILE = """\
device = "cam"
[mqtt]
host = "broker"
password_file = "secret/password"
username = "cam"
[commands]
allow = ["configure"]
[[cameras]]
name = "gate"
source = "/srv/gate.mp4"
model = "/opt/models/own"
[[microphones]]
name = "hall"
source = "mic:USB"
model = "commands"
"""
STREAM = """\
[[cameras]]
name = "yard"
source = "{}"
model = "{}"
"""


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "device.toml").write_text(FILE)
    (folder / "yard.mp4").touch()
    (tmp_path / "outside.mp4").touch()
    (folder / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    return folder / "device.toml"


def check(path, toml):
    return check_desired(toml, load_config(path), path)


@pytest.mark.parametrize(
    ("source", "model"),
    [
        ("yard.mp4", "person-detector"),
        ("later/yard.mp4", "models/new"),
        ("./a/../yard.mp4", "./new"),
        ("/srv/gate.mp4", "/opt/models/own"),  # the file names them itself
    ],
)
def test_places_that_are_allowed(path, source, model):
    config = check(path, STREAM.format(source, model))
    assert [each.name for each in config.streams] == ["yard"]
    assert config.mqtt == load_config(path).mqtt
    assert config.device == "cam"


@pytest.mark.parametrize(
    ("source", "model", "what"),
    [
        ("/etc/passwd", "person-detector", "source"),
        ("../outside.mp4", "person-detector", "source"),
        ("link.mp4", "person-detector", "source"),
        ("rtsp://10.0.0.1/live", "person-detector", "source"),
        ("file:///etc/passwd", "person-detector", "source"),
        ("file://yard.mp4", "person-detector", "source"),
        ("http://169.254.169.254/", "person-detector", "source"),
        ("/dev/video0", "person-detector", "source"),
        ("~/x.mp4/../../..", "person-detector", "source"),
        ("yard.mp4", "../models", "model"),
        ("yard.mp4", "/opt/models/other", "model"),
        ("yard.mp4", "~/models", "model"),
        ("yard.mp4", "..", "model"),
        ("yard.mp4", "person detector", "model"),
    ],
)
def test_places_that_are_not(path, source, model, what):
    with pytest.raises(ConfigError, match=rf"desired: camera yard: {what}: must be a file in the folder"):
        check(path, STREAM.format(source, model))


@pytest.mark.parametrize(
    "place", ["usb:0", "csi:0", "gst:videotestsrc", "rtsp://front.local/1", "https://h/x"]
)
def test_no_camera_is_opened_that_the_file_does_not_name(path, place):
    with pytest.raises(ConfigError, match="camera yard: source: must be a file in the folder"):
        check(path, STREAM.format(place, "person-detector"))


def test_a_login_stays_with_its_source(path):
    """Who may set cameras may not have a secret sent to another camera, nor another secret to this one."""
    login = '[cameras.login]\nusername = "u"\npassword_env = "{}"\n'
    two = STREAM.format("rtsp://front.local/1", "person-detector"), STREAM.format("rtsp://back.local/1", "x")
    path.write_text(f"{two[0]}{login.format('FRONT')}{two[1].replace('yard', 'back')}")
    assert check(path, two[0] + login.format("FRONT")).cameras[0].login.password_env == "FRONT"
    assert check(path, two[0]).cameras[0].login is None
    for source, name in ((two[0], "MQTT_PASSWORD"), (two[1].replace('"x"', '"person-detector"'), "FRONT")):
        with pytest.raises(ConfigError, match="camera yard: login: must be as in the device's own file"):
            check(path, source + login.format(name))


def test_a_folder_where_the_process_happens_to_be_is_no_zoo(path, tmp_path, monkeypatch):
    (tmp_path / "here" / "looks-like-zoo").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match="model"):
        check(path, STREAM.format("yard.mp4", "looks-like-zoo"))


def test_no_microphone_is_opened_that_the_file_does_not_name(path):
    toml = '[[microphones]]\nname = "x"\nsource = "{}"\nmodel = "commands"\n'
    assert check(path, toml.format("mic:USB")).microphones[0].name == "x"
    with pytest.raises(ConfigError, match="microphone x: source"):
        check(path, toml.format("mic"))


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ('[mqtt]\nhost = "evil"\n', "mqtt"),
        ('[commands]\nallow = ["restart", "configure"]\n', "commands"),
        ('device = "other"\nstate_dir = "/tmp"\nthreads = 2\n', "device, state_dir, threads"),
        ("[outbox]\nmax_bytes = 2000000\n", "outbox"),
        ("[health]\nenabled = false\n", "health"),
        ("[engines]\nverify = true\n", "engines"),
    ],
)
def test_nothing_but_streams_is_set(path, head, names):
    with pytest.raises(ConfigError, match=rf"desired: {names} must be as in the device's own file"):
        check(path, head + STREAM.format("yard.mp4", "person-detector"))


def test_the_whole_file_again_is_allowed(path):
    config = check(path, FILE.replace('name = "gate"', 'name = "yard"'))
    assert [each.name for each in config.cameras] == ["yard"]


@pytest.mark.parametrize("toml", ["", "[", "x = 1", "\ud800", "cameras = []", "[" * 5000, "cameras = 1"])
def test_what_is_no_configuration(path, toml):
    with pytest.raises(ConfigError, match=r"^desired") as caught:
        check(path, toml)
    assert "\n" not in str(caught.value)


def keep(path, toml, *, version=2, base=None):
    base = base or text_sha256(path.read_bytes())
    desired = Desired(version=version, toml=toml, base_sha256=base)
    DesiredStore(load_config(path).state_dir).save(desired)
    return desired


def test_it_is_in_force_until_the_file_is_another(path):
    desired = keep(path, STREAM.format("yard.mp4", "person-detector"))
    config, in_force = config_in_force(path)
    assert ([each.name for each in config.streams], in_force.version) == (["yard"], 2)
    assert in_force.sha256 == desired.sha256
    path.write_text(FILE + "\n")
    config, in_force = config_in_force(path)
    assert ([each.name for each in config.streams], in_force.version) == (["gate", "hall"], 0)
    assert in_force.sha256 == text_sha256(path.read_bytes())


def test_one_that_failed_is_set_aside_and_its_version_remembered(path, caplog):
    keep(path, STREAM.format("yard.mp4", "person-detector"))
    config, _ = config_in_force(path)
    set_aside(config, "no bundle")
    assert config_in_force(path)[1].version == 0
    assert DesiredStore(config.state_dir).load().void == "no bundle"
    # and one that is not good any more does not stop the device
    keep(path, STREAM.format("/etc/passwd", "person-detector"))
    assert config_in_force(path)[1].version == 0
    assert "is not good any more" in caplog.text


def test_one_under_which_the_device_dies_again_and_again_is_set_aside(path, caplog):
    keep(path, STREAM.format("yard.mp4", "person-detector"))
    for _ in range(4):
        assert config_to_start(path)[1].version == 2
    prove(load_config(path))  # it ran for a minute, or ended in order
    for _ in range(5):
        assert config_to_start(path)[1].version == 2
    config, in_force = config_to_start(path)
    assert ([each.name for each in config.streams], in_force.version) == (["gate", "hall"], 0)
    assert "5 starts in a row died within 60 s" in caplog.text
    assert config_to_start(path)[1].version == 0
    assert DesiredStore(config.state_dir).load().version == 2


def test_a_file_alone_is_not_counted(path):
    config, _ = config_to_start(path)
    prove(config)
    assert not config.state_dir.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        json.dumps({"version": 0, "toml": "x", "base_sha256": "a" * 64}).encode(),
        b"[" * 10**5,
    ],
)
def test_a_file_that_is_broken_counts_as_none(path, content, caplog):
    store = DesiredStore(load_config(path).state_dir)
    store.path.parent.mkdir()
    store.path.write_bytes(content)
    assert store.load() is None
    assert "cannot be used" in caplog.text
    assert config_in_force(path)[1].version == 0


def test_a_folder_that_cannot_be_written_is_an_error(path):
    config = load_config(path)
    config.state_dir.touch()
    with pytest.raises(DataError, match=r"the desired configuration .* cannot be written"):
        DesiredStore(config.state_dir).save(Desired(version=1, toml="x", base_sha256="a" * 64))
