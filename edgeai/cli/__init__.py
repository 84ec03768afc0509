"""The `edgeai` command. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys


def main() -> int:
    """Entry point; returns the process's exit code."""
    if sys.argv[1:] == ["--version"]:  # the one answer that must not wait for anything
        from edgeai import __version__

        print(f"edgeai {__version__}")
        return 0
    from edgeai.cli.commands import app
    from edgeai.console import run_app

    return run_app(app, program="edgeai")
