"""The run's log on standard error: lines for people, for the journal or as JSON. Nobody who writes to it is ever held up."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import IO, Final, TypeAlias

from edgeai.config import LogSettings
from edgeai.sinks.payload import iso_utc

STUCK_S: Final = 0.5
"""How long a line waits for a reader who does not read; the lines after it wait no longer, until he reads again."""
MAX_MESSAGE_CHARS: Final = 4096
MAX_TRACE_CHARS: Final = 8192

# sd-daemon(3): of syslog, as the journal takes them at a line's beginning
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_WRITE_BYTES: Final = 4096  # PIPE_BUF: what a pipe that poll(2) calls writable takes without waiting
# what would begin a new line, move the cursor or turn the writing around: C0 but tab, DEL, C1, line and paragraph
# separators, and the bidirectional controls (Unicode Standard Annex 9)
_HIDDEN: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (
        *(each for each in range(0x20) if each != 0x09),
        *range(0x7F, 0xA0),
        *(0x061C, 0x200E, 0x200F, 0x2028, 0x2029),
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
} | {0x0A: "\\n", 0x0D: "\\r"}
_LABEL: Final = re.compile(
    r"(?:camera|microphone) ([A-Za-z0-9][A-Za-z0-9._-]{0,63})(?:: .*| capture)?", re.DOTALL
)


def open_logs(settings: LogSettings, *, journal_stream: str = "", stream: IO[str] | None = None) -> OpenLogs:
    """Log to standard error from now on, in place of what an earlier call opened; also warnings of libraries, and faults that
    end a thread.

    journal_stream: what the service manager says in JOURNAL_STREAM; where standard error is the journal, lines have their
    priority in place of time and level, which it knows. stream: in place of standard error.
    """
    journal = _is_journal(stream or sys.stderr, journal_stream)
    formatter = JsonFormatter() if settings.format == "json" else TextFormatter(timed=not journal)
    return OpenLogs(
        _LogHandler(stream, formatter, prefixed=journal), getattr(logging, settings.level.upper())
    )


_Before: TypeAlias = "tuple[int, int, Callable[[threading.ExceptHookArgs], object]]"


class OpenLogs:
    """A log that is being written. `close`, or the end of `with`, leaves logging as it was; a process that ends needs neither."""

    def __init__(self, handler: _LogHandler, level: int) -> None:
        root, ours = logging.getLogger(), logging.getLogger("edgeai")
        self._handler = handler
        self._before: _Before = (root.level, ours.level, threading.excepthook)
        for each in [*root.handlers]:
            if isinstance(each, _LogHandler):
                root.removeHandler(each)
                self._before = each.before or self._before  # as it was before the one whose place this takes
        handler.before = self._before
        root.addHandler(handler)
        root.setLevel(max(level, logging.INFO))  # what libraries tell their own developers is of no use here
        ours.setLevel(level)
        logging.captureWarnings(True)
        threading.excepthook = _log_thread_fault

    def close(self) -> None:
        """Safe to call twice."""
        root = logging.getLogger()
        if self._handler not in root.handlers:
            return  # another one has taken its place
        root.removeHandler(self._handler)
        root.setLevel(self._before[0])
        logging.getLogger("edgeai").setLevel(self._before[1])
        threading.excepthook = self._before[2]
        logging.captureWarnings(False)

    def __enter__(self) -> OpenLogs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self.close()


class TextFormatter(logging.Formatter):
    """Lines for people: time and level, unless the journal has them, and the message on one line whatever is in it. A traceback
    follows, indented, so that no line of it passes for one of the log's.
    """

    def __init__(self, *, timed: bool = True) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        line = _visible(_cut(_message_of(record), MAX_MESSAGE_CHARS))
        if self._timed:
            line = f"{self.formatTime(record)} {record.levelname} {line}"
        trace = _trace_of(self, record)
        return "\n".join([line, *("  " + _visible(each) for each in trace.split("\n") if trace)])


class JsonFormatter(logging.Formatter):
    """One JSON object on one line of ASCII.

    time: UTC, ISO 8601 with milliseconds. level: "debug" to "critical". logger, message, thread: strings. stream: the camera or
    microphone that it is about, where it is about one. exception: a traceback, where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": iso_utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(_message_of(record), MAX_MESSAGE_CHARS),
            "thread": record.threadName or "",
        }
        if stream := _stream_of(record):
            told["stream"] = stream
        if trace := _trace_of(self, record):
            told["exception"] = trace
        return json.dumps({key: _well_formed(value) for key, value in told.items()})


class _LogHandler(logging.Handler):
    """Writes whole lines, and never waits for long: a reader who does not read, or is gone, costs lines and nothing else."""

    def __init__(self, stream: IO[str] | None, formatter: logging.Formatter, *, prefixed: bool) -> None:
        """stream: None for what standard error is when a line is written."""
        super().__init__()
        self.setFormatter(formatter)
        self.before: _Before | None = None
        self._stream = stream
        self._prefixed = prefixed
        self._stuck = False
        self._torn = False
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            lines = self._lines(record)
        except Exception as fault:  # a record that cannot be told must not end what it tells of
            what = type(fault).__name__
            lines = self._lines(_own_record("a record of logger %s cannot be told: %s", record.name, what))
        if self._lost:
            note = _own_record("%d records of the log were lost: nobody read it", self._lost)
            lines = self._lines(note) + lines
        if self._write(b"\n" + lines if self._torn else lines):
            self._lost = 0
        else:
            self._lost += 1

    def _lines(self, record: logging.LogRecord) -> bytes:
        prefix = ""
        if self._prefixed:
            prefix = f"<{next((number for level, number in _PRIORITIES if record.levelno >= level), 7)}>"
        lines = "".join(f"{prefix}{each}\n" for each in self.format(record).split("\n"))
        return lines.encode("utf-8", "backslashreplace")

    def _write(self, lines: bytes) -> bool:
        """Whether all of it was taken."""
        stream = self._stream or sys.stderr
        try:
            fd = _fd_of(stream)
            if fd is not None:
                return self._write_to(fd, lines)
            if stream is not None:
                stream.write(lines.decode())
                stream.flush()
        except (OSError, ValueError):  # closed, or its reader is gone
            return False
        return True

    def _write_to(self, fd: int, lines: bytes) -> bool:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        due_s = time.monotonic() + (0.0 if self._stuck else STUCK_S)
        left = memoryview(lines)
        while left:
            if not poll.poll(max(0.0, due_s - time.monotonic()) * 1e3):
                self._stuck = True
                return False
            left = left[os.write(fd, left[:_WRITE_BYTES]) :]
            self._torn = bool(
                left
            )  # a line that was begun and not ended: the next one must not go on with it
        self._stuck = False
        return True


def _own_record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("edgeai", logging.WARNING, __file__, 0, message, arguments, None)


def _is_journal(stream: IO[str] | None, journal_stream: str) -> bool:
    """systemd.exec(5), JOURNAL_STREAM: device and inode of what standard error was; it may have been put elsewhere since."""
    device, _, inode = journal_stream.partition(":")
    fd = _fd_of(stream)
    if fd is None or not (device.isdecimal() and inode.isdecimal()):
        return False
    with contextlib.suppress(OSError):
        there = os.fstat(fd)
        return (there.st_dev, there.st_ino) == (int(device), int(inode))
    return False


def _fd_of(stream: IO[str] | None) -> int | None:
    """None for what is no file of the system's: a test's, or nothing at all."""
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit their message
        return f"{record.msg!s} {record.args!r}"


def _trace_of(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    """Its end, where it is long: there it tells what happened."""
    if not record.exc_info or record.exc_info[1] is None:
        return ""
    trace = formatter.formatException(record.exc_info)
    return (
        trace
        if len(trace) <= MAX_TRACE_CHARS
        else f"[{len(trace) - MAX_TRACE_CHARS} more] {trace[-MAX_TRACE_CHARS:]}"
    )


def _stream_of(record: logging.LogRecord) -> str:
    """The name in extra={"stream": ...}; or that of the label or the EdgeError that the message begins with."""
    given = record.__dict__.get("stream")
    if isinstance(given, str):
        return given
    if isinstance(record.args, tuple) and record.args and str(record.msg).startswith("%s"):
        found = _LABEL.fullmatch(str(record.args[0]))
        return found[1] if found else ""
    return ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} [{len(text) - most} more]"


def _visible(text: str) -> str:
    return text.translate(_HIDDEN)


def _well_formed(text: str) -> str:
    """Without halves of surrogate pairs, which a file name that is no UTF-8 holds and JSON cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def _log_thread_fault(fault: threading.ExceptHookArgs) -> None:
    if fault.exc_type is SystemExit or fault.exc_value is None:
        return
    name = fault.thread.name if fault.thread is not None else "?"
    trace: types.TracebackType | None = fault.exc_traceback
    logging.getLogger("edgeai").critical(
        "thread %s ended by a fault of the program", name, exc_info=(fault.exc_type, fault.exc_value, trace)
    )
