"""Totals against kill -9: whatever was told stays told, no number comes twice, none of a car that was told is missing."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgeai.sinks.outbox import Outbox
from edgeai.stages.rules import LineSettings
from edgeai.store import TotalsStore

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).resolve().parents[2]
ROUNDS = 30

# A rule that counts tracks across a line as fast as it can: totals first, then the events, as the runtime does
COUNTER = """
import json, sys
from pathlib import Path
import numpy as np
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
from edgeai.stages.rules import LineSettings, Scene, open_rule
from edgeai.store import TotalsStore
from edgeai.types import Detections

rule = open_rule(LineSettings(name="gate", a=(0, 0.5), b=(1, 0.5)), labels=("car",))
key = rule.settings.identity
with TotalsStore(Path(sys.argv[1]) / "totals.db") as store, Outbox(sys.argv[1] + "/outbox.db") as outbox:
    kept = store.load("cam")
    if kept:
        rule.restore(kept[key])
    print("ready", flush=True)
    for track_id in range(1_000_000):
        ends = [(0.2, 0.8), (0.8, 0.2)][track_id % 3 == 0]
        for k, y in enumerate(ends):
            box = np.array([[50, 100 * y - 5, 60, 100 * y]], np.float32)
            one = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32), np.array([track_id]))
            events = rule.update(Scene(one, 100, 100, track_id + k / 2, "cam"))
            if events:
                store.save("cam", {key: rule.totals()}, durable=DURABLE)
                outbox.put_many([Draft("t", json.dumps(event.data).encode()) for event in events])
                print(events[0].data["count"], flush=True)
        rule.update(Scene(Detections.empty(), 100, 100, track_id + 0.9, "cam", (), (track_id,)))
"""


@pytest.mark.parametrize("durable", [True, False])
def test_no_count_is_told_twice_and_none_is_lost_however_often_the_process_is_killed(tmp_path, durable):
    code = COUNTER.replace("DURABLE", str(durable))
    key = LineSettings(name="gate", a=(0, 0), b=(1, 1)).identity
    random_ = random.Random(durable)
    printed = 0
    for _ in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        assert process.stdout.readline() == b"ready\n"
        for _ in range(random_.randrange(12)):
            process.stdout.readline()
            printed += 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with Outbox(tmp_path / "outbox.db") as outbox:
        told = [message.payload for message in outbox.peek(1_000_000)]
    with TotalsStore(tmp_path / "totals.db") as store:
        totals = store.load("cam")[key]
    events = [json.loads(each) for each in told]
    assert len(events) >= printed
    left_out = 0
    for direction in ("in", "out"):
        counts = [event["count"] for event in events if event["direction"] == direction]
        assert counts == sorted(set(counts)), "a number came twice, or went back"
        assert counts[-1] <= totals[direction], "the totals know less than was told"
        left_out += totals[direction] - len(counts)
    # a crossing whose event died with the process, between the two commits: one a kill at most
    assert 0 <= left_out <= ROUNDS
    assert not list(tmp_path.glob("*corrupt*"))
