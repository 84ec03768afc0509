"""The other end of edgeai.bench.worker: a process that measures, asked line by line."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import types
from typing import Any

from edgeai.errors import EngineError, EngineUnavailableError

OPEN_S = 1800.0
"""TensorRT builds its plan when it is opened first: minutes on a small board."""
ANSWER_S = 300.0
_END_S = 5.0
_ERROR_BYTES = 4096
_READ_BYTES = 1 << 20
_START = "import json,sys; sys.path[:] = json.loads(sys.argv[1]); from edgeai.bench.worker import main; sys.exit(main())"


class BenchProcess:
    """A process of its own for one engine, ended on exit whatever it does. name: of what it measures, for messages.

    It is in a session of its own, so that Ctrl-C reaches this side alone, which then ends it; if this side dies, its standard
    input ends and it stops by itself.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed by __exit__
        # -I and a path that is given: a file in the working folder must not take the place of a library
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,
        )
        self._buffer = b""

    def ask(self, do: str, *, timeout_s: float = ANSWER_S, **arguments: Any) -> Any:
        """What the worker answers to a request.

        Raises EngineUnavailableError where the engine's library is not here, EngineError where it cannot be run, or the process
        crashed or did not answer in time.
        """
        process = self._process
        if process.stdin is None:
            raise EngineError(f"{self._name}: its process has ended")
        try:
            process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            process.stdin.flush()
            line = self._line(timeout_s)
        except BrokenPipeError:
            line = b""
        if not line:
            raise EngineError(f"{self._name}: {self._how_it_ended()}")
        answer = json.loads(line)
        if "error" in answer:
            kind = EngineUnavailableError if answer["unavailable"] else EngineError
            raise kind(answer["error"])
        return answer["ok"]

    def __enter__(self) -> BenchProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        process = self._process
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_END_S if kind is None else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        self._said.close()

    def _line(self, timeout_s: float) -> bytes:
        """One line of answer without its end, empty where the process ended. Raises EngineError where none comes in time."""
        out = self._process.stdout
        if out is None:
            return b""
        with selectors.DefaultSelector() as ready:
            ready.register(out, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not ready.select(timeout_s):
                    self._process.kill()
                    raise EngineError(
                        f"{self._name}: did not answer within {timeout_s:g} s and was ended",
                        next_step="`edgeai bundle verify` tells whether its file is whole",
                    )
                part = os.read(out.fileno(), _READ_BYTES)
                if not part:
                    return b""
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return "its process stopped answering and was ended"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"its process crashed ({signal.Signals(-code).name})"
        self._said.seek(0, 2)
        self._said.seek(max(0, self._said.tell() - _ERROR_BYTES))
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"its process ended with code {code}" + (f": {last[:200]}" if last else "")
