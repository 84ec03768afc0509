"""A broker that is killed and started again, while events are under way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from broker import Mosquitto

from fault_suite.link_faults import PAHO_TO_TELL_S, within_two_s
from fault_suite.row import Row, baseline, judged
from fault_suite.stand import REPOSITORY, Child, Stand, Watcher, tally_of
from fault_suite.tally import tally

SHIPPED = REPOSITORY / "firmware_configs" / "mosquitto"
# what is about persistence in the shipped file is taken from it; listeners, certificates and paths are the stand's own
_PERSISTENCE = (
    "autosave_",
    "max_inflight_messages",
    "max_queued_",
    "persistent_client_expiration",
    "set_tcp_nodelay",
)


def shipped_lines(folder: Path = SHIPPED) -> tuple[str, ...]:
    """The lines about durability of the shipped broker configuration, () where there is none."""
    lines: list[str] = []
    for file in sorted(folder.rglob("*.conf")):
        lines += [
            line for line in map(str.strip, file.read_text().splitlines()) if line.startswith(_PERSISTENCE)
        ]
    return tuple(dict.fromkeys(lines))


def open_broker(stand: Stand) -> tuple[Mosquitto, str]:
    """A broker as durable as the shipped configuration makes it, and a word on where that came from."""
    lines = shipped_lines()
    if not lines:
        return stand.broker(durable=True), "durability as in tests/broker.py: no configuration is shipped yet"
    broker: Mosquitto = stand.use(Mosquitto(stand.path("broker"), config=("allow_anonymous true", *lines)))
    return broker, "durability lines of firmware_configs/mosquitto"


def kill_and_restart(stand: Stand) -> Iterator[Row]:
    """kill -9 at random moments of the traffic and in the middle of a message, again and again, and a restart each time.

    Counted twice: at a subscriber that listens all the time, and at one that sleeps through the whole run and is given
    by the broker what it kept.
    """
    plan = stand.plan
    fault = "broker kill -9, restart"
    broker, origin = open_broker(stand)
    watcher = stand.watcher(broker.port)
    sleeper = Watcher(broker.port, name="sleeper")
    sleeper.close()
    kills = 2 if plan.short else 5
    away_s = 0.5 if plan.short else 3.0
    children = [stand.child(broker.port, "cam-001")]
    if plan.with_baseline:
        children += [stand.child(broker.port, f"paho-{qos}", publisher=f"paho QoS{qos}") for qos in (1, 0)]
    paho_s = 1.0 if plan.short else 5.0  # its back-off doubles: it is given that long to come back
    rate = plan.events / (kills * (away_s + paho_s + 1.0) + 1.0)
    for child in children:
        child.ask("flush 10", "flushed")
        child.feed(plan.events, rate)
    back_s: dict[str, list[float]] = {child.spec.device: [] for child in children}
    for turn in range(kills):
        time.sleep(stand.rng.uniform(0.5, 1.0))
        stand.tell(f"{fault}: {turn + 1} of {kills}")
        if turn % 2:
            _wait_for_next(
                watcher, children[0].spec.device
            )  # it is passing on, acknowledging and writing right now
        broker.kill()
        put_before = {child.spec.device: child.put_count for child in children}
        time.sleep(away_s)
        broker.start()
        back_at_s = time.monotonic()
        for child in children:
            device = child.spec.device
            if child.put_count == put_before[device]:
                continue  # nothing waits, so nothing can come back
            back_s[device].append(
                watcher.first_of(
                    lambda: {put.id for put in child.puts[put_before[device] :]},  # noqa: B023
                    back_at_s,
                    20.0
                    if child.spec.publisher == "edgeai"
                    else max(0.1, back_at_s + paho_s - time.monotonic()),
                )
            )
    last_s = time.monotonic()
    for child in children:
        child.wait_said("fed", timeout_s=120)
    yield from _rows(stand, fault, children, watcher, back_s, last_s, origin)
    sleeper = stand.watcher(broker.port, name="sleeper")
    ours = children[0]
    sleeper.wait_for_all(ours.spec.device, lambda: ours.puts, 10)
    # what mosquitto acknowledges and has not yet written when it dies, it loses for those who are not there: told, and
    # with the union of both, which is what a person with both would have
    asleep = tally(ours.puts, sleeper.of(ours.spec.device))
    union = tally(ours.puts, watcher.of(ours.spec.device) + sleeper.of(ours.spec.device))
    yield judged(
        f"{fault}, asleep",
        asleep,
        demands=[(union.lost == 0, f"{union.lost} lost to both subscribers")],
        note="a subscriber that was away during all of it",
    )


def _wait_for_next(watcher: Watcher, device: str) -> None:
    before = len(watcher.of(device))
    watcher.wait(lambda: len(watcher.of(device)) > before, 2)


def _rows(
    stand: Stand,
    fault: str,
    children: list[Child],
    watcher: Watcher,
    back_s: dict[str, list[float]],
    last_s: float,
    origin: str,
) -> Iterator[Row]:
    for child in children:
        device = child.spec.device
        if child.spec.publisher == "edgeai":
            watcher.wait_for_all(device, lambda: child.puts, 40)  # noqa: B023
            flushed = child.ask("flush 20", "flushed") == "1"
            yield judged(
                fault,
                tally_of(child, watcher),
                demands=[(flushed, "the outbox is not empty at the end")],
                recovery_s=back_s[device],
                note=origin,
            )
        else:
            until_s = last_s + (2 if stand.plan.short else PAHO_TO_TELL_S)
            if child.spec.publisher == "paho QoS1":
                watcher.wait_for_all(device, lambda: child.puts, until_s - time.monotonic())  # noqa: B023
            yield baseline(fault, child.spec.publisher, tally_of(child, watcher), recovery_s=back_s[device])


def recovery(stand: Stand) -> Iterator[Row]:
    """Broker back, and how long until the first message of each device's backlog is there."""
    plan = stand.plan
    devices, rounds = (3, 1) if plan.short else (8, max(2, -(-plan.rounds // 16)))
    broker, _ = open_broker(stand)
    watcher = stand.watcher(broker.port)
    children = [stand.child(broker.port, f"dev-{number}") for number in range(devices)]
    samples: list[float] = []
    for turn in range(rounds):
        stand.tell(f"broker recovery: {turn + 1} of {rounds}")
        for child in children:
            child.ask("flush 20", "flushed")
        broker.kill()
        for child in children:
            child.feed(6, first=2 * turn)
            child.wait_said("fed", times=turn + 1)
        time.sleep(0.5 if plan.short else stand.rng.uniform(3.0, 5.0))  # the back-off has reached its cap
        broker.start()
        back_at_s = time.monotonic()
        for child in children:
            watcher.wait_for_all(child.spec.device, lambda: child.puts, 20)  # noqa: B023
            samples.append(watcher.first_after(child.spec.device, back_at_s))
    parts = [tally_of(child, watcher) for child in children]
    total = sum(parts[1:], parts[0])
    yield judged(
        "broker back, backlog flows",
        total,
        recovery_s=samples,
        demands=within_two_s(samples),
        note=f"{devices} devices, {rounds} restarts",
    )
