"""`edgeai run` as a process against a real mosquitto: events arrive, later where they must, and none is lost."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from blob_bundle import SIDE_PX, picture, write_blob_bundle, write_blob_config, write_walk
from broker import Mosquitto, Subscriber, free_port, wait_until

pytestmark = pytest.mark.system

LIMIT_S = 90


@pytest.fixture
def place(tmp_path):
    write_blob_bundle(tmp_path / "blob")
    return tmp_path


def write_blinks(path: Path, *, blinks: int, fps: float) -> None:
    """A square that is there for 4 frames and gone for 4, again and again: two events each time."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (SIDE_PX, SIDE_PX))
    for _ in range(blinks):
        for x in (24, 24, 24, 24, None, None, None, None):
            writer.write(picture(x))
    writer.release()


def start(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgeai", "run", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[dict, str]:
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    return json.loads(out), err


def events(messages) -> list[dict]:
    """Envelopes in order of first arrival, repetitions by id removed."""
    found = (json.loads(payload) for topic, payload, _ in messages if "/event/" in topic)
    return list({one["id"]: one for one in found}.values())


def test_events_arrive(place):
    write_walk(place / "video.avi")
    with Mosquitto(place / "broker") as broker, Subscriber(broker.port) as subscriber:
        report, err = finish(start(write_blob_config(place, broker.port, realtime=False)))
        assert subscriber.wait_for(lambda messages: len(events(messages)) == 3)
        got = events(subscriber.messages)
    (stream,) = report["streams"]
    assert (report["waiting"], stream["events"], stream["frames"]) == (0, 3, 40)
    assert stream["totals"]["middle"]["right"] == 1
    assert [event["type"] for event in got] == ["track_started", "line_crossed", "track_ended"]
    assert [event["stream_seq"] for event in got] == [1, 2, 3]
    assert {(event["device"], event["stream"]) for event in got} == {("cam", "gate")}
    assert "wait in the outbox" not in err


def test_a_broker_that_is_down_is_a_warning_and_events_arrive_at_the_next_run(place):
    write_walk(place / "video.avi")
    port = free_port()
    path = write_blob_config(place, port, realtime=False)
    report, err = finish(start(path))
    assert report["streams"][0]["events"] == 3
    # and the newest of info, health, counts and the configuration in force
    assert report["waiting"] == 3 + 4
    warnings = [line for line in err.splitlines() if "WARNING" in line or "warning" in line]
    assert len(warnings) == 2  # when it was not found, and what waits at the end
    assert "events wait in the outbox" in warnings[0]
    assert warnings[1].startswith("edgeai: warning: 7 messages wait in the outbox for the next run (")
    with Mosquitto(place / "broker", port=port) as broker, Subscriber(broker.port) as subscriber:
        report, err = finish(start(path))
        assert report["waiting"] == 0
        assert subscriber.wait_for(lambda messages: len(events(messages)) == 6)
        got = events(subscriber.messages)
    assert [event["stream_seq"] for event in got] == [1, 2, 3, 1, 2, 3]
    seqs = [event["seq"] for event in got]
    assert seqs == sorted(set(seqs))
    assert len({event["boot_id"] for event in got}) == 2


def test_a_broker_that_goes_and_comes_back_loses_nothing(place):
    blinks = 60
    write_blinks(place / "video.avi", blinks=blinks, fps=80.0)
    with Mosquitto(place / "broker", durable=True) as broker, Subscriber(broker.port) as subscriber:
        with start(write_blob_config(place, broker.port, realtime=True)) as process:
            assert subscriber.wait_for(lambda messages: len(events(messages)) >= 4)
            broker.stop()
            at_stop = len(events(subscriber.messages))
            outbox = sqlite3.connect(f"file:{place / 'state' / 'outbox.db'}?mode=ro", uri=True)
            wait_until(
                lambda: outbox.execute("SELECT COUNT(*) FROM message").fetchone()[0] >= 10,
                what="events that wait in the outbox",
            )
            outbox.close()
            broker.start()
            report, err = finish(process)
        sent = report["streams"][0]["events"]
        assert report["waiting"] == 0
        assert subscriber.wait_for(lambda messages: len(events(messages)) >= sent)
        got = events(subscriber.messages)
    assert at_stop < sent
    assert sent > blinks  # a slow machine drops frames, so blinks may melt together: never all of them
    assert [event["stream_seq"] for event in got] == list(range(1, sent + 1))
    assert "events wait in the outbox" in err
