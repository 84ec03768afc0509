"""A part of a bench in a process of its own, so that nothing that ran before it shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from edgeai.errors import EdgeError

ALONE_S: Final = 300.0
# -I and a path that is given: a file in the working folder must not take the place of a library
_START: Final = (
    "import json,sys; sys.path[:] = json.loads(sys.argv.pop(1)); from {module} import main; sys.exit(main())"
)


def python_command(module: str, *arguments: str) -> list[str]:
    """What runs `main()` of a module in another process with this one's path, sys.argv its name and the arguments."""
    return [sys.executable, "-I", "-c", _START.format(module=module), json.dumps(sys.path), *arguments]


def run_alone(module: str, asked: Mapping[str, Any], *, timeout_s: float = ALONE_S) -> Any:
    """What `main()` of a module prints as JSON on its last line, asked with one JSON argument.

    Raises EdgeError where it fails or takes longer than timeout_s.
    """
    command = python_command(module, json.dumps(dict(asked)))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise EdgeError(f"{module} took longer than {timeout_s:g} s") from None
    if done.returncode:
        raise EdgeError(f"{module} ended with code {done.returncode}: {last_line(done.stderr.splitlines())}")
    return json.loads(done.stdout.splitlines()[-1])


def last_line(lines: Sequence[str]) -> str:
    """The last that is not empty, for a message."""
    return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "it said nothing")
