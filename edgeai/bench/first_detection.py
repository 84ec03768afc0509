"""How long `edgeai run` takes from its start to the first frame's detections, as whoever starts it sees."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Final

from edgeai.bench.alone import last_line, python_command
from edgeai.bench.overhead import Model
from edgeai.errors import EdgeError

START_S: Final = 120.0
_END_S: Final = 10.0
# so low that every model finds something on its first frame, and every finding is a track at once
_ANYTHING: Final = 0.001


def measure_first_detection(
    model: Model,
    video: str,
    *,
    runs: int = 3,
    warm_up: bool = True,
    advance: Callable[[], object] = lambda: None,
) -> tuple[list[float], bool]:
    """(seconds of each run, whether TensorFlow was loaded in any of them). warm_up: one run before them is not counted: it warms
    the disk.

    Thresholds are lowered, so that what the first frame gives, whatever it is, becomes an event on standard output.
    Raises EdgeError where none comes.
    """
    seconds, loaded = [], False
    with tempfile.TemporaryDirectory(prefix="edgeai-bench-") as folder:
        path = Path(folder) / "bench.toml"
        path.write_text(_config(model, video))
        for number in range(runs + warm_up):
            took_s, with_tensorflow = _run(path)
            loaded |= with_tensorflow
            if number >= warm_up:
                seconds.append(took_s)
            advance()
    return seconds, loaded


def _config(model: Model, video: str) -> str:
    """JSON's strings are TOML's too."""
    camera = {
        "name": "bench",
        "source": str(Path(video).resolve()) if "://" not in video else video,
        "model": model.path,
        **({"engine": model.engine} if model.engine else {}),
    }
    lines = [f"threads = {model.threads}", "[[cameras]]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in camera.items()]
    lines += [
        "realtime = false",
        f"score_threshold = {_ANYTHING}",
        "[cameras.tracker]",
        "high_score = 0.0",
        "low_score = 0.0",
        "new_score = 0.0",
        "confirm_hits = 1",
        "[[cameras.rules]]",
        'kind = "track"',
    ]
    return "\n".join(lines) + "\n"


def _run(config: Path) -> tuple[float, bool]:
    command = python_command("edgeai.__main__", "run", str(config))
    with tempfile.TemporaryFile("w+") as said:
        began_s = time.monotonic()
        process = subprocess.Popen(
            command, cwd=config.parent, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
        )
        try:
            came_s = _first_line_s(process)
            if came_s is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_S)
                said.seek(0)
                raise EdgeError(f"`edgeai run` told of no detection: {last_line(said.read().splitlines())}")
            return came_s - began_s, _has_tensorflow(process.pid)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _first_line_s(process: subprocess.Popen[bytes]) -> float | None:
    """When the first line came, on time.monotonic; None where none does."""
    came: SimpleQueue[float | None] = SimpleQueue()

    def read() -> None:
        line = process.stdout.readline() if process.stdout is not None else b""
        came.put(time.monotonic() if line else None)

    Thread(target=read, name="first line", daemon=True).start()
    try:
        return came.get(timeout=START_S)
    except Empty:
        return None


def _has_tensorflow(pid: int) -> bool:
    """Whether a library of TensorFlow's package is in the process's memory; False where the system does not tell."""
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return False
    return "/tensorflow/" in maps
