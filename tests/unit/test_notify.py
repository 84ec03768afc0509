"""What a service manager hears: sd_notify(3) over a socket as systemd gives it."""

from __future__ import annotations

import os
import socket
import time

import pytest

from edgeai.cli.notify import reloading, starting, stopping, watchdog_pings

WAIT_S = 20.0


@pytest.fixture(params=["path", "abstract"])
def told(request, tmp_path, monkeypatch):
    name = str(tmp_path / "n") if request.param == "path" else f"@edgeai-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(name.replace("@", "\0"))
        ear.settimeout(WAIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield lambda: dict(line.split("=", 1) for line in ear.recv(4096).decode().split("\n"))


def test_a_start_asks_for_time_and_then_is_ready(told):
    with starting("loading models"):
        assert told() == {"EXTEND_TIMEOUT_USEC": "60000000", "STATUS": "loading models"}
    assert told()["READY"] == "1"
    stopping()
    assert told()["STOPPING"] == "1"


def test_a_start_that_fails_is_never_ready(told):
    with pytest.raises(RuntimeError), starting("loading models"):
        raise RuntimeError
    told()
    stopping()
    assert "STOPPING" in told(), "nothing came between"


@pytest.mark.parametrize("fails", [False, True])
def test_a_reload_has_its_time_and_ends_ready_however_it_ends(told, fails):
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    try:
        with reloading():
            began = told()
            assert began["RELOADING"] == "1"
            assert (
                before_us
                <= int(began["MONOTONIC_USEC"])
                <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            )
            assert "EXTEND_TIMEOUT_USEC" in told()
            if fails:
                raise RuntimeError
    except RuntimeError:
        assert fails
    assert told()["READY"] == "1"


def test_nothing_is_told_where_nobody_listens(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    with starting("x"), reloading():
        stopping()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    with starting("x"), reloading():
        stopping()


def test_a_service_manager_that_takes_nothing_does_not_hold_a_sign_of_life_up(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "3")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        ping = watchdog_pings()
        began_s = time.monotonic()
        for _ in range(3000):  # more than a socket's queue takes
            ping()
        assert time.monotonic() - began_s < WAIT_S
