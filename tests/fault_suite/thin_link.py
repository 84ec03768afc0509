"""A modem link of 2 kB/s and 300 ms: how long an alarm takes while a backlog goes out."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fault_suite.link import Link
from fault_suite.row import Row, baseline, judged
from fault_suite.stand import Child, Stand, Watcher, tally_of
from fault_suite.tally import Tally, tally

RATE_BYTES_S, DELAY_S = 2000.0, 0.3


def alarm_in_a_backlog(stand: Stand) -> Iterator[Row]:
    """The link comes back thin, a backlog waits; ten seconds later an alarm, and an event of a camera without a backlog.

    Each must arrive before half of what was put before it: it has overtaken. The time is told, not judged.
    """
    plan = stand.plan
    fault = "alarm on a 2 kB/s link"
    backlog = 150 if plan.short else 2 * plan.events
    head_start_s = 2.0 if plan.short else 10.0
    patience_s = 20.0 if plan.short else 120.0
    broker = stand.broker()
    watcher = stand.watcher(broker.port)
    lanes = [("edgeai", "cam-001"), *([("paho QoS1", "paho-1")] if plan.with_baseline else [])]
    running: list[tuple[Child, Link]] = []
    for publisher, device in lanes:
        link = stand.use(Link(broker.port, rng=stand.rng))
        child = stand.child(link.port, device, publisher=publisher)
        child.ask("flush 10", "flushed")
        link.set("cut")
        child.feed(backlog, cameras=("gate", "door"))
        child.wait_said("fed")
        link.rate_bytes_s, link.delay_s = RATE_BYTES_S, DELAY_S
        link.set("pass")
        running.append((child, link))
    for child, _ in running:
        watcher.wait(lambda: bool(watcher.of(child.spec.device)), 30)  # noqa: B023
    stand.tell(f"{fault}: {backlog} events wait")
    time.sleep(head_start_s)
    asked_s = time.monotonic()
    for child, _ in running:
        child.feed(1, cameras=("yard",))
        child.feed(1, cameras=("gate",), priority="alarm", first=backlog)
        child.wait_said("fed", times=3)
    for child, link in running:
        yield _row(child, link, watcher, fault, asked_s, patience_s)


def _row(child: Child, link: Link, watcher: Watcher, fault: str, asked_s: float, patience_s: float) -> Row:
    device = child.spec.device
    wanted = {
        "alarm": next(
            put.id
            for put in child.puts
            if put.camera == "gate"
            and put.number == max(one.number for one in child.puts if one.camera == "gate")
        ),
        "quiet camera": next(put.id for put in child.puts if put.camera == "yard"),
    }
    waits_s, places = {}, {}
    for name, one in wanted.items():
        left_s = max(0.5, asked_s + patience_s - time.monotonic())
        waits_s[name] = watcher.first_of(lambda one=one: {one}, asked_s, left_s)  # type: ignore[misc]
    before = [one for one in watcher.of(device) if one.time_s < asked_s]
    waiting = max(1, child.put_count - len({one.id for one in before}) - 2)
    for name, one in wanted.items():
        arrived = [each.id for each in watcher.of(device) if each.time_s >= asked_s]
        places[name] = arrived.index(one) if one in arrived else child.put_count
    figures = {f"{name} s": wait_s for name, wait_s in waits_s.items()}
    figures |= {f"overtaken by {name}": max(0.0, waiting - place) for name, place in places.items()}
    link.rate_bytes_s, link.delay_s = None, 0.0
    watcher.wait_for_all(device, lambda: child.puts, 30)
    note = f"{waiting} events waited when both were put"
    if child.spec.publisher != "edgeai":
        return baseline(fault, child.spec.publisher, tally_of(child, watcher), figures=figures, note=note)
    alarms_first = sum(one.id == wanted["alarm"] for one in watcher.of(device))
    return judged(
        fault,
        _without_the_alarm(child, watcher, wanted["alarm"]),
        demands=[
            (
                places["alarm"] < waiting / 2,
                f"the alarm arrived {places['alarm']}th of {waiting} that waited",
            ),
            (
                places["quiet camera"] < waiting / 2,
                f"the quiet camera's event arrived {places['quiet camera']}th of {waiting} that waited",
            ),
            (alarms_first >= 1, "the alarm never arrived"),
        ],
        figures=figures,
        note=note,
    )


def _without_the_alarm(child: Child, watcher: Watcher, alarm: str) -> Tally:
    """It overtakes its own camera."""

    return tally(
        [put for put in child.puts if put.id != alarm],
        [one for one in watcher.of(child.spec.device) if one.id != alarm],
    )
