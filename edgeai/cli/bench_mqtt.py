"""`edgeai bench mqtt`: how fast events become durable, and how fast a broker takes them."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from pathlib import Path

from edgeai.bench.broker import READY_S, open_broker
from edgeai.bench.machine import bench_notes, read_state
from edgeai.cli.figures import Outputs, print_figures
from edgeai.errors import EdgeError, SinkError
from edgeai.sinks import MqttSettings
from edgeai.sinks.measure import measure_drain, measure_puts


def bench_mqtt(*, host: str | None, port: int, folder: Path | None, messages: int, outputs: Outputs) -> int:
    """Measure in a folder (where it lies decides the puts: SD card, SSD, memory) and against a broker.

    host: a broker that is there; None starts one on a free port of this machine. The figures are those of
    edgeai.sinks.measure. Raises EdgeError where there is neither, SinkError where the broker does not take all.
    """
    outputs.check()
    start = read_state()
    try:
        work = tempfile.TemporaryDirectory(prefix="edgeai-bench-", dir=folder)
    except OSError as error:
        raise EdgeError(f"nothing can be written in {folder}: {error.strerror or error}") from None
    with work as name, contextlib.ExitStack() as stack:
        place = Path(name)
        if host is None:
            broker = stack.enter_context(open_broker(place))
            host, port = broker.host, broker.port
        _check(host, port)
        results = measure_puts(place, n=messages, n_single=max(8, messages // 10))
        results += measure_drain(MqttSettings(host=host, port=port), place, n=messages)
    print_figures("mqtt", results, title=f"{host}:{port}", outputs=outputs, notes=bench_notes(start, {}))
    return 0


def _check(host: str, port: int) -> None:
    """A broker that is not there is told at once, not when its time to take everything is over."""
    try:
        socket.create_connection((host, port), READY_S).close()
    except OSError as error:
        raise SinkError(
            f"no broker answers at {host}:{port}: {error.strerror or error}",
            next_step="check --host and --port",
        ) from None
