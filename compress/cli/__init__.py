"""The `edgeai-compress` command. TensorFlow is imported when a command trains or converts, not before."""

from __future__ import annotations

import sys


def main() -> int:
    """Entry point; returns the process's exit code."""
    if sys.argv[1:] == ["--version"]:
        from edgeai import __version__

        print(f"edgeai-compress {__version__}")
        return 0
    from compress.cli.commands import app
    from edgeai.console import run_app

    return run_app(app, program="edgeai-compress")
