"""`edgeai run`: a configuration at work."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from edgeai.config import Config, load_config
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import EdgeError
from edgeai.runtime import Runtime, StreamReport
from edgeai.sinks import open_reporting
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import StoreAndForward

FLUSH_S = 10.0


def run_device(path: Path, *, json_output: bool) -> int:
    """Run until the sources end or a signal comes; 1 where a stream failed. A broker that is down is a warning."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    config = load_config(path)
    with _open_sink(config) as sink:
        runtime = Runtime(config, sink)
        with _stop_on_signals(runtime):
            reports = runtime.run()
        waiting = 0
        if isinstance(sink, StoreAndForward) and not sink.flush(FLUSH_S):
            waiting = sink.counters.pending
            print_note(
                f"edgeai: warning: {waiting} messages wait in the outbox ({sink.counters.problem or 'still sending'}); "
                "they are sent by the next run"
            )
    _tell(reports, waiting, json_output=json_output)
    return 1 if any(report.failed for report in reports) else 0


def _open_sink(config: Config) -> Sink:
    if config.mqtt is None:
        from edgeai.sinks.jsonl import StdoutSink
        from edgeai.sinks.payload import Envelope, new_boot_id

        return StdoutSink(Envelope(config.device or socket.gethostname(), new_boot_id()))
    try:
        config.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"state_dir {config.state_dir} cannot be made: {error.strerror}") from None
    outbox = Outbox(
        config.state_dir / "outbox.db", max_bytes=config.outbox.max_bytes, max_age_s=config.outbox.max_age_s
    )
    return open_reporting(config.mqtt, outbox, device=config.device or "")


@contextmanager
def _stop_on_signals(runtime: Runtime) -> Iterator[None]:
    """SIGTERM and the first Ctrl-C end the run in order; a second Ctrl-C ends it at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        runtime.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(reports: list[StreamReport], waiting: int, *, json_output: bool) -> None:
    if json_output:
        streams = [
            {
                "name": r.name,
                "frames": r.frames,
                "dropped": r.dropped,
                "events": r.events,
                "refused": r.refused,
                "failed": r.failed,
                "totals": r.totals,
            }
            for r in reports
        ]
        print_json({"streams": streams, "waiting": waiting})
        return
    rows = [[r.name, r.frames, r.dropped, r.events, r.failed or "ended"] for r in reports]
    print_table(["stream", "frames", "dropped", "events", "state"], rows)
