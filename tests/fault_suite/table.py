"""All faults. One more is a function that takes a Stand and yields Rows, and one line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from fault_suite import (
    broker_faults,
    clock_faults,
    device_faults,
    disk_faults,
    file_faults,
    frame_loop,
    hostile,
    link_faults,
    thin_link,
)
from fault_suite.row import Row
from fault_suite.stand import Stand


@dataclass(frozen=True, slots=True)
class Fault:
    """name: what --only looks for, in part. alone: it measures times that others at its side would spoil."""

    name: str
    run: Callable[[Stand], Iterable[Row]]
    alone: bool = False


FAULTS: Final = (
    Fault("link cut 5 s", lambda stand: link_faults.cut(stand, 5)),
    Fault("link cut 15 s", lambda stand: link_faults.cut(stand, 15)),
    Fault("link cut 40 s", lambda stand: link_faults.cut(stand, 40)),
    Fault("accepted, then closed", link_faults.accept_then_close),
    Fault("black hole", link_faults.black_hole),
    Fault("no answers come back", link_faults.deaf),
    Fault("half-open connection", link_faults.half_open),
    Fault("flapping link", link_faults.flapping),
    Fault("link back, backlog flows", link_faults.recovery),
    Fault("broker kill -9, restart", broker_faults.kill_and_restart),
    Fault("broker back, backlog flows", broker_faults.recovery),
    Fault("device kill -9", device_faults.kill),
    Fault("disk full", disk_faults.full),
    Fault("read-only disk at start", disk_faults.read_only),
    Fault("I/O errors", disk_faults.failing_card),
    Fault("corrupt file, stopped", file_faults.corrupt_stopped),
    Fault("corrupt file header", file_faults.corrupt_header),
    Fault("corrupt WAL, stopped", file_faults.corrupt_wal_stopped),
    Fault("corrupt file, running", file_faults.corrupt_running),
    Fault("corrupt WAL, running", file_faults.corrupt_wal_running),
    Fault("power cut, torn WAL", file_faults.torn_wal),
    Fault("clock jumps +1 day", lambda stand: clock_faults.jump(stand, 1)),
    Fault("clock jumps -1 day", lambda stand: clock_faults.jump(stand, -1)),
    Fault("impersonation matrix", hostile.impersonation),
    Fault("malformed commands", hostile.malformed_commands),
    Fault("alarm on a thin link", thin_link.alarm_in_a_backlog),
    Fault("frame loop, link down", frame_loop.loop, alone=True),
)

SHORT_SKIPS: Final = frozenset({"link cut 15 s", "link cut 40 s"})
"""In the short form outages are all of one length."""
