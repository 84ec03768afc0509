"""The log's lines: one of them a record whatever is in it, and nobody is held up who writes them."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from edgeai.config import LogSettings
from edgeai.errors import SourceError
from edgeai.logs import MAX_MESSAGE_CHARS, MAX_TRACE_CHARS, STUCK_S, open_logs

log = logging.getLogger("edgeai")

HOSTILE = [
    "two\nlines",
    "carriage\rreturn",
    "\x1b[2J\x1b[31mred",
    "nul\x00 bell\x07 del\x7f",
    "next\x85line \u2028 \u2029",
    "turned \u202eround\u2066",
    "no utf-8 \udce9",
    '{"level": "critical"}',
    "2026-01-01 00:00:00,000 ERROR forged",
    "<2>forged",
]


@contextlib.contextmanager
def no_other_handler():
    """pytest reports what it has captured, and a test's report cannot carry every character to who runs several at once."""
    root = logging.getLogger()
    others = [*root.handlers]
    for each in others:
        root.removeHandler(each)
    try:
        yield
    finally:
        for each in others:
            root.addHandler(each)


@pytest.fixture
def logged():
    """logged(**settings)(do) -> what was written while do() ran."""

    def open_(journal_stream="", **settings):
        def run(do):
            written = io.StringIO()
            with (
                no_other_handler(),
                open_logs(LogSettings(**settings), stream=written, journal_stream=journal_stream),
            ):
                do()
            return written.getvalue()

        return run

    return open_


def fail(message="it broke"):
    try:
        raise ValueError(message)
    except ValueError:
        log.exception("camera work")


def test_text_is_a_line_with_time_and_level(logged):
    text = logged()(lambda: log.warning("%s is %s", "camera gate", "lost"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING camera gate is lost\n", text)


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_in_a_message_makes_another_line(logged, form, message):
    text = logged(format=form)(lambda: log.info("%s", message))
    assert text.endswith("\n") and len(text.splitlines()) == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", text[:-1])
    text.encode()  # has no halves of surrogates


def test_a_forged_line_in_a_traceback_is_indented(logged):
    text = logged()(lambda: fail("a\n2026-01-01 00:00:00,000 ERROR forged"))
    begun = [line for line in text.splitlines() if not line.startswith("  ")]
    assert len(begun) == 1 and "camera work" in begun[0] and "  ValueError: a" in text


def test_json_has_fixed_keys(logged):
    (line,) = logged(format="json")(lambda: log.error("%s ended: %s", "camera gate", "no")).splitlines()
    told = json.loads(line)
    assert list(told) == ["time", "level", "logger", "message", "thread", "stream"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    assert (told["level"], told["logger"]) == ("error", "edgeai")
    assert (told["message"], told["thread"], told["stream"]) == (
        "camera gate ended: no",
        "MainThread",
        "gate",
    )


def test_json_keeps_what_was_said(logged):
    (line,) = logged(format="json")(lambda: log.info("%s", "Tür\n\x1b 东")).splitlines()
    assert line.isascii() and json.loads(line)["message"] == "Tür\n\x1b 东"


@pytest.mark.parametrize(
    ("say", "stream"),
    [
        (lambda: log.info("%s runs %s", "camera gate", "m"), "gate"),
        (lambda: log.info("%s runs %s", "microphone door-1", "m"), "door-1"),
        (lambda: log.error("%s", SourceError("camera yard.2: away\nfor long")), "yard.2"),
        (lambda: log.warning("%s hangs", "camera gate capture"), "gate"),
        (lambda: log.info("said", extra={"stream": "gate"}), "gate"),
        (lambda: log.info("camera and microphone"), None),
        (lambda: log.info("%s", "camera and more words"), None),
        (lambda: log.info("%s hangs", "engine person#0"), None),
        (lambda: log.info("%d cameras", 3), None),
        (lambda: log.info("%(a)s", {"a": "camera gate"}), None),
    ],
    ids=range(10),
)
def test_json_names_the_stream_it_is_about(logged, say, stream):
    assert json.loads(logged(format="json")(say)).get("stream") == stream


def test_json_has_the_traceback_in_the_same_line(logged):
    (line,) = logged(format="json")(fail).splitlines()
    told = json.loads(line)["exception"]
    assert told.startswith("Traceback") and told.endswith("ValueError: it broke")


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_long_is_cut(logged, form):
    text = logged(format=form)(lambda: log.info("%s", "x" * 100_000))
    assert len(text) < MAX_MESSAGE_CHARS + 300 and "95904 more" in text
    text = logged(format=form)(lambda: fail("x" * 100_000 + "the end"))
    assert len(text) < MAX_TRACE_CHARS + 500 and "the end" in text


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_record_that_does_not_fit_its_arguments_is_told_all_the_same(logged, form):
    class Rude:
        def __str__(self):
            raise RuntimeError("no")

    def say(*records):
        # to our handler alone: pytest's own raises
        for message, arguments in records:
            logging.getLogger().handlers[-1].handle(
                log.makeRecord("edgeai", 20, "", 0, message, arguments, None)
            )

    text = logged(format=form)(lambda: say(("%d frames", ("many",))))
    assert "%d frames" in text and "many" in text
    text = logged(format=form)(lambda: say((Rude(), ()), ("goes on", ())))
    assert len(text.splitlines()) == 2 and "goes on" in text


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("error", ["error"]),
    ],
    ids=["debug", "info", "error"],
)
def test_the_level_is_the_least_that_is_told(logged, level, told):
    def say():
        for each in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger("edgeai.sinks.x"), each)("x")

    text = logged(format="json", level=level)(say)
    assert [json.loads(line)["level"] for line in text.splitlines()] == told


def test_libraries_do_not_tell_their_developers_everything(logged):
    assert not logged(level="debug")(lambda: logging.getLogger("paho").debug("x"))


def test_a_thread_that_ends_by_a_fault_is_a_record(logged):
    def say():
        thread = threading.Thread(target=lambda: 1 / 0, name="capture")
        thread.start()
        thread.join()

    told = json.loads(logged(format="json")(say))
    assert (told["level"], "capture" in told["message"]) == ("critical", True)
    assert "ZeroDivisionError" in told["exception"]


def test_a_library_s_warning_is_a_record(logged):
    def say():
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert json.loads(logged(format="json")(say))["logger"] == "py.warnings"


def test_opening_again_takes_the_place_of_the_first():
    first, second = io.StringIO(), io.StringIO()
    root_before = [*logging.getLogger().handlers]
    opened = open_logs(LogSettings(), stream=first)
    with open_logs(LogSettings(format="json"), stream=second):
        opened.close()  # of no effect any more
        log.info("x")
    assert not first.getvalue() and second.getvalue()
    assert logging.getLogger().handlers == root_before


def test_threads_do_not_mix_their_lines(tmp_path):
    path, threads, n = tmp_path / "log", 8, 300
    with path.open("w") as stream, open_logs(LogSettings(format="json"), stream=stream):

        def say(number):
            for index in range(n):
                log.info("%d %d %s", number, index, "ä\n" * (index % 60))

        workers = [
            threading.Thread(target=say, args=(number,), name=f"w{number}") for number in range(threads)
        ]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
    told = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len(told) == threads * n
    for number in range(threads):
        own = [each["message"].split()[1] for each in told if each["thread"] == f"w{number}"]
        assert own == [str(index) for index in range(n)]


# ---- the journal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    """A file object onto a pipe, and what was written to it."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    stream = os.fdopen(write, "w")
    yield stream, lambda: os.read(read, 1 << 20).decode()
    os.close(read)
    with contextlib.suppress(OSError):
        stream.close()


def identity(stream):
    there = os.fstat(stream.fileno())
    return f"{there.st_dev}:{there.st_ino}"


def test_the_journal_gets_priorities_in_place_of_times(pipe):
    stream, written = pipe
    with open_logs(LogSettings(level="debug"), stream=stream, journal_stream=identity(stream)):
        for each in ("debug", "info", "warning", "error", "critical"):
            getattr(log, each)("x")
        fail("a\nb")
    lines = written().splitlines()
    assert lines[:5] == ["<7>x", "<6>x", "<4>x", "<3>x", "<2>x"]
    assert lines[5] == "<3>camera work" and all(line.startswith("<3>  ") for line in lines[6:])


def test_the_journal_gets_json_with_priorities(pipe):
    stream, written = pipe
    with open_logs(LogSettings(format="json"), stream=stream, journal_stream=identity(stream)):
        log.warning("x")
    line = written()
    assert line.startswith("<4>{") and json.loads(line[3:])["message"] == "x"


@pytest.mark.parametrize("given", ["", "1:2", "x:y", ":", "99999999999999999999:1"], ids=range(5))
def test_what_is_not_the_journal_gets_times(pipe, given):
    stream, written = pipe
    with open_logs(LogSettings(), stream=stream, journal_stream=given):
        log.info("x")
    assert "INFO x" in written()


# ---- who does not read ------------------------------------------------------------------------------------------


def timed(do):
    began_s = time.monotonic()
    do()
    return time.monotonic() - began_s


def test_a_reader_who_is_gone_costs_lines_and_nothing_else(capsys):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream, open_logs(LogSettings(), stream=stream):
        for _ in range(100):
            log.error("x")
    assert capsys.readouterr() == ("", "")


def test_a_stream_that_was_closed_costs_nothing():
    stream = Path(os.devnull).open("w")  # noqa: SIM115
    with open_logs(LogSettings(), stream=stream):
        stream.close()
        log.error("x")


def test_no_standard_error_at_all_costs_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with open_logs(LogSettings()):
        log.error("x")


def filled(stream):
    """Write until nothing fits any more; how many bytes."""
    fd, n = stream.fileno(), 0
    os.set_blocking(fd, False)
    for size in (4096, 1):
        try:
            while True:
                n += os.write(fd, b"." * size)
        except BlockingIOError:
            pass
    os.set_blocking(fd, True)
    return n


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_reader_who_does_not_read_holds_nobody_up_for_long(kind):
    if kind == "pipe":
        read, write = os.pipe()
    else:  # as the journal's
        one, other = socket.socketpair()
        read, write = one.detach(), other.detach()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "w") as stream:
        n = filled(stream)
        with open_logs(LogSettings(), stream=stream):
            first_s = timed(lambda: log.error("lost %s", "x" * 3000))
            more_s = timed(lambda: [log.error("lost %s", "x" * 3000) for _ in range(200)])
            left = n
            while left:
                left -= len(reader.read(left))
            log.error("heard")
            os.set_blocking(read, False)
            text = reader.read(1 << 20).decode()
    assert first_s >= STUCK_S * 0.9
    assert more_s < 20  # 200 waits of half a second are 100 s
    assert re.search(r"\b201 records of the log were lost", text)
    assert text.endswith("ERROR heard\n") and "lost xxx" not in text


def test_a_line_that_was_torn_is_ended_before_the_next():
    read, write = os.pipe()
    with os.fdopen(read, "rb", buffering=0) as reader, os.fdopen(write, "w") as stream:
        n = filled(stream)
        reader.read(4096)  # room for the beginning of what follows
        with open_logs(LogSettings(format="json"), stream=stream):
            log.error("%s", "é" * 4000)  # 24,000 bytes
            left = n - 4096
            while left:
                left -= len(reader.read(left))
            log.error("heard")
            os.set_blocking(read, False)
            lines = reader.read(1 << 20).decode().splitlines()
    with pytest.raises(ValueError):
        json.loads(lines[0])
    assert [json.loads(line)["message"] for line in lines[1:] if line][-1] == "heard"
