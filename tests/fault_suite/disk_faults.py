"""Disks that take no more, and come back, while a camera's loop goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fault_suite.link import Link
from fault_suite.row import Row, judged, missing
from fault_suite.small_disk import FailingCard, SmallDisk
from fault_suite.stand import Child, Stand, Watcher, tally_of

FPS = 50.0
_DEVICE = "cam-001"


@dataclass(frozen=True)
class Scene:
    """Everything around one outbox on a disk that fails."""

    stand: Stand
    watcher: Watcher
    link: Link

    @classmethod
    def build(cls, stand: Stand) -> Scene:
        broker = stand.broker()
        return cls(stand, stand.watcher(broker.port), stand.use(Link(broker.port, rng=stand.rng)))

    def device(self, outbox: Path) -> Child:
        return self.stand.child(self.link.port, _DEVICE, outbox=str(outbox), retry_disk_s=0.5)

    def run(
        self,
        fault: str,
        child: Child,
        *,
        break_: Callable[[], None],
        mend: Callable[[], None],
        note: str = "",
    ) -> Row:
        """A camera's loop through three times: before, while the disk fails and the link is away, and after."""
        span_s = 1.2 if self.stand.plan.short else max(4.0, self.stand.plan.events / FPS / 3)
        child.frames(int(3 * span_s * FPS), fps=FPS)
        time.sleep(span_s)
        self.link.set("cut")  # so that what is put waits on the disk, or where it goes without one
        break_s = time.monotonic()
        break_()
        self.stand.tell(f"{fault}: broken for {span_s:g} s")
        time.sleep(span_s)
        degraded = child.counters()
        mend_s = time.monotonic()
        mend()
        told = child.wait_said("framed", timeout_s=6 * span_s + 60)
        deadline_s = time.monotonic() + 15
        while not (after := child.counters())["on_disk"] and time.monotonic() < deadline_s:
            time.sleep(0.1)
            child.ask("flush 0", "flushed")
        self.link.set("pass")
        self.watcher.wait_for_all(_DEVICE, lambda: child.puts, 30)
        flushed = child.ask("flush 20", "flushed") == "1"
        own = self.watcher.own_types(_DEVICE)
        put_ms = _by_phase(json.loads(told), (break_s, mend_s))
        count = tally_of(child, self.watcher)
        return judged(
            fault,
            count,
            complete=False,
            demands=[
                (
                    count.lost == 0 or "outbox_set_aside" in own,
                    f"{count.lost} of {count.put} lost without a word",
                ),
                (flushed, "the outbox is not empty at the end"),
                (not degraded["on_disk"], "the fault was not noticed: on_disk stayed true"),
                (after["on_disk"], "not back on the disk after it was mended"),
                ("outbox_degraded" in own, "no outbox_degraded event arrived"),
                ("outbox_recovered" in own, "no outbox_recovered event arrived"),
                (min(map(len, put_ms)) > 0.5 * span_s * FPS, "the frame loop stood still"),
            ],
            note=note,
            figures={
                f"put p99 {when} ms": float(np.percentile(phase, 99)) if phase else float("inf")
                for when, phase in zip(("before", "broken", "after"), put_ms, strict=True)
            },
        )


def _by_phase(told: Sequence[Sequence[float]], bounds_s: tuple[float, float]) -> list[list[float]]:
    """Milliseconds of the puts, of the frames before, between and after two moments."""
    phases: list[list[float]] = [[], [], []]
    for start_s, _, send_ms in told:
        phases[sum(start_s >= bound_s for bound_s in bounds_s)].append(send_ms)
    return phases


def full(stand: Stand) -> Iterator[Row]:
    """Not a byte is left on the disk; a limit on the size of files where no disk can be mounted."""
    fault = "disk full"
    scene = Scene.build(stand)
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(SmallDisk(stand.path("disk")))
        except OSError as error:
            child = scene.device(stand.path("outbox.db"))
            yield scene.run(
                fault,
                child,
                break_=lambda: child.tell("limit 4096"),
                mend=lambda: child.tell("limit 0"),
                note=f"by RLIMIT_FSIZE: {error}",
            )
        else:
            child = scene.device(disk.folder / "outbox.db")
            yield scene.run(fault, child, break_=disk.fill, mend=disk.free, note="a tmpfs of 16 MiB")
            child.close()


def read_only(stand: Stand) -> Iterator[Row]:
    """The device starts on a disk that came up read-only with a backlog on it, and is mended while it runs."""
    fault = "read-only disk at start"
    scene = Scene.build(stand)
    with ExitStack() as stack:
        try:
            disk = stack.enter_context(SmallDisk(stand.path("disk")))
        except OSError as error:
            yield missing(fault, str(error))
            return
        outbox = disk.folder / "outbox.db"
        scene.link.set("cut")
        first = scene.device(outbox)
        first.feed(60, first=0, cameras=("door",))
        first.wait_said("fed")
        first.close()
        disk.read_only(on=True)
        child = scene.device(outbox)
        child.wait_said("open")
        row = scene.run(
            fault,
            child,
            break_=lambda: None,
            mend=lambda: disk.read_only(on=False),
            note="a tmpfs, remounted",
        )
        before = {put.id for put in first.puts}
        scene.watcher.wait_for_all(_DEVICE, lambda: first.puts, 5)
        lost = len(before - {one.id for one in scene.watcher.of(_DEVICE)})
        yield judged(
            fault,
            row.tally,
            demands=[
                *((False, words) for words in row.broken),
                (lost == 0, f"{lost} of {len(before)} that were on the disk before are lost"),
            ],
            note=row.note,
            figures=row.figures,
        )
        child.close()


def failing_card(stand: Stand) -> Iterator[Row]:
    """Writes end in I/O errors, and then do so no more."""
    fault = "I/O errors"
    scene = Scene.build(stand)
    with ExitStack() as stack:
        try:
            card = stack.enter_context(FailingCard(stand.path("card")))
        except OSError as error:
            yield missing(fault, str(error))
            return
        child = scene.device(card.folder / "outbox.db")
        yield scene.run(fault, child, break_=card.fail, mend=card.mend, note="ext4 on a loop device")
        child.close()
