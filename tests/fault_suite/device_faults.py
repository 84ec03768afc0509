"""The device's own process killed with -9 at random points of its life, again and again, on one outbox file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fault_suite.link import Link
from fault_suite.row import Row, baseline, judged
from fault_suite.stand import Child, Stand, Watcher
from fault_suite.tally import Put, tally

BURST = 60  # events of a round, as fast as they can be stored


@dataclass
class Life:
    """One device through all of its rounds."""

    stand: Stand
    link: Link
    watcher: Watcher
    device: str
    publisher: str = "edgeai"
    puts: list[Put] = field(default_factory=list)
    rounds: int = 0
    outbox: str = ""

    def start(self, *, opened: bool = True) -> Child:
        own = {"outbox": self.outbox} if self.publisher == "edgeai" else {}
        return self.stand.child(self.link.port, self.device, publisher=self.publisher, opened=opened, **own)

    def end(self, child: Child) -> None:
        child.kill()
        self.puts += child.puts
        self.rounds += 1

    def feed(self, child: Child) -> None:
        child.feed(BURST, first=self.rounds * BURST)


def _while_putting(life: Life) -> None:
    """In the middle of a burst from three threads; the link is there or not."""
    rng = life.stand.rng
    life.link.set(rng.choice(["pass", "cut"]))
    child = life.start()
    life.feed(child)
    child.wait_put(rng.randint(0, BURST - 1))
    life.end(child)


def _while_draining(life: Life) -> None:
    """When the link has just come back and the backlog flows."""
    rng = life.stand.rng
    life.link.set("cut")
    child = life.start()
    life.feed(child)
    child.wait_said("fed")
    before = len(life.watcher.of(life.device))
    life.link.set("pass")
    more = rng.randint(1, BURST)
    life.watcher.wait(lambda: len(life.watcher.of(life.device)) >= before + more, 5)
    life.end(child)


def _while_connecting(life: Life) -> None:
    """Within 100 ms of the start: while it opens its outbox, connects, and puts its first."""
    rng = life.stand.rng
    life.link.set("pass")
    child = life.start(opened=False)
    life.feed(child)
    accepted = life.link.accepted
    deadline_s = time.monotonic() + 5
    while life.link.accepted == accepted and time.monotonic() < deadline_s:
        time.sleep(0.001)
    time.sleep(rng.uniform(0, 0.03))
    life.end(child)


def _while_starting(life: Life) -> None:
    """Before it has said that it is open: its outbox may be half opened."""
    child = life.start(opened=False)
    time.sleep(life.stand.rng.uniform(0.1, 0.5))
    life.end(child)


def _while_closing(life: Life) -> None:
    """During the orderly end."""
    rng = life.stand.rng
    life.link.set(rng.choice(["pass", "pass", "cut"]))
    child = life.start()
    life.feed(child)
    child.wait_said("fed")
    child.tell("close")
    child.wait_said("closing")
    time.sleep(rng.uniform(0, 0.02))
    life.end(child)


POINTS: Sequence[Callable[[Life], None]] = (
    _while_putting,
    _while_draining,
    _while_connecting,
    _while_starting,
    _while_closing,
)


def kill(stand: Stand) -> Iterator[Row]:
    """Lost is what was reported as put and had not arrived when the last process had drained."""
    plan = stand.plan
    fault = "device kill -9"
    rounds = min(plan.rounds, 5) if plan.short else plan.rounds
    broker = stand.broker()
    watcher = stand.watcher(broker.port)
    link = stand.use(Link(broker.port, rng=stand.rng))
    life = Life(stand, link, watcher, "cam-001", outbox=str(stand.path("outbox.db")))
    for number in range(rounds):
        stand.tell(f"{fault}: {number + 1} of {rounds}")
        POINTS[number % len(POINTS)](life)
    link.set("pass")
    last = life.start()
    flushed = last.ask("flush 60", "flushed", timeout_s=70) == "1"
    watcher.wait_for_all("cam-001", lambda: life.puts, 20)
    count = tally(life.puts, watcher.of("cam-001"))
    last.close()
    aside = sorted(one.name for one in stand.folder.glob("*corrupt*"))
    yield judged(
        fault,
        count,
        demands=[
            (flushed, "the outbox is not empty at the end"),
            (not aside, f"the outbox was taken for corrupt: {', '.join(aside)}"),
            (
                count.unreported <= 3 * rounds,
                f"{count.unreported} arrived that were never reported: more than one a thread and kill",
            ),
        ],
        note=f"{rounds} kills in turns: {', '.join(point.__name__.lstrip('_').replace('_', ' ') for point in POINTS)}",
    )
    if plan.with_baseline:
        yield from _baseline(stand, fault, link, watcher, min(rounds, 20))


def _baseline(stand: Stand, fault: str, link: Link, watcher: Watcher, rounds: int) -> Iterator[Row]:
    for qos in (1, 0):
        life = Life(stand, link, watcher, f"paho-{qos}", publisher=f"paho QoS{qos}")
        for number in range(rounds):
            (_while_putting, _while_draining)[number % 2](life)
        link.set("pass")
        last = life.start()
        last.ask("flush 5", "flushed")
        watcher.wait_for_all(life.device, lambda: life.puts, 1)  # noqa: B023
        last.close()
        yield baseline(
            fault, life.publisher, tally(life.puts, watcher.of(life.device)), note=f"{rounds} kills"
        )
