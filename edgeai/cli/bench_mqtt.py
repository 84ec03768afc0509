"""`edgeai bench mqtt`: how fast events become durable, and how fast a broker takes them."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from edgeai.bench.machine import bench_notes, read_state
from edgeai.cli.figures import Outputs, print_figures
from edgeai.errors import EdgeError, SinkError
from edgeai.sinks import MqttSettings
from edgeai.sinks.measure import measure_drain, measure_puts

READY_S = 10.0


def bench_mqtt(*, host: str | None, port: int, folder: Path | None, messages: int, outputs: Outputs) -> int:
    """Measure in a folder (where it lies decides the puts: SD card, SSD, memory) and against a broker.

    host: a broker that is there; None starts mosquitto on a free port of this machine. The figures are those of
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
            host, port = "127.0.0.1", stack.enter_context(_mosquitto(place))
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


@contextlib.contextmanager
def _mosquitto(folder: Path) -> Iterator[int]:
    """A broker for as long as the measurement takes; yields its port."""
    # Debian keeps it where a user's PATH does not look
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise EdgeError(
            "there is no broker to measure against",
            next_step="give --host, or `sudo apt-get install -y mosquitto`",
        )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n")
    process = subprocess.Popen(
        [program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(READY_S)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SinkError(f"mosquitto did not listen on port {port} within {READY_S:g} s")
