"""No secret is repeated by `edgeai check`, by errors or by what settings show, wherever a user has put it."""

import subprocess
import sys

import pytest
from certificates import Authority

from edgeai.errors import EdgeError
from edgeai.sinks import MqttSettings, open_reporting

SECRET = "tell-nobody"

MICROPHONE = """
[[microphones]]
name = "hall"
source = "hall.wav"
model = "commands"
"""


def check(folder, mqtt):
    config = folder / "device.toml"
    config.write_text(f"[mqtt]\n{mqtt}\n{MICROPHONE}")
    done = subprocess.run(
        [sys.executable, "-m", "edgeai", "check", str(config)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("mqtt", "told"),
    [
        (f'host = "h"\nusername = "u"\npassword = "{SECRET}"', "password_file"),
        (f'host = "mqtt://u:{SECRET}@h"', "username and password_file"),
        (f'host = "u:{SECRET}@h"', "username and password_file"),
        ('host = "h"\nusername = "u"\npassword_file = "long"', "more than 4096 bytes"),
        ('host = "h"\nusername = "u"\npassword_file = "binary"', "not UTF-8"),
        ('host = "h"\ntls = { certificate = "device.pem", key = "garbage.key" }', "TLS files cannot be used"),
        ('host = "h"\ntls = { certificate = "device.pem", key = "locked.key" }', "TLS files cannot be used"),
        ('host = "h"\ntls = { certificate = "device.pem", key = "ca.key" }', "TLS files cannot be used"),
    ],
    ids=[
        "password itself",
        "in a URL",
        "before the host",
        "long",
        "binary",
        "no key",
        "locked",
        "another key",
    ],
)
def test_check_repeats_no_secret(tmp_path, mqtt, told):
    authority = Authority(tmp_path, "ca")
    authority.sign("device")
    (tmp_path / "long").write_text(SECRET * 1000)
    (tmp_path / "binary").write_bytes(SECRET.encode() + b"\xff")
    (tmp_path / "garbage.key").write_text(
        f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----\n"
    )
    (tmp_path / "locked.key").write_text(f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{SECRET}\n")
    key = (tmp_path / "device.key").read_text().split("\n")[1]
    code, output = check(tmp_path, mqtt)
    assert code != 0
    assert told in output
    assert SECRET not in output
    assert key not in output
    errors = [line for line in output.splitlines() if not line.startswith("edgeai: warning: ")]
    assert len(errors) == 1, "one line"
    assert errors[0].startswith("edgeai: error: ")


def test_a_good_configuration_shows_none_either(tmp_path):
    (tmp_path / "p").write_text(SECRET)
    settings = MqttSettings(host="h", username="u", password_file=tmp_path / "p")
    sink = open_reporting(settings, tmp_path / "outbox.db", device="d")
    transport = sink._destinations[0].transport
    assert (
        SECRET
        not in f"{settings!r}{settings}{settings.model_dump()}{sink!r}{vars(transport)}{transport.name}"
    )


def test_a_secret_in_a_refused_file_is_not_in_the_exception_chain(tmp_path):
    (tmp_path / "p").write_bytes(SECRET.encode() + b"\xff")
    settings = MqttSettings(host="h", username="u", password_file=tmp_path / "p")
    with pytest.raises(EdgeError) as caught:
        open_reporting(settings, tmp_path / "outbox.db", device="d")
    assert SECRET not in str(caught.value)
