"""The test stand: a folder, brokers, watching subscribers and publisher processes, all gone at its end."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import paho.mqtt.client as paho
from broker import Mosquitto
from paho.mqtt.enums import CallbackAPIVersion

from fault_suite.device import DeviceSpec, FeedSpec, FramesSpec
from fault_suite.tally import Arrival, Put, Tally, read_arrival, tally

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 60.0


class StandError(Exception):
    """The stand itself does not work: a process that does not start, a broker without an answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long the suite runs. events: put in each run. rounds: of what is repeated. short: outages of a second and few
    rounds, for CI. with_baseline: plain paho beside us.
    """

    events: int = 1000
    rounds: int = 200
    seed: int = 0
    short: bool = False
    with_baseline: bool = True

    def scaled(self, seconds: float) -> float:
        """An outage's length: itself, or at most 1.5 s in the short form."""
        return min(seconds, 1.5) if self.short else seconds


class Watcher:
    """A subscriber with a session that outlives the broker, back within 20 ms of it: its waiting is not in the figures."""

    def __init__(self, port: int, *, topics: str = "edge/v1/#", name: str = "") -> None:
        self._arrivals: list[Arrival] = []
        self._news = threading.Condition(threading.RLock())
        ready = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name or f"watcher-{os.urandom(6).hex()}",
            clean_session=False,
        )
        self._client.reconnect_delay_set(0.02, 0.02)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe(topics, qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        if not ready.wait(PATIENCE_S):
            raise StandError("the broker does not answer a subscriber")

    def _take(self, client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        now_s = time.monotonic()
        if "/event/" in message.topic:
            with self._news:
                self._arrivals.append(read_arrival(now_s, message.topic, message.payload))
                self._news.notify_all()

    def of(self, device: str, *, own: bool = False) -> list[Arrival]:
        """What arrived of a device, in order; `own` for its events about itself, which are not the suite's."""
        with self._news:
            found = [one for one in self._arrivals if f"/{device}/event/" in one.topic]
        return [one for one in found if one.topic.endswith("/_device") == own]

    def own_types(self, device: str) -> list[str]:
        """Types of a device's events about itself, in order."""
        return [json.loads(one.payload).get("type", "") for one in self.of(device, own=True)]

    def wait(self, enough: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for arrivals until `enough`; False after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while not enough():
                if time.monotonic() > deadline_s:
                    return False
                self._news.wait(0.1)
        return True

    def wait_for_all(self, device: str, puts: Callable[[], Sequence[Put]], timeout_s: float) -> bool:
        """Until all that was put has arrived."""
        seen: set[str] = set()
        position = [0]

        def enough() -> bool:
            for one in self._arrivals[position[0] :]:
                if f"/{device}/event/" in one.topic:
                    seen.add(one.id)
            position[0] = len(self._arrivals)
            return all(put.id in seen for put in puts())

        return self.wait(enough, timeout_s)

    def first_after(self, device: str, time_s: float) -> float:
        """Seconds from `time_s` to the first arrival of a device after it, infinite where there is none."""
        return min(
            (one.time_s - time_s for one in self.of(device) if one.time_s >= time_s), default=float("inf")
        )

    def first_of(self, ids: Callable[[], set[str]], from_s: float, timeout_s: float) -> float:
        """Seconds from `from_s` to the first arrival of one of `ids`, waiting for it; infinite after `timeout_s`."""
        found: list[float] = []

        def enough() -> bool:
            wanted = ids()
            found[:] = [one.time_s for one in self._arrivals if one.time_s >= from_s and one.id in wanted][:1]
            return bool(found)

        return found[0] - from_s if self.wait(enough, timeout_s) else float("inf")

    def longest_gap(self, device: str, from_s: float) -> float:
        """The longest silence of a device after `from_s`, in seconds, infinite where it never spoke again."""
        times_s = [from_s, *(one.time_s for one in self.of(device) if one.time_s >= from_s)]
        gaps_s = [after - before for before, after in itertools.pairwise(times_s)]
        return max(gaps_s, default=float("inf"))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Child:
    """A publisher process (device.py) and what it has said."""

    def __init__(self, spec: DeviceSpec, log: Path) -> None:
        self.spec = spec
        self.log = log
        self._news = threading.Condition()
        self._puts: list[Put] = []
        self._said: list[tuple[float, str]] = []
        self._ended = False
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(str(one) for one in (REPOSITORY / "tests", REPOSITORY))
        }
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fault_suite.device", spec.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment,
                cwd=log.parent,
            )
        self._thread = threading.Thread(target=self._listen, name="child", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def puts(self) -> list[Put]:
        """What it has reported as put so far."""
        with self._news:
            return list(self._puts)

    @property
    def put_count(self) -> int:
        return len(self._puts)

    def settled_put_count(self) -> int:
        """How many it has reported, when nothing more has been heard for 20 ms: of a stopped process."""
        with self._news:
            while self._news.wait(0.02):
                pass
            return len(self._puts)

    def tell(self, command: str) -> None:
        if self._process.stdin is None:
            raise StandError("no way to talk to the publisher")
        try:
            self._process.stdin.write(command.encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise StandError(f"the publisher has ended: {self.last_words()}") from error

    def feed(self, events: int, rate_per_s: float = 0.0, **more: Any) -> None:
        self.tell(f"feed {json.dumps(asdict(FeedSpec(events, rate_per_s, **more)))}")

    def frames(self, frames: int, **more: Any) -> None:
        self.tell(f"frames {json.dumps(asdict(FramesSpec(frames, **more)))}")

    def wait_said(self, word: str, *, times: int = 1, timeout_s: float = PATIENCE_S) -> str:
        """What follows `word` in the answer that begins with it, the `times`th. Raises StandError where it does not come."""
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while True:
                found = [rest for _, rest in self._lines(word)]
                if len(found) >= times:
                    return found[times - 1]
                if self._ended or time.monotonic() > deadline_s:
                    raise StandError(f"the publisher never said {word!r}: {self.last_words()}")
                self._news.wait(0.2)

    def ask(self, command: str, answer: str, *, timeout_s: float = PATIENCE_S) -> str:
        with self._news:
            times = len(self._lines(answer)) + 1
        self.tell(command)
        return self.wait_said(answer, times=times, timeout_s=timeout_s)

    def counters(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("counters", "counters"))
        return found

    def wait_put(self, count: int, *, timeout_s: float = PATIENCE_S) -> bool:
        deadline_s = time.monotonic() + timeout_s
        with self._news:
            while len(self._puts) < count:
                if self._ended or time.monotonic() > deadline_s:
                    return False
                self._news.wait(0.1)
        return True

    def close(self) -> None:
        """An orderly end."""
        self.ask("close", "closed")
        self._process.wait(PATIENCE_S)
        self._thread.join(10)

    def kill(self) -> None:
        """kill -9; all that it had said is read first."""
        self._process.kill()
        self._process.wait()
        self._thread.join(10)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it left no log"

    def _lines(self, word: str) -> list[tuple[float, str]]:
        return [
            (when_s, text.partition(" ")[2])
            for when_s, text in self._said
            if text == word or text.startswith(word + " ")
        ]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            if not raw.endswith(b"\n"):
                break  # a kill tore the line: what it says was not said
            text = raw.decode().rstrip("\n")
            with self._news:
                if text.startswith("put "):
                    _, camera, number, one = text.split(" ")
                    self._puts.append(Put(camera, int(number), one))
                else:
                    self._said.append((time.monotonic(), text))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Stand:
    """Makes what a fault needs, each time in a fresh folder; everything ends with it."""

    def __init__(self, folder: Path, plan: Plan, *, advance: Callable[[str], None] = lambda _: None) -> None:
        self.folder = folder
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.tell = advance
        """Says in a word what is going on."""
        self._stack = contextlib.ExitStack()
        self._made = 0

    def __enter__(self) -> Stand:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stack.close()

    def use(self, context: contextlib.AbstractContextManager[Any]) -> Any:
        """Enter something for as long as the stand lives."""
        return self._stack.enter_context(context)

    def at_end(self, work: Callable[[], object]) -> None:
        self._stack.callback(work)

    def path(self, name: str) -> Path:
        """A path that nothing else has."""
        self._made += 1
        return self.folder / f"{self._made:03d}-{name}"

    def broker(self, *, durable: bool = False) -> Mosquitto:
        broker: Mosquitto = self.use(Mosquitto(self.path("broker"), durable=durable))
        return broker

    def watcher(self, port: int, **more: Any) -> Watcher:
        watcher = Watcher(port, **more)
        self.at_end(watcher.close)
        return watcher

    def child(self, port: int, device: str, *, opened: bool = True, **more: Any) -> Child:
        """A publisher process; `opened` waits until its sink is open."""
        if more.get("publisher", "edgeai") == "edgeai":
            more.setdefault("outbox", str(self.path("outbox.db")))
        child = Child(
            DeviceSpec(port, device, **more),
            self.folder / f"{device}.log",
        )
        self.at_end(child.kill)
        if opened:
            child.wait_said("open")
        return child

    @contextlib.contextmanager
    def part(self) -> Iterator[Stand]:
        """A stand for one fault: what it made ends with it."""
        with Stand(self.path("fault"), self.plan, advance=self.tell) as stand:
            stand.folder.mkdir(parents=True)
            yield stand


def tally_of(child: Child, watcher: Watcher) -> Tally:
    return tally(child.puts, watcher.of(child.spec.device))
