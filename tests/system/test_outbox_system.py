"""The outbox against what really happens to files: kill -9, and a disk that takes no more."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeai.sinks.outbox import Outbox

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).resolve().parents[2]

PUTTER = """
import sys
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
with Outbox(sys.argv[1]) as outbox:
    while True:
        seqs = outbox.put_many([Draft("t", lambda seq, place: b"%d" % seq) for _ in range(3)])
        print(seqs[-1], flush=True)
"""


def child(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )


def test_what_a_killed_process_reported_as_put_is_there(tmp_path):
    path = tmp_path / "outbox.db"
    last = 0
    for round_ in range(8):
        process = child(PUTTER, path)
        for _ in range(random.Random(round_).randint(1, 40)):
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        # the end of what was piped may be a torn line
        last = max([last, *(int(number) for number in rest[:-1])])
        with Outbox(path) as outbox:
            found = outbox.peek(100_000)
            assert [message.seq for message in found] == list(range(1, len(found) + 1))
            assert all(message.payload == b"%d" % message.seq for message in found)
            assert len(found) >= last
            assert len(found) % 3 == 0  # a batch is whole or not there
    assert last > 0
    assert not list(tmp_path.glob("*corrupt*"))


FULL_DISK = """
import resource, sys
from edgeai.clock import FakeClock
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
clock = FakeClock()
with Outbox(sys.argv[1], clock=clock, retry_disk_s=5) as outbox:
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, hard))
    for number in range(300):
        outbox.put(Draft("t", b"%d " % number + b"x" * 1000))
    print(outbox.on_disk, outbox.pending, len(outbox.peek(1000)), sum(outbox.dropped.values()))
    outbox.ack(range(1, 11))
    print(outbox.pending)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for _ in range(3):
        clock.advance(5)
        outbox.put(Draft("t", b"more"))
    print(outbox.on_disk, outbox.pending)
"""


def test_a_disk_that_takes_no_more_costs_nothing(tmp_path):
    """The kernel's own limit on a file's size stands for the full disk: write() itself fails."""
    path = tmp_path / "outbox.db"
    process = child(FULL_DISK, path)
    said = process.stdout.read().decode().splitlines()
    assert process.wait() == 0
    assert said == ["False 300 300 0", "290", "True 293"]
    with Outbox(path, max_age_s=float("inf")) as outbox:
        found = outbox.peek(1000)
        assert [message.seq for message in found] == list(range(11, 304))
        assert all(message.payload.startswith(b"%d " % (message.seq - 1)) for message in found[:290])
    assert not list(tmp_path.glob("*corrupt*"))
