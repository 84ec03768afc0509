"""What hangs is replaced, too many are the end, and a main loop that stands still too."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from edgeai.cli.notify import stopping, watchdog_pings
from edgeai.config import WatchdogSettings
from edgeai.errors import SourceError
from edgeai.pulse import Pulse
from edgeai.watchdog import EXIT_STUCK, Watchdog

WAIT_S = 20.0


class Worker:
    """Hangs from the beginning; `replace` gives it a new pulse, which hangs too where `again`."""

    def __init__(self, label="camera gate", *, again=False, error=None):
        self.label, self.again, self.error = label, again, error
        self.pulse, self.replaced = Pulse(), []
        self.pulse.begin("a read", 0.0)

    def replace(self, doing):
        self.replaced.append(doing)
        self.pulse = Pulse()
        if self.again:
            self.pulse.begin("a read", 0.0)
        if self.error is not None:
            raise self.error


def until(true):
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_hangs_is_replaced_once_and_told(caplog):
    bad, good = Worker(), Worker("engine x#0")
    good.pulse = Pulse()
    told, alive = [], []
    with Watchdog(
        WatchdogSettings(),
        watched=lambda: (bad, good),
        replaced=lambda worker, doing, hung_s, count: told.append((worker.label, doing.what, hung_s, count)),
        alive=lambda: alive.append(1),
        end=pytest.fail,
    ) as dog:
        until(lambda: alive)
    assert len(bad.replaced) == 1
    assert not good.replaced
    ((label, what, hung_s, count),) = told
    assert (label, what, count) == ("camera gate", "a read", 1)
    assert hung_s >= 0
    assert dog.replacements == 1
    assert caplog.text.count("camera gate hangs in a read for") == 1


def test_one_more_than_may_be_replaced_is_the_end(caplog):
    worker, ended = Worker(again=True), []
    with Watchdog(WatchdogSettings(replacements=2), watched=lambda: (worker,), end=ended.append):
        until(lambda: ended)
    assert set(ended) == {EXIT_STUCK}
    assert len(worker.replaced) == 2
    assert "after 2 that were replaced" in caplog.text


@pytest.mark.parametrize("error", [SourceError("gone"), RuntimeError("a bug")])
def test_one_that_cannot_be_replaced_is_told_and_the_others_are_watched_on(error, caplog):
    bad, other = Worker(error=error), Worker("engine x#0")
    with Watchdog(WatchdogSettings(), watched=lambda: (bad, other), end=pytest.fail):
        until(lambda: other.replaced)
    assert "camera gate cannot be replaced" in caplog.text


def test_a_main_loop_that_stands_still_is_the_end(caplog):
    ended, alive = [], []
    dog = Watchdog(
        WatchdogSettings(stuck_s=1), watched=lambda: (), end=ended.append, alive=lambda: alive.append(1)
    )
    with dog:
        until(lambda: ended)
    assert "the main loop has stood still" in caplog.text
    assert alive, "until then all was well"


def test_a_main_loop_that_beats_or_asked_for_time_is_let_be():
    dog = Watchdog(WatchdogSettings(stuck_s=1), watched=lambda: (), end=pytest.fail)
    with dog:
        for _ in range(15):
            dog.beat()
            time.sleep(0.1)
        dog.beat(60.0)
        time.sleep(1.5)


def test_it_can_be_switched_off():
    worker = Worker()
    with Watchdog(WatchdogSettings(enabled=False), watched=lambda: (worker,), end=pytest.fail):
        time.sleep(0.6)
    assert not worker.replaced


def child(code, **settings):
    code = textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    )


def full_pipe():
    """Both ends of a pipe that nobody reads and that takes no more, as of a log collector that hangs."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    return read, write


HOG = """
    import ctypes, re, threading, time
    from edgeai import watchdog
    from edgeai.config import WatchdogSettings
    watchdog.LOCKED_S = 1.5
    with watchdog.Watchdog(WatchdogSettings(), watched=lambda: ()) as dog:
        time.sleep(0.6)
        print("begins", flush=True)
        HOLD
"""
# PyDLL keeps the interpreter's lock, and so does a regular expression
HOLDS = {"native": "ctypes.PyDLL(None).sleep(60)", "expression": "re.match('(a+)+$', 'a' * 60 + 'b')"}


@pytest.mark.parametrize("hold", HOLDS)
def test_where_the_interpreters_lock_is_kept_the_process_ends(hold):
    began_s = time.monotonic()
    with child(HOG.replace("HOLD", HOLDS[hold])) as process:
        out, err = process.communicate(timeout=50)
    assert process.returncode == 1
    assert time.monotonic() - began_s < 50
    assert out == "begins\n"
    assert "Timeout" in err
    assert "most recent call first" in err, "where it hangs is told"


def test_what_keeps_the_lock_by_arrangement_is_let_be():
    code = HOG.replace("HOLD", "dog.beat(60.0); ctypes.PyDLL(None).sleep(4)")
    with child(code) as process:
        _, err = process.communicate(timeout=50)
    assert (process.returncode, err) == (0, "")


STUCK = """
    import threading, time
    from edgeai.config import WatchdogSettings
    from edgeai.watchdog import Watchdog
    with Watchdog(WatchdogSettings(stuck_s=1), watched=lambda: ()):
        time.sleep(60)
"""


def test_a_process_that_is_stuck_ends_itself_at_once():
    with child(STUCK) as process:
        _, err = process.communicate(timeout=50)
    assert process.returncode == EXIT_STUCK
    assert "the process ends itself" in err
    assert 'File "<string>"' in err, "where every thread stands is told"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        pytest.param(STUCK, EXIT_STUCK, id="stuck"),
        pytest.param(HOG.replace("HOLD", HOLDS["native"]), 1, id="locked"),
    ],
)
def test_it_ends_though_nobody_reads_standard_error(code, status):
    read, write = full_pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.DEVNULL, stderr=write
    )
    os.close(write)
    try:
        assert process.wait(50) == status
    finally:
        process.kill()
        os.close(read)


def test_the_alarm_leaves_a_log_file_that_is_there_alone(tmp_path):
    """It opens standard error once more: what was written before must not be written over."""
    log = tmp_path / "log"
    log.write_text("what was there\n")
    with log.open("a") as file:
        code = subprocess.call([sys.executable, "-c", textwrap.dedent(STUCK)], stderr=file)
    assert code == EXIT_STUCK
    lines = log.read_text().splitlines()
    assert lines[0] == "what was there"
    assert any("the process ends itself" in line for line in lines)
    assert any('File "<string>"' in line for line in lines)


PAUSED = """
    import sys, time
    from edgeai.config import WatchdogSettings
    from edgeai.watchdog import Watchdog
    with Watchdog(WatchdogSettings(stuck_s=2), watched=lambda: ()) as dog:
        print("runs", flush=True)
        for _ in range(60):
            time.sleep(0.1)
            dog.beat()
    print("went on")
"""


def test_a_process_that_was_stopped_for_a_while_goes_on():
    with child(PAUSED) as process:
        assert process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=50)
    assert (process.returncode, out, err) == (0, "went on\n", "")


def test_the_service_manager_hears_of_life_as_often_as_it_wants(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "n"))
        told.settimeout(WAIT_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
        ping = watchdog_pings()
        for _ in range(5):
            ping()
        assert told.recv(100) == b"WATCHDOG=1"
        time.sleep(0.25)
        ping()
        assert told.recv(100) == b"WATCHDOG=1"
        stopping()
        assert told.recv(100).startswith(b"STOPPING=1")
        monkeypatch.setenv("WATCHDOG_PID", "1")
        watchdog_pings()()
        monkeypatch.delenv("WATCHDOG_USEC")
        watchdog_pings()()
        told.settimeout(0.05)
        with pytest.raises(TimeoutError):
            told.recv(100)


def test_a_thread_that_was_replaced_may_come_back():
    """As captures and engines do: the pulse of the old one is not the pulse of the new one."""
    worker = Worker()
    old = worker.pulse
    with Watchdog(WatchdogSettings(), watched=lambda: (worker,), end=pytest.fail):
        until(lambda: worker.replaced)
        threading.Thread(target=old.end).start()
        time.sleep(0.6)
    assert len(worker.replaced) == 1


PAUSED_CALL = """
    import threading, time
    from edgeai.config import WatchdogSettings
    from edgeai.pulse import Pulse
    from edgeai.watchdog import Watchdog
    class Worker:
        label, pulse = "engine x#0", Pulse()
        def replace(self, doing):
            print("replaced", flush=True)
    worker = Worker()
    with Watchdog(WatchdogSettings(), watched=lambda: (worker,)) as dog:
        with worker.pulse.during("the model's run", 2.5):
            print("runs", flush=True)
            for _ in range(15):
                time.sleep(0.1)
                dog.beat()
    print("went on")
"""


def test_a_call_is_not_blamed_for_the_time_in_which_the_process_was_stopped():
    with child(PAUSED_CALL) as process:
        assert process.stdout.readline() == "runs\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(3.0)
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=50)
    assert (process.returncode, out, err) == (0, "went on\n", "")


class Stubborn(Worker):
    """Whoever replaces it hangs too."""

    def __init__(self, label="camera yard"):
        super().__init__(label)
        self.release = threading.Event()

    def replace(self, doing):
        self.replaced.append(doing)
        self.release.wait(WAIT_S)


def test_replacing_may_hang_without_holding_up_the_others_but_not_for_ever(caplog):
    stubborn, other, ended = Stubborn(), Worker("engine x#0"), []
    with Watchdog(WatchdogSettings(stuck_s=1), watched=lambda: (stubborn, other), end=ended.append) as dog:
        while not ended:
            dog.beat()
            time.sleep(0.05)
    stubborn.release.set()
    assert len(other.replaced) == 1
    assert len(stubborn.replaced) == 1, "once for each call that hangs"
    assert "camera yard hangs on in a read" in caplog.text
    assert dog.replacements == 2


def test_a_fault_in_what_is_asked_is_told_once_and_is_no_life(caplog):
    alive, asked = [], []

    def watched():
        asked.append(1)
        if len(asked) < 5:
            raise RuntimeError("changed under way")
        return ()

    with Watchdog(
        WatchdogSettings(), watched=watched, alive=lambda: alive.append(len(asked)), end=pytest.fail
    ) as dog:
        while not alive:
            dog.beat()
            time.sleep(0.05)
    assert alive[0] == 5
    assert caplog.text.count("the watchdog met a fault") == 1
