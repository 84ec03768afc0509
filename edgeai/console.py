"""How every command of the project talks: one line for an error, one JSON line for machines, tables for people."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from edgeai.errors import EdgeError

if TYPE_CHECKING:
    import typer
    from rich.progress import Progress


_INTERRUPTED = 130  # as shells have it: 128 and the signal's number


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output, flushed, so that a pipe sees it at once."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal that is not UTF-8, or a file name that is no text
        text = json.dumps(value, separators=(", ", ": "))
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", to_stderr: bool = False
) -> None:
    """A table for people, as wide as the terminal, 80 columns where there is none."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    out = sys.stderr if to_stderr else sys.stdout
    console = Console(file=out, width=None if out.isatty() else 80)
    if title:  # as wide as the terminal; a title of the table's would be folded at the table's width
        console.print(escape(title), highlight=False)
    if rows:
        console.print(table)


def print_note(text: str) -> None:
    """A line about what is going on, on standard error, so that standard output stays machine-readable."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress_bar(description: str, total: int | None) -> Iterator[Any]:
    """A bar with time left on standard error; yields `advance(n=1, note="")`.

    Where standard error is no terminal a line is printed at each tenth instead, so that logs stay short.
    """
    if not sys.stderr.isatty():
        yield _LineProgress(description, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    bar: Progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(description, total=total, note="")

        def advance(n: int = 1, note: str | None = None) -> None:
            bar.advance(task, n)
            if note is not None:
                bar.update(task, note=note)

        yield advance


class _LineProgress:
    def __init__(self, description: str, total: int | None) -> None:
        self._description = description
        self._total = total
        self._done = 0
        self._tenth = 0

    def __call__(self, n: int = 1, note: str | None = None) -> None:
        self._done += n
        if not self._total:
            return
        tenth = 10 * self._done // self._total
        if tenth > self._tenth:
            self._tenth = tenth
            print_note(f"{self._description}: {10 * tenth}%" + (f" ({note})" if note else ""))


def run_app(app: typer.Typer, *, program: str) -> int:
    """Run a typer app; the process's exit code.

    An EdgeError, a wrong argument, Ctrl-C and a closed pipe each end in one line at most, never in a traceback.
    EDGEAI_TRACEBACK=1 shows the traceback of an EdgeError too, for people who mend the code.
    """
    import typer

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # a test's stand-in, or closed
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # Newer typers carry a click of their own, older ones need the package: BadParameter's bases,
    # UsageError and ClickException, are the right classes for both.
    click_error: Any = typer.BadParameter.__mro__[2]
    try:
        code = _call(app, program)
        with contextlib.suppress(AttributeError):
            sys.stdout.flush()  # what cannot be written shows here, and not in a traceback at the very end
        if code == _INTERRUPTED:  # newer typers make a code of Ctrl-C, earlier ones let it through
            print_note(f"{program}: stopped")
        return code
    except typer.Abort:
        print_note(f"{program}: stopped")
        return _INTERRUPTED
    except click_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help text
            print_note(error.format_message())
            return 2
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context is not None else ""
        return _fail(program, error.format_message() + hint, 2)
    except KeyboardInterrupt:
        print_note(f"{program}: stopped")
        return _INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()  # the reader (head, less) went away: no fault of ours, and nothing more can be written
        return 0
    except Exception as error:
        if os.environ.get("EDGEAI_TRACEBACK") == "1":
            raise
        if isinstance(error, EdgeError):
            return _fail(program, str(error), error.exit_code)
        if isinstance(error, OSError):
            where = f"{error.filename}: " if error.filename else ""
            return _fail(program, f"{where}{error.strerror or error}", 1)
        what = f"a fault of this program, {type(error).__name__}: {error}"
        return _fail(program, f"{what}; please report it, with what EDGEAI_TRACEBACK=1 shows", 70)


def _call(app: typer.Typer, program: str) -> int:
    try:
        code = app(prog_name=program, standalone_mode=False)
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # click's own answer to a closed pipe
            raise BrokenPipeError from None
        raise
    return code if isinstance(code, int) else 0


def _fail(program: str, message: str, code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # a full disk
        _silence_stdout()
    print_note(f"{program}: error: {' '.join(message.split())}")
    return code


def _silence_stdout() -> None:
    """Let the interpreter's last flush go nowhere."""
    with contextlib.suppress(AttributeError, OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
