"""How fast the outbox stores and delivers: the figures of `edgeai bench mqtt`."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

from edgeai.errors import SinkError
from edgeai.metrics import Measurement
from edgeai.sinks import MqttSettings, open_reporting
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
from edgeai.types import Event

BODY_BYTES: Final = 400  # an event of a tracked object, in its envelope
BURST: Final = 100
THREADS: Final = 8


def measure_puts(folder: Path, *, n: int = 5000, n_single: int = 500) -> list[Measurement]:
    """Durable puts per second into an outbox in `folder`, messages of 400 bytes.

    durable_puts_per_s: bursts of 100, one commit each; shared_puts_per_s: singly by eight threads at once, which share
    commits; single_puts_per_s: singly by one thread; bare_inserts_per_s: what SQLite itself reaches there, one insert
    and one FULL-sync commit at a time, measured by turns with the former.
    """
    draft = Draft("edge/v1/bench/bench/bench/event/gate", b"x" * BODY_BYTES)
    single_s = bare_s = 0.0
    with Outbox(folder / "outbox.db") as outbox, contextlib.closing(_bare(folder / "bare.db")) as bare:
        began_s = time.perf_counter()
        for _ in range(n // BURST):
            outbox.put_many([draft] * BURST)
        durable_s = time.perf_counter() - began_s
        for _ in range(n_single):
            began_s = time.perf_counter()
            outbox.put(draft)
            single_s += time.perf_counter() - began_s
            began_s = time.perf_counter()
            bare.execute("INSERT INTO message (body) VALUES (?)", (draft.body,))
            bare_s += time.perf_counter() - began_s
        shared_s = _shared_s(outbox, draft, n_single)
    return [
        _per_s("durable_puts_per_s", n // BURST * BURST, durable_s),
        _per_s("shared_puts_per_s", n_single // THREADS * THREADS, shared_s),
        _per_s("single_puts_per_s", n_single, single_s),
        _per_s("bare_inserts_per_s", n_single, bare_s),
    ]


def measure_drain(
    settings: MqttSettings, folder: Path, *, n: int = 5000, timeout_s: float = 60.0
) -> list[Measurement]:
    """Messages per second from a full outbox in `folder` to the broker, each acknowledged.

    Raises SinkError where the broker is not there or has not acknowledged all after `timeout_s`.
    """
    with open_reporting(settings, folder / "drain.db", device="bench") as sink:
        sink.send(Event("bench", "bench", 0.0))
        if not sink.flush(timeout_s):
            raise SinkError(
                f"the broker did not take one message: {sink.counters.problem or 'no acknowledgement'}"
            )
        sink.send_many([Event("bench", "bench", float(number), {"n": number}) for number in range(n)])
        began_s = time.perf_counter()
        waiting = sink.counters.pending
        if not sink.flush(timeout_s):
            raise SinkError(
                f"{sink.counters.pending} of {n} messages were not acknowledged within {timeout_s:g} s"
            )
        return [_per_s("drain_per_s", waiting, time.perf_counter() - began_s)]


def _shared_s(outbox: Outbox, draft: Draft, n: int) -> float:
    threads = [
        threading.Thread(target=lambda: [outbox.put(draft) for _ in range(n // THREADS)])
        for _ in range(THREADS)
    ]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began_s


def _bare(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE IF NOT EXISTS message (seq INTEGER PRIMARY KEY, body BLOB)")
    return db


def _per_s(name: str, n: int, seconds: float) -> Measurement:
    return Measurement(name, "1/s", n, value=n / seconds)
