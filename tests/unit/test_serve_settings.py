"""Who may reach a server, and the one line where a token file will not do."""

from __future__ import annotations

import os
import socket

import pytest

from edgeai.errors import ConfigError, EdgeError, UsageError
from edgeai.serve.server import open_socket, url_of
from edgeai.serve.settings import ServeSettings, is_loopback, read_token


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LocalHost"])
def test_this_machine_needs_no_token(host):
    assert is_loopback(host)
    ServeSettings(host=host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "camera.local", "", "127.0.0.1.example"])
def test_any_other_address_needs_one(host):
    with pytest.raises(UsageError, match="--token-file"):
        ServeSettings(host=host)
    assert "hunter2" not in repr(ServeSettings(host=host, token="hunter2"))


def write(path, text, mode=0o600):
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_token_is_the_first_line(tmp_path):
    assert read_token(write(tmp_path / "t", b"0123456789abcdef\r\nmore")) == "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        (b"0123456789abcdef", 0o640, "mode 0640"),
        (b"0123456789abcdef", 0o604, "mode 0604"),
        (b"short", 0o600, "16 or more"),
        (b"", 0o600, "16 or more"),
        (b"0123456789 abcdef", 0o600, "without blanks"),
        ("0123456789abcdeü".encode(), 0o600, "ASCII"),
        (b"x" * 5000, 0o600, "at most 4096"),
    ],
)
def test_a_token_file_that_will_not_do(tmp_path, text, mode, says):
    with pytest.raises(ConfigError, match=says) as error:
        read_token(write(tmp_path / "t", text, mode))
    assert "0123456789" not in str(error.value)


def test_a_token_file_that_is_none(tmp_path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "absent", tmp_path / "pipe", tmp_path):
        with pytest.raises(ConfigError, match="token file"):
            read_token(path)


def test_a_port_that_is_taken_and_an_address_that_is_not_here():
    with open_socket(ServeSettings(port=0)) as first:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        assert first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        with pytest.raises(EdgeError, match=f"port {port}.*another --port"):
            open_socket(ServeSettings(port=port))
    with pytest.raises(EdgeError, match=r"no address|cannot listen"):
        open_socket(ServeSettings(host="192.0.2.1", port=0, token="x" * 16))
    with pytest.raises(UsageError, match="no address"):
        open_socket(ServeSettings(host="no such host", port=0, token="x" * 16))
