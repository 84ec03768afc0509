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


def print_json(value: Any) -> None:
    """One JSON value on one line of standard output, flushed, so that a pipe sees it at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")) + "\n")
    sys.stdout.flush()


def print_table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """A table for people, at most 80 columns wide on a narrow terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, box=SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    width = None if sys.stdout.isatty() else 80
    Console(width=width).print(table)


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

    # Newer typers carry a click of their own, older ones need the package: BadParameter's bases,
    # UsageError and ClickException, are the right classes for both.
    click_error: Any = typer.BadParameter.__mro__[2]
    try:
        code = app(prog_name=program, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except typer.Abort:
        print_note(f"{program}: stopped")
        return 130
    except click_error as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the whole help text
            print_note(error.format_message())
            return 2
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context is not None else ""
        print_note(f"{program}: error: {' '.join(error.format_message().split())}{hint}")
        return 2
    except EdgeError as error:
        if os.environ.get("EDGEAI_TRACEBACK") == "1":
            raise
        print_note(f"{program}: error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        print_note(f"{program}: stopped")
        return 130
    except BrokenPipeError:
        # the reader (head, less) went away: no fault of ours, and nothing more can be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
