"""No frame waits for the network: a loop at 50 frames a second with 5 ms of computing, under three states of the link."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Final

import numpy as np

from fault_suite.link import Link, Mode
from fault_suite.row import Row, baseline, judged
from fault_suite.stand import Child, Stand, Watcher, tally_of

FPS: Final = 50.0
_STATES: Final[tuple[tuple[str, Mode], ...]] = (("up", "pass"), ("down", "cut"), ("black hole", "black hole"))
_SETTLE_S: Final = 0.3  # around each change nothing is counted: the change itself is not the state
TOLERATED: Final = 2.0


def loop(stand: Stand) -> Iterator[Row]:
    """By turns in one run, so that whatever else the machine does weighs on all three alike; an event each frame."""
    plan = stand.plan
    fault = "frame loop, link down"
    turn_s, turns = (1.0, 2) if plan.short else (4.0, 4)
    publishers = [("edgeai", "cam-001"), *([("paho QoS1", "paho-1")] if plan.with_baseline else [])]
    broker = stand.broker()
    watcher = stand.watcher(broker.port)
    for publisher, device in publishers:  # one after the other: they would disturb each other
        link = stand.use(Link(broker.port, rng=stand.rng))
        child = stand.child(link.port, device, publisher=publisher)
        child.ask("flush 10", "flushed")
        spans: list[tuple[str, float, float]] = []
        child.frames(int(FPS * (turns * len(_STATES) * turn_s + 1)), fps=FPS)
        time.sleep(0.5)
        for turn in range(turns):
            stand.tell(f"{fault}: turn {turn + 1} of {turns}")
            for state, mode in _STATES:
                link.set(mode)
                began_s = time.monotonic()
                time.sleep(turn_s)
                spans.append((state, began_s + _SETTLE_S, time.monotonic()))
            if mode == "black hole":
                link.set("cut")  # a connection in the hole would stay there; the next turn begins afresh
        link.set("pass")
        yield _row(child, watcher, fault, spans, short=plan.short)
        child.close()


def _row(
    child: Child, watcher: Watcher, fault: str, spans: list[tuple[str, float, float]], *, short: bool
) -> Row:
    told = json.loads(child.wait_said("framed", timeout_s=120))
    loops_ms: dict[str, list[float]] = {state: [] for state, _ in _STATES}
    sends_ms: dict[str, list[float]] = {state: [] for state, _ in _STATES}
    for start_s, loop_ms, send_ms in told:
        for state, from_s, to_s in spans:
            if from_s <= start_s < to_s:
                loops_ms[state].append(loop_ms)
                sends_ms[state].append(send_ms)
    figures: dict[str, float] = {}
    for state, samples_ms in loops_ms.items():
        p50, p99 = np.percentile(samples_ms, (50, 99))
        figures |= {
            f"loop p50 {state} ms": float(p50),
            f"loop p99 {state} ms": float(p99),
            f"put p99 {state} ms": float(np.percentile(sends_ms[state], 99)),
        }
    ratios = {
        (state, percentile): figures[f"loop {percentile} {state} ms"] / figures[f"loop {percentile} up ms"]
        for state in ("down", "black hole")
        for percentile in ("p50", "p99")
    }
    figures |= {f"{percentile} {state} / up": ratio for (state, percentile), ratio in ratios.items()}
    judged_by = "p50" if short else "p99"  # of a hundred frames p99 is one frame
    if child.spec.publisher != "edgeai":
        return baseline(fault, child.spec.publisher, figures=figures)
    watcher.wait_for_all(child.spec.device, lambda: child.puts, 30)
    return judged(
        fault,
        tally_of(child, watcher),
        demands=[
            (
                ratio <= TOLERATED,
                f"{percentile} of the loop is {ratio:.2f} times as long with the link {state}",
            )
            for (state, percentile), ratio in ratios.items()
            if percentile == judged_by
        ],
        figures=figures,
        note=f"{len(told)} frames",
    )
