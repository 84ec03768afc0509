"""`edgeai run`: a configuration at work."""

from __future__ import annotations

import logging
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from edgeai.cli.host import this_host
from edgeai.cli.notify import starting
from edgeai.config import Config, load_config
from edgeai.console import print_json, print_note, print_table
from edgeai.errors import EdgeError
from edgeai.runtime import Runtime
from edgeai.sinks import open_reporting
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.stream import StreamReport

FLUSH_S = 10.0
# a broker that is not there yet gets so long before the run ends without it
GRACE_S = 1.0


def run_device(path: Path, *, json_output: bool, verify: bool = False) -> int:
    """Run until the sources end or a signal comes; 1 where a stream failed. A broker that is down is a warning.

    verify: compare every engine with its bundle's golden outputs before anything runs.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    config = load_config(path)
    sink = _make_sink(config)
    host = this_host(config.engines, verify=verify)
    runtime = Runtime(config, sink, host=host)
    with _stop_on_signals(runtime), _opened(runtime), sink:
        reports = runtime.run()
        waiting = _deliver_rest(sink) if isinstance(sink, StoreAndForward) else 0
    if runtime.reader_gone:
        return 0
    _tell(reports, waiting, json_output=json_output, table_to_stderr=config.mqtt is None)
    return 1 if any(report.failed for report in reports) else 0


@contextmanager
def _opened(runtime: Runtime) -> Iterator[None]:
    """The models loaded, their plans built at a first start; only then is a service manager told that this is ready."""
    with ExitStack() as stack:
        with starting("loading models"):
            stack.enter_context(runtime)
        yield


def _make_sink(config: Config) -> Sink:
    """The sink, not yet open."""
    if config.mqtt is None:
        from edgeai.sinks.jsonl import StdoutSink
        from edgeai.sinks.payload import Envelope, new_boot_id

        return StdoutSink(Envelope(config.device or socket.gethostname(), new_boot_id()))
    try:
        config.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EdgeError(
            f"state_dir {config.state_dir} cannot be made: {error.strerror or error}",
            next_step="name a folder that can be written",
        ) from None
    outbox = Outbox(
        config.state_dir / "outbox.db", max_bytes=config.outbox.max_bytes, max_age_s=config.outbox.max_age_s
    )
    return open_reporting(config.mqtt, outbox, device=config.device or "")


def _deliver_rest(sink: StoreAndForward) -> int:
    """Wait for what is still on its way, FLUSH_S at most and only while there is a connection; what waits after it."""
    began_s = time.monotonic()
    while not sink.flush(0.2):
        gone_s = time.monotonic() - began_s
        if gone_s >= FLUSH_S or (gone_s >= GRACE_S and not sink.counters.connected):
            counters = sink.counters
            print_note(
                f"edgeai: warning: {counters.pending} messages wait in the outbox for the next run "
                f"({counters.problem or 'still sending'})"
            )
            return counters.pending
    return 0


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


def _tell(reports: list[StreamReport], waiting: int, *, json_output: bool, table_to_stderr: bool) -> None:
    if json_output:
        print_json({"streams": [asdict(report) for report in reports], "waiting": waiting})
        return
    rows = [
        [
            each.name,
            each.frames,
            each.dropped,
            each.events,
            each.refused,
            "failed" if each.failed else "ended",
        ]
        for each in reports
    ]
    print_table(
        ["stream", "frames", "dropped", "events", "refused", "state"], rows, to_stderr=table_to_stderr
    )
