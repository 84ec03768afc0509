"""A wall clock that jumps, under a device that runs and between two of its lives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from fault_suite.link import Link
from fault_suite.row import Row, judged
from fault_suite.stand import Stand
from fault_suite.tally import Arrival, Put, tally

DAY_S = 86400.0


def jump(stand: Stand, days: int) -> Iterator[Row]:
    """The link is away; events before and after a jump, then a restart that finds the clock jumped back, then the link.

    While it runs the age limit is an hour, so that a jump which counted as age would drop everything.
    """
    fault = f"clock jumps {days:+d} day"
    plan = stand.plan
    n = max(30, plan.events // 4)
    broker = stand.broker()
    watcher = stand.watcher(broker.port)
    link = stand.use(Link(broker.port, mode="cut", rng=stand.rng))
    outbox = str(stand.path("outbox.db"))
    first = stand.child(link.port, "cam-001", outbox=outbox, jumps=True, max_age_s=3600.0)
    for part, ahead_s in enumerate((0.0, days * DAY_S)):
        if ahead_s:
            first.tell(f"jump {ahead_s}")
        first.feed(n, first=n * part)
        first.wait_said("fed", times=part + 1)
    dropped = sum(first.counters()["dropped"].values())
    first.close()
    # an earlier life's events have an age on the wall clock only: the limit is the default, a week
    second = stand.child(link.port, "cam-001", outbox=outbox, jumps=True, wall_s=-days * DAY_S)
    second.feed(n, first=2 * n)
    second.wait_said("fed")
    link.set("pass")
    second.feed(n, first=3 * n)
    second.wait_said("fed", times=2)
    puts = first.puts + second.puts
    flushed = second.ask("flush 20", "flushed") == "1"
    watcher.wait_for_all("cam-001", lambda: puts, 10)
    dropped += sum(second.counters()["dropped"].values())
    arrivals = watcher.of("cam-001")
    yield judged(
        fault,
        tally(puts, arrivals),
        demands=[
            (flushed, "the outbox is not empty at the end"),
            (dropped == 0, f"{dropped} dropped: the jump counted as age"),
            *order_demands(puts, arrivals),
        ],
        note="while running, and back over a restart",
    )
    second.close()


def order_demands(puts: Sequence[Put], arrivals: Sequence[Arrival]) -> list[tuple[bool, str]]:
    """(boot_id, seq) puts the events into the order in which each camera put them; every id is its own."""
    events = {one.id: one for one in arrivals if not one.damaged}.values()
    by_seq = sorted(events, key=lambda one: one.seq)
    boots = [boot for boot, _ in itertools.groupby(one.boot_id for one in by_seq)]
    per_camera: dict[str, list[int]] = {}
    for one in by_seq:
        per_camera.setdefault(one.camera, []).append(one.number)
    return [
        (len({put.id for put in puts}) == len(puts), "ids repeat"),
        (len({one.seq for one in events}) == len(events), "sequence numbers repeat"),
        (len(boots) == len(set(boots)), "the numbers of two boots are mixed"),
        (
            all(numbers == sorted(numbers) for numbers in per_camera.values()),
            "seq is not the order of putting",
        ),
    ]
