"""The publisher under test, as a process that can be killed: reads commands from standard input, says what it has done.

`python -m fault_suite.device SPEC` with the JSON of a DeviceSpec. Commands, one a line: "feed JSON" (FeedSpec),
"frames JSON" (FramesSpec), "flush SECONDS", "jump SECONDS" (the wall clock), "limit BYTES" (of any file, 0 for none),
"counters", "close". Answers, one a line: "open", "put CAMERA NUMBER ID" when an event is stored, "fed JSON",
"framed JSON", "flushed 0|1", "counters JSON", "closing", "closed". At the end of its input it ends without a word.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from fault_suite.tally import check

CAMERAS = ("gate", "door", "yard")


@dataclass(frozen=True)
class DeviceSpec:
    """publisher: ours, or plain paho with its defaults at QoS 1 or 0. outbox: our file. The rest of ours: None for the
    library's own. jumps: the wall clock of the process shall obey "jump"; wall_s: seconds it is ahead from the start.
    """

    port: int
    device: str
    publisher: Literal["edgeai", "paho QoS1", "paho QoS0"] = "edgeai"
    outbox: str = ""
    ack_timeout_s: float | None = None
    memory_bytes: int | None = None
    max_bytes: int | None = None
    max_age_s: float | None = None
    retry_disk_s: float | None = None
    jumps: bool = False
    wall_s: float = 0.0
    limit_bytes: int = 0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class FeedSpec:
    """`events` shared out over the cameras, each with a thread of its own, numbered from `first`; 0 events a second for as
    fast as they can be stored.
    """

    events: int
    rate_per_s: float = 0.0
    first: int = 0
    cameras: tuple[str, ...] = CAMERAS
    priority: Literal["alarm", "event"] = "event"


@dataclass(frozen=True)
class FramesSpec:
    """One loop with `work_ms` of computing a frame, one event a frame."""

    frames: int
    fps: float = 50.0
    work_ms: float = 5.0
    first: int = 0
    camera: str = "gate"


class Publisher(Protocol):
    """What the two kinds have in common."""

    def send(self, camera: str, number: int, priority: str) -> str:
        """The event's id, when it is stored."""
        ...

    def flush(self, timeout_s: float) -> bool: ...

    def counters(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class Ours:
    """As `edgeai run` reports."""

    def __init__(self, spec: DeviceSpec) -> None:
        from edgeai.sinks import MqttSettings, Outbox, drain, open_reporting
        from edgeai.types import Event

        if spec.ack_timeout_s is not None:
            drain.ACK_TIMEOUT_S = spec.ack_timeout_s
        bounds = {
            name: value
            for name in ("memory_bytes", "max_bytes", "max_age_s", "retry_disk_s")
            if (value := getattr(spec, name)) is not None
        }
        self._event = Event
        self._sink = open_reporting(
            MqttSettings(host="127.0.0.1", port=spec.port),
            Outbox(spec.outbox, **bounds),
            device=spec.device,
        )
        self._sink.open()

    def send(self, camera: str, number: int, priority: str) -> str:
        data = {"n": number, "check": check(camera, number)}
        event = self._event("tick", camera, float(number), data, priority=priority)
        self._sink.send(event)
        return event.id

    def flush(self, timeout_s: float) -> bool:
        return self._sink.flush(timeout_s)

    def counters(self) -> dict[str, Any]:
        return asdict(self._sink.counters)

    def close(self) -> None:
        self._sink.close()


class Paho:
    """What a user writes in ten lines: its defaults, its own thread, its own back-off and its own queue."""

    def __init__(self, spec: DeviceSpec, *, qos: int) -> None:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self._root = f"edge/v1/default/default/{spec.device}"
        self._qos = qos
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect_async("127.0.0.1", spec.port)
        self._client.loop_start()

    def send(self, camera: str, number: int, priority: str) -> str:
        one = str(uuid.uuid4())
        data = {"n": number, "check": check(camera, number)}
        payload = {"id": one, "stream": camera, "seq": number, "priority": priority, "data": data}
        self._client.publish(f"{self._root}/event/{camera}", json.dumps(payload), qos=self._qos)
        return one

    def flush(self, timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not self._client.is_connected() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return self._client.is_connected()

    def counters(self) -> dict[str, Any]:
        return {"connected": self._client.is_connected()}

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Voice:
    """Whole lines on standard output, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        rest = text.encode() + b"\n"
        with self._lock:
            while rest:
                rest = rest[os.write(1, rest) :]


def feed(publisher: Publisher, spec: FeedSpec, voice: Voice) -> None:
    """Put all of it, then say how long the puts took."""
    took_ms: list[float] = []
    began_s = time.monotonic()

    def one_camera(place: int, camera: str) -> None:
        for turn, overall in enumerate(range(place, spec.events, len(spec.cameras))):
            if spec.rate_per_s:
                wait_s = began_s + overall / spec.rate_per_s - time.monotonic()
                if wait_s > 0:
                    time.sleep(wait_s)
            number = spec.first + turn
            before_ns = time.perf_counter_ns()
            one = publisher.send(camera, number, spec.priority)
            took_ms.append((time.perf_counter_ns() - before_ns) / 1e6)
            voice.say(f"put {camera} {number} {one}")

    threads = [
        threading.Thread(target=one_camera, args=pair, daemon=True) for pair in enumerate(spec.cameras)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    voice.say(f"fed {json.dumps([round(ms, 3) for ms in took_ms])}")


def frames(publisher: Publisher, spec: FramesSpec, voice: Voice) -> None:
    """A camera's loop: wait for the frame's time, compute, send; then say [start, loop ms, send ms] of each."""
    told: list[tuple[float, float, float]] = []
    due_s = time.monotonic()
    for number in range(spec.first, spec.first + spec.frames):
        if (wait_s := due_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        due_s = max(due_s + 1 / spec.fps, time.monotonic())
        start_s = time.monotonic()
        began_ns = time.perf_counter_ns()
        until_ns = began_ns + int(spec.work_ms * 1e6)
        while time.perf_counter_ns() < until_ns:
            sum(range(200))
        worked_ns = time.perf_counter_ns()
        one = publisher.send(spec.camera, number, "event")
        done_ns = time.perf_counter_ns()
        voice.say(f"put {spec.camera} {number} {one}")
        told.append(
            (round(start_s, 4), round((done_ns - began_ns) / 1e6, 4), round((done_ns - worked_ns) / 1e6, 4))
        )
    voice.say(f"framed {json.dumps(told)}")


def main() -> None:
    raw = json.loads(sys.argv[1])
    ahead_s = [raw["wall_s"]]
    if raw["jumps"]:
        _shift_wall_clock(ahead_s)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size or hard, hard))

    spec = DeviceSpec(**raw)
    limit(spec.limit_bytes)
    voice = Voice()
    publisher: Publisher = (
        Ours(spec) if spec.publisher == "edgeai" else Paho(spec, qos=int(spec.publisher[-1]))
    )
    voice.say("open")

    def aside(work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=(publisher, *arguments, voice), daemon=True).start()

    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "feed":
            aside(feed, FeedSpec(**json.loads(rest)))
        elif word == "frames":
            aside(frames, FramesSpec(**json.loads(rest)))
        elif word == "flush":
            voice.say(f"flushed {int(publisher.flush(float(rest)))}")
        elif word == "jump":
            ahead_s[0] += float(rest)
        elif word == "limit":
            limit(int(rest))
        elif word == "counters":
            voice.say(f"counters {json.dumps(publisher.counters())}")
        elif word == "close":
            voice.say("closing")
            publisher.close()
            voice.say("closed")
            return
    os._exit(1)  # whoever asked for us is gone


def _shift_wall_clock(ahead_s: list[float]) -> None:
    """Before anything keeps a reference to it: every wall-clock reading of this process."""
    wall_s, wall_ns = time.time, time.time_ns
    time.time = lambda: wall_s() + ahead_s[0]
    time.time_ns = lambda: wall_ns() + int(ahead_s[0] * 1e9)


if __name__ == "__main__":
    main()
