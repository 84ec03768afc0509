"""`edgeai run` as the shipped unit runs it: killed, hung, locked or stopped, it is back, and nothing it had stored is lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from blob_bundle import write_blob_bundle, write_walk
from broker import free_port
from service_manager import UNIT, ServiceManager, read_unit

pytestmark = pytest.mark.system

WEDGED_RUN = Path(__file__).resolve().parents[1] / "wedged_run.py"
CONFIG = """\
device = "cam"
[mqtt]
host = "127.0.0.1"
port = {port}
[watchdog]
engine_s = 1.0
{watchdog}
[[cameras]]
name = "gate"
source = "walk.avi"
model = "./blob"
capture = {{ loop = true }}
tracker = {{ lost_s = 0.05, confirm_hits = 1 }}
[[cameras.rules]]
kind = "track"
[[cameras.rules]]
kind = "line"
name = "middle"
a = [0.5, 0.0]
b = [0.5, 1.0]
"""


class Service:
    """The service in a folder; its broker is never there, so that everything waits in the outbox."""

    def __init__(self, folder, *, watchdog="", **settings):
        write_blob_bundle(folder / "blob")
        write_walk(folder / "walk.avi", frames=20)
        (folder / "device.toml").write_text(CONFIG.format(port=free_port(), watchdog=watchdog))
        command = [sys.executable, str(WEDGED_RUN), "run", "device.toml"]
        self.folder, self.log = folder, folder / "log"
        self.manager = ServiceManager(command, folder=folder, log=self.log, **settings)

    def wedge(self, kind):
        part = self.folder / "wedge.part"
        part.write_text(kind)
        part.rename(self.folder / "wedge")
        self.manager.wait_for(lambda starts: not (self.folder / "wedge").exists())
        return time.monotonic()

    def messages(self):
        """What waits in the outbox by number, but for what only the newest is kept of."""
        path = self.folder / "state" / "outbox.db"
        if not path.exists():
            return {}
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'message'").fetchone():
                return {}
            return dict(db.execute("SELECT seq, payload FROM message WHERE latest = 0"))

    def wait_for_more(self, n=6):
        """Wait until n more wait in the outbox; all of them."""
        before = len(self.messages())
        self.manager.wait_for(lambda starts: len(self.messages()) >= before + n)
        return self.messages()

    def events(self, type_):
        told = (json.loads(payload) for _, payload in sorted(self.messages().items()))
        return [one for one in told if one.get("type") == type_]

    def check_counts(self, *, restarts):
        """Every number once, in order. Each time the process died an event may have died with it, and nobody was told the end
        of what was in view: the square, and the one before it that was not yet given up.
        """
        for type_, untold in (("line_crossed", 1), ("track_started", 1), ("track_ended", 2)):
            counts = [event["data"]["count"] for event in self.events(type_)]
            assert counts, type_
            assert counts == sorted(set(counts)), f"{type_}: a number came twice"
            assert counts[-1] - len(counts) <= untold * restarts, f"{type_}: {counts}"

    def back(self, number, *, status, since_s):
        """Wait for the process of that number, after one that ended by itself with `status`."""
        started = self.manager.wait_ready(number)
        before = self.manager.starts[number - 2]
        assert (before.status, before.killed_for) == (status, "")
        print(
            f"ended {before.ended_s - since_s:.2f} s after, ready again {started.ready_s - since_s:.2f} s after"
        )
        return started


def test_killed_it_is_back_with_what_waited(tmp_path):
    service = Service(tmp_path)
    with service.manager as manager:
        for number in (1, 2, 3):
            manager.wait_ready(number)
            before = service.wait_for_more()
            began_s = time.monotonic()
            os.kill(manager.starts[-1].pid, signal.SIGKILL)
            service.back(number + 1, status=-signal.SIGKILL, since_s=began_s)
            assert before.items() <= service.messages().items()
        service.wait_for_more()
    assert manager.starts[-1].status == 0, "told to stop, it ends in order"
    assert "STOPPING=1" in manager.starts[-1].words
    seqs = [event["seq"] for event in service.events("track_started")]
    assert seqs == sorted(set(seqs))
    service.check_counts(restarts=3)


@pytest.mark.parametrize(("kind", "status"), [("lock", 1), ("main", 70)])
def test_hung_as_a_whole_it_ends_itself_and_is_back_with_what_waited(tmp_path, kind, status):
    service = Service(tmp_path, watchdog="stuck_s = 2.0")
    with service.manager as manager:
        manager.wait_ready(1)
        before = service.wait_for_more()
        began_s = service.wedge(kind)
        service.back(2, status=status, since_s=began_s)
        assert before.items() <= service.messages().items()
        service.wait_for_more()
    assert len(manager.starts) == 2
    service.check_counts(restarts=1)


def test_a_models_run_that_hangs_is_replaced_and_the_process_lives_on(tmp_path):
    service = Service(tmp_path)
    with service.manager as manager:
        manager.wait_ready(1)
        service.wait_for_more()
        began_s = service.wedge("run")
        manager.wait_for(lambda starts: service.events("worker_replaced"))
        print(f"told to be replaced {time.monotonic() - began_s:.2f} s after")
        service.wait_for_more()
    assert len(manager.starts) == 1
    (event,) = service.events("worker_replaced")
    assert event["data"]["doing"] == "the model's run"


def test_one_hang_more_than_may_be_replaced_is_a_new_process(tmp_path):
    service = Service(tmp_path, watchdog="replacements = 1")
    with service.manager as manager:
        manager.wait_ready(1)
        service.wait_for_more()
        service.wedge("run")
        manager.wait_for(lambda starts: service.events("worker_replaced"))
        service.wait_for_more()
        service.back(2, status=70, since_s=service.wedge("run"))
        service.wait_for_more()
    assert "after 1 that were replaced" in service.log.read_text()


@pytest.mark.parametrize("watchdog", ["", "enabled = false"])
def test_it_tells_that_it_lives_and_is_killed_where_it_does_not(tmp_path, watchdog):
    service = Service(tmp_path, watchdog=watchdog, WatchdogSec="4")
    with service.manager as manager:
        manager.wait_ready(1)
        manager.wait_for(lambda starts: starts[0].pings >= 4)
        os.kill(manager.starts[0].pid, signal.SIGSTOP)
        manager.wait_ready(2)
    assert (manager.starts[0].killed_for, manager.starts[0].status) == ("silence", -signal.SIGABRT)


def test_a_wrong_configuration_is_not_tried_again(tmp_path):
    service = Service(tmp_path)
    (tmp_path / "device.toml").write_text("camera = 1\n")
    with service.manager as manager:
        manager.wait_for(lambda starts: manager.given_up)
    assert [start.status for start in manager.starts] == [2]


@pytest.fixture
def systemd_analyze():
    try:
        subprocess.run(["systemd-analyze", "--version"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("systemd-analyze is not installed")
    return "systemd-analyze"


def test_systemd_takes_the_unit(tmp_path, systemd_analyze):
    command = read_unit()["ExecStart"].split()[0]
    unit = tmp_path / "edgeai.service"
    unit.write_text(UNIT.read_text().replace(command, "/bin/true"))
    done = subprocess.run(
        [systemd_analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_leaves_little_open(systemd_analyze):
    done = subprocess.run(
        [systemd_analyze, "security", "--offline=yes", "--threshold=20", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    if "--offline" in done.stderr:
        pytest.skip("systemd before 250 judges installed units only")
    assert done.returncode == 0, done.stdout
